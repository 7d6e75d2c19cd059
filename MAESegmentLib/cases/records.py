"""What is known of a stored case without opening its images: the content of its `case.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError, DatasetError
from ..values import Stored

TRAIN = "train"
#: Validation cases: never trained on, they show how good a model is.
CHECK = "check"
ROLES = (TRAIN, CHECK)
#: What users read and write for `CHECK`.
VALIDATION = "validation"
#: Voxel value of what was not annotated; training leaves it out.
IGNORE = 255


def role_name(role: str) -> str:
    """As users call it."""
    return VALIDATION if role == CHECK else role


def stored_role(name: str) -> str:
    """As stores hold it; `ConfigurationError` if there is no such role."""
    role = CHECK if name == VALIDATION else name
    if role not in ROLES:
        raise ConfigurationError(f"A case has no role {name!r}.", f"Choose one of: {TRAIN}, {VALIDATION}.")
    return role


@dataclass(frozen=True)
class CaseRecord(Stored):
    """One stored case; says nothing of whose it is or where it came from.

    `labels` are the names annotated here, also those that were looked for and are not there; `unknown` those of the
    store or the model that nobody looked for in this case. `partial`: whether voxels of value 255 exist.
    `shape` and `spacing` (mm) are along (I, J, K). `model` is {"name", "version", "hash"} of what was corrected.
    `region` is (R0, R1, A0, A1, S0, S1) in RAS mm if only that was annotated. `revision` counts the updates from 1.
    """

    id: str
    role: str
    group: str
    labels: tuple[str, ...]
    unknown: tuple[str, ...]
    partial: bool
    volumes_ml: Mapping[str, float]
    channels: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    image_hash: str
    label_hash: str
    model: Mapping[str, str] | None = None
    added: str = ""
    revision: int = 1
    region: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"there is no role {self.role!r}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CaseRecord:
        """`DatasetError` if it does not describe a case."""
        try:
            return super().from_dict(data)
        except ValueError as error:
            raise DatasetError(
                f"The description of the case is damaged: {error}.", "Remove the case, add it again."
            ) from None


def same_size(shape: Sequence[int], records: Iterable[CaseRecord]) -> list[CaseRecord]:
    """Those with an image of this shape (C, I, J, K): only they can be the same image."""
    return [record for record in records if (record.channels, *record.shape) == tuple(shape)]
