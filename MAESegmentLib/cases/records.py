"""What is known of a stored case without opening its images: the content of its `case.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import DatasetError

TRAIN = "train"
#: Cases of this role are never trained on: they tell how good a model is.
CHECK = "check"
ROLES = (TRAIN, CHECK)
#: Voxel value of what was not annotated; training leaves it out.
IGNORE = 255


@dataclass(frozen=True)
class CaseRecord:
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
    region: tuple[float, ...] | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CaseRecord:
        """`DatasetError` if it is no description of a case."""
        try:
            role = str(data["role"])
            if role not in ROLES:
                raise ValueError(f"there is no role {role!r}")
            i, j, k = (int(n) for n in data["shape"])
            x, y, z = (float(mm) for mm in data["spacing"])
            model, region = data.get("model"), data.get("region")
            return cls(
                id=str(data["id"]),
                role=role,
                group=str(data["group"]),
                labels=tuple(str(name) for name in data["labels"]),
                unknown=tuple(str(name) for name in data["unknown"]),
                partial=bool(data["partial"]),
                volumes_ml={str(name): float(ml) for name, ml in data["volumes_ml"].items()},
                channels=int(data["channels"]),
                shape=(i, j, k),
                spacing=(x, y, z),
                image_hash=str(data["image_hash"]),
                label_hash=str(data["label_hash"]),
                model={str(key): str(value) for key, value in model.items()} if model else None,
                added=str(data.get("added", "")),
                revision=int(data.get("revision", 1)),
                region=tuple(float(bound) for bound in region) if region else None,
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise DatasetError(
                f"The description of the case is damaged: {what}.", "Remove the case, add it again."
            ) from None


def same_size(shape: Sequence[int], records: Iterable[CaseRecord]) -> list[CaseRecord]:
    """Those with an image of this shape (C, I, J, K): only they can be the same image."""
    return [record for record in records if (record.channels, *record.shape) == tuple(shape)]
