"""Moving pretrained weights into a segmentation network, with an account of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import WeightsError


@dataclass(frozen=True)
class KeyReport:
    """State-dict keys of the target network: taken over, freshly initialised; and source keys without a place."""

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.loaded)} tensors taken over, {len(self.fresh)} new, {len(self.unused)} of the source unused"


def transfer_encoder(source: Mapping[str, Tensor], network: nn.Module) -> KeyReport:
    """Load the `encoder.` part of `source` (of a masked autoencoder or an nnFormer) into `network`.

    Raises `WeightsError` unless every encoder tensor of `network` is found with its shape: an encoder is taken over
    whole or not at all.
    """
    return transfer_matching(source, network, required="encoder.", only="encoder.")


def transfer_matching(
    source: Mapping[str, Tensor], network: nn.Module, *, required: str = "", only: str = "", fresh: tuple[str, ...] = ()
) -> KeyReport:
    """Load every tensor of `source` whose key starts with `only` and that `network` has.

    Keys under `required` must all be found, except those that start with one of `fresh`, which keep their new values
    (a re-made head, say). Raises `WeightsError` naming the keys, and changes nothing then.
    """
    own = network.state_dict()
    chosen = {k: v for k, v in source.items() if k in own and k.startswith(only) and not k.startswith(fresh)}
    wrong = [
        f"{k} {tuple(v.shape)} instead of {tuple(own[k].shape)}" for k, v in chosen.items() if v.shape != own[k].shape
    ]
    missing = [k for k in own if k.startswith(required) and k not in chosen and not k.startswith(fresh)]
    if wrong or missing or not chosen:
        problems = [*(f"missing {k}" for k in missing), *(f"shape of {w}" for w in wrong)] or ["no key in common"]
        listed = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise WeightsError(
            f"The weights do not fit the network: {listed}.",
            "Use the network settings that the weights were trained with.",
        )
    network.load_state_dict({**own, **chosen}, strict=True)
    return KeyReport(
        loaded=tuple(chosen),
        fresh=tuple(k for k in own if k not in chosen),
        unused=tuple(k for k in source if k not in chosen),
    )
