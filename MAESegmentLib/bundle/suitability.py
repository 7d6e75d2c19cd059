"""Whether a model can fit a scan: what the scan is, against what the model was trained on. numpy only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BundleError, MismatchError
from ..images.orientation import Reordering
from ..images.roi import Roi
from ..images.volume import Grid, Volume
from ..preprocessing.grey_values import GreyValues, describe_grey_values
from ..preprocessing.intensity import IntensityRecipe
from ..translation import tr as _
from .training_statistics import EXTENT_TOLERANCE, FORMAT, FamiliarityStatistics, about_grey_values

if TYPE_CHECKING:
    from .folder import Bundle

#: Grey values so many times beyond what is familiar are of another kind of scan. Measured with the models that ship:
#: 196 CTs 0.14 to 1.56 for the model of CT and 2.1 to 5.9 for that of MR; 299 T1 scans 0.07 to 0.84 for the model of
#: MR and 3.6 to 12.2 for that of CT. Of whole scans: those of a box around a structure do not tell CT from MR.
LIMIT = 2.0
#: Where the lowest grey values are this, or lower, the scan is in HU: it has air.
_AIR_HU = -800.0
#: How DICOM and people call the kinds of scan that have grey values of their own.
_KINDS = {
    "CT": "CT",
    "CBCT": "CT",
    "MR": "MR",
    "MRI": "MR",
    "PT": "PT",
    "PET": "PT",
    "NM": "NM",
    "US": "US",
    "XA": "XA",
}


@dataclass(frozen=True, eq=False)
class ScanFacts:
    """What decides which model fits: `channels` are arrays of one grid, `modality` what DICOM says ("" for files)."""

    channels: Sequence[np.ndarray] | np.ndarray
    grid: Grid
    modality: str = ""

    @classmethod
    def of(cls, volume: Volume) -> ScanFacts:
        modality = getattr(getattr(volume.source, "identity", None), "modality", "")
        return cls(volume.array, volume.grid, str(modality))


def check_scan(bundle: Bundle, scan: ScanFacts, *, allowed: bool = False, hint: str = "") -> tuple[str, ...]:
    """Raise `MismatchError` if `bundle` cannot fit `scan`; `hint` says how to go on all the same. If that is `allowed`,
    return what to warn of with the result."""
    reason = mismatch(bundle, scan)
    if reason and not allowed:
        advice = _("Choose a model that was trained on such scans.")
        raise MismatchError(reason, f"{advice} {hint}".strip())
    text = _("The scan does not look like what the model was trained on: {reason} Segmented all the same.")
    return (text.format(reason=reason),) if reason else ()


def mismatch(bundle: Bundle, scan: ScanFacts) -> str:
    """Why `bundle` cannot fit `scan`, in a sentence; "" if it may. What DICOM says decides, else the grey values."""
    if can_fit(bundle, scan):
        return ""
    modality = str(bundle.metadata["maesegment"]["modality"])
    if kind_of(scan.modality) and _kinds_of(bundle):
        text = _("This scan is {kind}; {model} was trained on {modality}.")
        return text.format(kind=kind_of(scan.modality), model=bundle.name, modality=modality)
    found = _compared(bundle, scan)
    if found is None:
        text = _("The grey values of this scan look like HU, as those of CT; {model} was trained on {modality}.")
        return text.format(model=bundle.name, modality=modality)
    text = _("This scan is nothing like the {modality} scans that {model} was trained on: {reason}.")
    if modality == "unknown":
        text = _("This scan is nothing like the scans that {model} was trained on: {reason}.")
    return text.format(modality=modality, model=bundle.name, reason=about_grey_values(*found))


def can_fit(bundle: Bundle, scan: ScanFacts) -> bool:
    """Whether nothing says that `bundle` cannot fit `scan`."""
    kind, kinds = kind_of(scan.modality), _kinds_of(bundle)
    if kind and kinds:
        return kind in kinds
    far = excess(bundle, scan)
    return not (kinds and "CT" not in kinds and _is_hu(bundle, scan)) if far is None else far <= LIMIT


def excess(bundle: Bundle, scan: ScanFacts) -> float | None:
    """How far the grey values are from the training scans', 1 is the limit of what is familiar; None if unknown."""
    found = _compared(bundle, scan)
    return found[0].excess_of(found[1]) if found is not None else None


def unlike_cases(bundle: Bundle, cases: Sequence[GreyValues]) -> str:
    """What to say of a fine-tuning of `bundle` on cases of such grey values; "" if they are like its training scans."""
    statistics = _statistics_of(bundle)
    if statistics is None:
        return ""
    size = len(statistics.grey.mean)
    count = sum(len(one.description) == size and statistics.excess_of(one) > LIMIT for one in cases)
    text = _("{count} of {all} cases are nothing like the {modality} scans that {model} was trained on.")
    modality = bundle.metadata["maesegment"]["modality"]
    return text.format(count=count, all=len(cases), modality=modality, model=bundle.name) if count else ""


def best_fit(bundles: Iterable[Bundle], scan: ScanFacts) -> Bundle | None:
    """The one of `bundles` that `scan` resembles most; the first of equals; None if none can fit."""
    found = [(excess(bundle, scan), bundle) for bundle in bundles if can_fit(bundle, scan)]
    return min(found, key=lambda one: LIMIT if one[0] is None else one[0], default=(None, None))[1]


def kind_of(modality: str) -> str:
    """What a DICOM modality says of the grey values; "" if nothing (OT, SC, ...)."""
    return _KINDS.get(modality.strip().upper(), "")


def wants_box(bundle: Bundle) -> bool:
    """Whether the model's author asks for a box around the structure."""
    return re.search(r"\b(box|ROI)\b", str(bundle.metadata.get("intended_use", ""))) is not None


def lacks_box(bundle: Bundle, grid: Grid, roi: Roi | None) -> str:
    """What to say if the model wants a box and is to search something much larger; else ""."""
    statistics = _statistics_of(bundle)
    if bundle.locator is not None and bundle.locator.largest_mm is not None:
        extent = np.array(bundle.locator.largest_mm)
    elif statistics is not None and (bundle.locator or wants_box(bundle)):
        extent = np.array(statistics.extent_mm)
    else:
        return ""
    orientation = bundle.metadata["maesegment"]["preprocessing"]["orientation"]
    axes = Reordering.to(orientation, grid.ijk_to_ras).axes
    size = (np.array(grid.shape) * grid.spacing)[[*axes]]
    if roi is not None:
        world = Reordering.to(orientation, np.eye(4)).axes
        size = np.minimum(size, np.subtract(roi.maximum, roi.minimum)[[*world]])
    if (size <= EXTENT_TOLERANCE * extent).all():
        return ""
    text = _("{model} is made for a box around the structure, of {largest} mm at most; this is {size} mm.")
    return text.format(model=bundle.name, largest=_millimetres(extent), size=_millimetres(size))


@dataclass(frozen=True)
class BoxPlacing:
    """How a model that wants a box and was given none goes on: with what `locator` finds, or without, as `lacking`
    says. Neither where no box is missing."""

    locator: Bundle | None = None
    lacking: str = ""


def box_placing(bundle: Bundle, grid: Grid, roi: Roi | None, meant: Callable[[str], Bundle | None]) -> BoxPlacing:
    """`meant` is what the name of a model stands for; None if there is none."""
    lacking = lacks_box(bundle, grid, roi)
    if not lacking or bundle.locator is None or roi is not None:
        return BoxPlacing(lacking=lacking)
    locator, reason = locator_among(bundle, meant)
    return BoxPlacing(locator) if locator is not None else BoxPlacing(lacking=f"{lacking} {reason}")


def locator_among(bundle: Bundle, meant: Callable[[str], Bundle | None]) -> tuple[Bundle | None, str]:
    """The model that places the boxes of `bundle`, or why none can; neither if `bundle` names none."""
    wanted = bundle.locator
    if wanted is None:
        return None, ""
    found = meant(wanted.model)
    if found is None:
        return None, _("{locator} would place it, but is not installed.").format(locator=wanted.model)
    known = {label.name for label in found.labels}
    missing = [name for box in wanted.boxes for name in box.structures if name not in known]
    if missing or len(found.channels) != len(bundle.channels):
        what = ", ".join(missing) or _("scans of {count} channels").format(count=len(bundle.channels))
        text = _("{locator} {version} would place it, but does not know {what}.")
        return None, text.format(locator=found.name, version=found.version, what=what)
    return found, ""


def _compared(
    bundle: Bundle, scan: ScanFacts
) -> tuple[FamiliarityStatistics, GreyValues, Sequence[np.ndarray] | np.ndarray, IntensityRecipe] | None:
    """What `about_grey_values` takes; None if the two cannot be compared."""
    own, statistics = bundle.metadata["maesegment"], _statistics_of(bundle)
    if statistics is None or len(scan.channels) != len(own["channels"]):
        return None
    recipe = IntensityRecipe(**own["preprocessing"]["intensity"])
    grey = describe_grey_values(scan.channels, recipe)
    if grey.is_blank or len(grey.description) != len(statistics.grey.mean):
        return None
    return statistics, grey, scan.channels, recipe


def _is_hu(bundle: Bundle, scan: ScanFacts) -> bool:
    """Whether the grey values begin with the air of CT, where other scans have none but by an offset."""
    if len(scan.channels) != len(bundle.channels):
        return False
    low, high = describe_grey_values(scan.channels, IntensityRecipe("zscore")).span
    return low <= _AIR_HU < 0 < high


def _statistics_of(bundle: Bundle) -> FamiliarityStatistics | None:
    stored: Any = bundle.metadata["maesegment"].get("familiarity")
    if not stored or stored.get("format") != FORMAT:
        return None
    try:
        return FamiliarityStatistics.from_dict(stored)
    except BundleError:  # whoever loads the model says so
        return None


def _kinds_of(bundle: Bundle) -> set[str]:
    """Of "PET/CT" two; of a modality in words that say nothing here, none."""
    words = re.split(r"[^A-Z0-9]+", str(bundle.metadata["maesegment"]["modality"]).upper())
    return {_KINDS[word] for word in words if word in _KINDS}


def _millimetres(lengths: Iterable[float]) -> str:
    return " x ".join(f"{length:.0f}" for length in lengths)
