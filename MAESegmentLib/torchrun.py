"""Which of several processes this one is, as `torchrun` (or SLURM through it) says in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ConfigurationError


@dataclass(frozen=True)
class Launch:
    """Process `rank` of `world_size` in all; `local_rank` of `local_world_size` on this machine. All count from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Launch:
        """One process of one where nothing was launched; `ConfigurationError` if the variables make no sense."""
        names = {"rank": "RANK", "world_size": "WORLD_SIZE", "local_rank": "LOCAL_RANK"}
        names["local_world_size"] = "LOCAL_WORLD_SIZE"
        try:
            given = {name: int(environment[variable]) for name, variable in names.items() if variable in environment}
        except ValueError as error:
            raise ConfigurationError(f"The launcher's variables are not numbers: {error}.", _HINT) from error
        launch = cls(**given)
        if not (0 <= launch.rank < launch.world_size and 0 <= launch.local_rank < launch.local_world_size):
            raise ConfigurationError(
                f"The launcher says that this is process {launch.rank} of {launch.world_size} "
                f"({launch.local_rank} of {launch.local_world_size} here), counted from 0.",
                _HINT,
            )
        return launch

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks for all."""
        return self.rank == 0


_HINT = "Start with `torchrun --nproc-per-node N -m MAESegmentLib.cli ...`, or unset RANK and WORLD_SIZE."
