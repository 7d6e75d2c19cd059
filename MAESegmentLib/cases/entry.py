"""What a person says about a case that is to be stored, and what is found when that is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ConfigurationError
from ..labels import Label
from .records import ROLES

#: Names that mean something else in a label map.
RESERVED_NAMES = ("background", "ignore")

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Entry:
    """The labels of one label map, and what else is to be known of the case.

    `labels` are named by their values in *this* label map; two values of one name are one label. A label without
    voxels counts as not annotated, unless `absent` says that it was looked for. `unknown` are labels that the model or
    the store has and nobody looked for here.

    An empty `role` or `group`, and a `region` of None, mean what the case had if this updates one (`replace`);
    otherwise "train", a group of its own, and the whole scan. `region` is (R0, R1, A0, A1, S0, S1) in RAS mm: what is
    outside was not annotated. An empty `region` is the whole scan in any case.
    """

    labels: tuple[Label, ...]
    unknown: tuple[str, ...] = ()
    role: str = ""
    group: str = ""
    model: Mapping[str, str] | None = None
    region: tuple[float, ...] | None = None
    replace: str = ""
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.role and self.role not in ROLES:
            raise ConfigurationError(f"A case has no role {self.role!r}.", f"Choose one of: {', '.join(ROLES)}.")
        if self.region and len(self.region) != 6:
            raise ConfigurationError(
                f"A region has six bounds, not {len(self.region)}.", "Give R0, R1, A0, A1, S0, S1 in mm."
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """`ConfigurationError` if it is no entry."""
        try:
            model, region = data.get("model"), data.get("region")
            return cls(
                labels=tuple(Label.from_dict(label) for label in data["labels"]),
                unknown=tuple(str(name) for name in data.get("unknown", ())),
                role=str(data.get("role", "")),
                group=str(data.get("group", "")),
                model={str(key): str(value) for key, value in model.items()} if model else None,
                region=None if region is None else tuple(float(bound) for bound in region),
                replace=str(data.get("replace", "")),
                absent=tuple(str(name) for name in data.get("absent", ())),
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"The case is not described completely: {error}.") from None


@dataclass(frozen=True)
class Finding:
    """`kind` is a word for programs, `severity` "error" (it cannot be stored) or "warning"; the rest is for people.

    `details` are for an offer to the person, e.g. {"case": "case-0001"} for the kind "duplicate".
    """

    kind: str
    severity: str
    message: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
