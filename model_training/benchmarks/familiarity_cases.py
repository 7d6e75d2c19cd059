"""The scans that the check of familiarity is tried on, in groups: of the model's kind, and of kinds it cannot know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from scipy import ndimage

from MAESegmentLib.images.orientation import Reordering
from MAESegmentLib.images.reading import read_label_map, read_volume
from MAESegmentLib.images.volume import Volume

from .report import KNOWN, STRANGE

#: Beside the groups that must pass and those that must be told apart: one without a goal.
SHOWN = "shown"
#: Scans of a group at most.
MOST = 12
#: Of a hippocampus crop, voxels of 1 mm.
CROP = np.array([35, 50, 36])


@dataclass(frozen=True)
class Scan:
    """One scan of a group; `load` reads it."""

    group: str
    kind: str
    name: str
    load: Callable[[], Volume]


def scans_of(model: str, data: Path) -> Iterator[Scan]:
    """Every scan that `model` (a shipped one) is tried on; `data` is the folder of the data sets."""
    ct = model == "headneck-ct"
    own = data / ("headneck_ct" if ct else "hippocampus_mr")
    validation = _split(own, "validation")
    for name in validation:
        yield Scan("validation", KNOWN, name, _reader(own, name))
    yield from _regions(own, validation, ct)
    yield from _other_anatomies(data, ct)
    for number, name in enumerate(validation[:MOST]):
        yield from (scan for scan in _altered(own, name, ct) if number < MOST // 2 or scan.kind != SHOWN)


def _other_anatomies(data: Path, ct: bool) -> Iterator[Scan]:
    other = data / ("hippocampus_mr" if ct else "headneck_ct")
    count = MOST if ct else MOST // 3  # whole CTs on a grid of 1 mm take long
    for name in _split(other, "validation")[:count]:
        yield Scan("hippocampus MR" if ct else "head and neck CT", STRANGE, name, _reader(other, name))
    for name in _split(data / "headneck_ct", "validation")[: MOST if ct else 0]:
        yield Scan("lowest 9 cm", SHOWN, name, _then(_lowest, _reader(data / "headneck_ct", name)))
    for name in islice(_split(data / "atrium_mr", "validation"), MOST):
        yield Scan("atrium MR", STRANGE, name, _reader(data / "atrium_mr", name))
    for file in sorted((data / "cardiac_mr" / "images").glob("*.nii.gz"))[: 2 * MOST : 2]:
        yield Scan("heart MR", STRANGE, file.name, partial(read_volume, file))
    heads = sorted((data / "brain_mr" / "images").glob("*.nii.gz"))
    for file in heads:
        yield Scan("whole head MR", STRANGE, file.name, partial(read_volume, file))
    if ct:
        for seed in range(MOST // 2):
            yield Scan("trunk CT, drawn", STRANGE, str(seed), partial(trunk, data / "shapes" / "body", seed))
        return
    for file in heads:
        for part in ("left", "right"):
            name = f"{file.name} {part}"
            yield Scan("hippocampus, other scanner", KNOWN, name, partial(_brain_crop, file, part))
        for number in range(2):
            name = f"{file.name} {number}"
            yield Scan("elsewhere in the brain", SHOWN, name, partial(_brain_crop, file, number))
    for name in _split(other, "validation")[:MOST]:
        yield Scan("crop of a CT", STRANGE, name, _then(_middle, _reader(other, name)))


def _regions(folder: Path, names: list[str], ct: bool) -> Iterator[Scan]:
    """Boxes drawn by hand about the structures, some wider and some narrower."""
    for number, name in enumerate(names[:MOST]):

        def load(name: str = name, number: int = number) -> Volume:
            volume = read_volume(folder / "images" / f"{name}.nii.gz")
            labels = read_label_map(folder / "labels" / f"{name}.nii.gz").array
            places = np.argwhere(labels > 0)
            margin = np.random.default_rng(number).uniform(0.3, 1.0, 3) * (40.0 if ct else 10.0)
            voxels = np.rint(margin / volume.grid.spacing).astype(int)
            return _box(volume, places.min(axis=0) - voxels, places.max(axis=0) + 1 + voxels)

        yield Scan("region about the structures", KNOWN, name, load)


def _altered(folder: Path, name: str, ct: bool) -> Iterator[Scan]:
    """The same scan, spoilt. The scale of an MR means nothing, so there it must pass."""
    scale = STRANGE if ct else KNOWN
    changes: dict[str, tuple[str, Callable[[Volume], Volume]]] = {
        "scaled to 0..1": (scale, lambda v: _changed(v, _unit)),
        "scaled to 0..255": (scale, lambda v: _changed(v, lambda a: np.rint(255 * _unit(a)))),
        "offset by +1024": (scale, lambda v: _changed(v, lambda a: a + 1024)),
        "noise": (STRANGE, lambda v: _changed(v, _noise)),
        "constant": (STRANGE, lambda v: _changed(v, lambda a: np.full_like(a, np.median(a)))),
        "inverted": (STRANGE, lambda v: _changed(v, lambda a: a.max() + a.min() - a)),
        "blurred, 2 voxels": (SHOWN, lambda v: _changed(v, lambda a: ndimage.gaussian_filter(a, (0, 2, 2, 2)))),
        "bias field": (SHOWN, lambda v: _changed(v, _bias)),
        "left and right exchanged": (SHOWN, lambda v: _changed(v, lambda a: np.flip(a, 1))),
        "front and back exchanged": (SHOWN, lambda v: _changed(v, lambda a: np.flip(a, 2))),
        "top and bottom exchanged": (SHOWN, lambda v: _changed(v, lambda a: np.flip(a, 3))),
        "turned, axial": (SHOWN, lambda v: _turned(v, (1, 2))),
        "turned, sagittal": (SHOWN, lambda v: _turned(v, (2, 3))),
        "turned, coronal": (SHOWN, lambda v: _turned(v, (1, 3))),
    }
    for group, (kind, change) in changes.items():
        yield Scan(group, kind, name, _then(change, _then(_canonical, _reader(folder, name))))


def trunk(folder: Path, seed: int) -> Volume:
    """A CT of a trunk, drawn from a label map: HU by tissue, another patient and another noise for every seed."""
    random = np.random.default_rng(seed)
    values = json.loads((folder / "labels.json").read_text())["labels"]
    label_map = read_label_map(folder / "totalsegmentator_example.nii.gz")
    labels = label_map.array
    body = ndimage.binary_fill_holes(ndimage.binary_closing(labels > 0, iterations=8))
    image = np.where(body, random.normal(-95, 5), -1000.0)
    inner = ndimage.binary_erosion(body, iterations=4)
    image[inner] = random.normal(55, 5)  # muscle and what has no label
    image[inner & (ndimage.gaussian_filter(random.normal(size=labels.shape), 3) > 0.06)] = -95
    for name, value in values.items():
        image[labels == value] = _hu(name, random)
    image = ndimage.gaussian_filter(image, 0.6) + random.normal(0, random.uniform(8, 20), image.shape)
    return Volume(image[None].astype(np.float32), label_map.ijk_to_ras)


def _hu(structure: str, random: np.random.Generator) -> float:
    for words, mean, spread in (
        (("lung",), -820, 30),
        (("trachea",), -950, 20),
        (
            ("vertebrae", "rib", "sacrum", "sternum", "hip", "scapula", "femur", "humerus", "clavicula", "costal"),
            330,
            60,
        ),
        (("colon", "stomach", "small_bowel", "duodenum"), 10, 40),
        (("artery", "aorta", "vein", "vena", "heart", "atrial", "atrium"), 130, 50),
        (("liver", "spleen", "kidney", "pancreas"), 90, 20),
    ):
        if any(word in structure for word in words):
            return float(random.normal(mean, spread))
    return float(random.normal(50, 10))


def _split(folder: Path, name: str) -> list[str]:
    names: list[str] = json.loads((folder / "dataset.json").read_text())["splits"][name]
    return names


def _reader(folder: Path, name: str) -> Callable[[], Volume]:
    return partial(read_volume, folder / "images" / f"{name}.nii.gz")


def _then(change: Callable[[Volume], Volume], load: Callable[[], Volume]) -> Callable[[], Volume]:
    return lambda: change(load())


def _box(volume: Volume, low: np.ndarray, high: np.ndarray) -> Volume:
    low, high = np.maximum(low, 0), np.minimum(high, volume.grid.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return volume.crop((i, j, k))


def _brain_crop(file: Path, part: str | int) -> Volume:
    """About the left or right hippocampus of a whole head, or a random place at least 35 mm from both."""
    volume, labels = read_volume(file), read_label_map(file.parents[1] / "labels" / file.name).array
    sides = {"left": 22, "right": 23}
    centres = {side: np.argwhere(labels == value).mean(axis=0) for side, value in sides.items()}
    random = np.random.default_rng([*file.name.encode(), part if isinstance(part, int) else 9])
    if isinstance(part, str):
        centre = centres[part] + random.integers(-3, 4, 3)
    else:
        inside = np.argwhere(labels > 0)
        far = np.min([np.linalg.norm(inside - centre, axis=1) for centre in centres.values()], axis=0) > 35
        centre = random.choice(inside[far])
    low = np.clip(np.rint(centre - CROP / 2).astype(int), 0, np.array(labels.shape) - CROP)
    return _box(volume, low, low + CROP)


def _middle(volume: Volume) -> Volume:
    """A box of the size of a hippocampus crop in the middle of a scan."""
    half = np.rint(CROP / volume.grid.spacing / 2).astype(int)
    centre = np.array(volume.grid.shape) // 2
    return _box(volume, centre - half, centre + half)


def _lowest(volume: Volume, length: float = 90.0) -> Volume:
    """The lowest slab of a scan: shoulders and upper chest."""
    volume = _canonical(volume)
    count = round(length / float(volume.grid.spacing[2]))
    return _box(volume, np.zeros(3, int), np.array([*volume.grid.shape[:2], count]))


def _canonical(volume: Volume) -> Volume:
    """Axes R, A, S, so that those that are flipped and turned have names."""
    reordering = Reordering.to("RAS", volume.ijk_to_ras)
    matrix = volume.ijk_to_ras @ reordering.indices(volume.grid.shape)
    return Volume(np.ascontiguousarray(reordering.apply(volume.array)), matrix)


def _changed(volume: Volume, change: Callable[[np.ndarray], np.ndarray]) -> Volume:
    array = np.ascontiguousarray(change(volume.array.astype(np.float32)), dtype=np.float32)
    return Volume(array, volume.ijk_to_ras)


def _turned(volume: Volume, axes: tuple[int, int]) -> Volume:
    """By 90 degrees without telling the header, as when axes were mixed up; voxels keep their edges' lengths."""
    one, other = (axis - 1 for axis in axes)
    matrix = volume.ijk_to_ras.copy()
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    matrix[:3, one] *= lengths[other] / lengths[one]
    matrix[:3, other] *= lengths[one] / lengths[other]
    return Volume(np.ascontiguousarray(np.rot90(volume.array, 1, axes=axes)), matrix)


def _unit(array: np.ndarray) -> np.ndarray:
    low, high = np.percentile(array, (0.1, 99.9))
    result: np.ndarray = (np.clip(array, low, high) - low) / max(high - low, 1e-6)
    return result


def _noise(array: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).normal(array.mean(), array.std(), array.shape)


def _bias(array: np.ndarray) -> np.ndarray:
    ramps = np.meshgrid(*[np.linspace(-1, 1, n) for n in array.shape[1:]], indexing="ij")
    direction = np.random.default_rng(0).normal(size=3)
    field = sum(weight * ramp for weight, ramp in zip(direction / np.linalg.norm(direction), ramps, strict=True))
    result: np.ndarray = array * np.exp(0.4 * field)
    return result
