"""Make the training set of `brain-mr`, tissues to draw images from and labels to learn, out of SynthSeg's label maps.

    python model_training/recipes/brain-mr/tissues.py DATA/brain_labels OUT [--coarse]

OUT/images holds maps of tissues (one number a grey-value class, the same on both sides), OUT/labels what is learnt:
29 structures, or with `--coarse` the 11 that show where in a head one is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from MAESegmentLib.images import LabelMap, read_label_map, write_label_map
from MAESegmentLib.images.labels import Label

#: Learnt as a part of the ventricle that it opens into, as in the heads that the model is measured on.
MERGED = {"left inferior lateral ventricle": "left lateral ventricle"}
MERGED |= {name.replace("left", "right"): into.replace("left", "right") for name, into in MERGED.items()}
#: The parts of the cerebrum and of the cerebellum, by the ends of their names; all that is not named here is left out.
COARSE = dict.fromkeys(("white matter", "cortex", "caudate", "putamen", "pallidum", "amygdala", "area"), "cerebrum")
COARSE |= {name: name for name in ("brain-stem", "lateral ventricle", "thalamus", "hippocampus")}
#: Values from here on are outside the brain; a skull-stripping program takes them away.
OUTSIDE_THE_BRAIN = 200
#: Maps that are held out: images drawn from them show how well new anatomy is segmented.
HELD_OUT = 2


def main(source: Path, out: Path, *, coarse: bool) -> None:
    described = json.loads((source / "labels.json").read_text(encoding="utf-8"))["labels"]
    tissue_of, class_of, names, inner = tables(described, coarse=coarse)
    cases = []
    for path in sorted((source / "labels").glob("*.nii.gz")):
        label_map = read_label_map(path)
        for folder, table in (("images", tissue_of), ("labels", class_of)):
            (out / folder).mkdir(parents=True, exist_ok=True)
            found = LabelMap(table[label_map.array], label_map.ijk_to_ras)
            labels = [Label(int(n), str(n), (0, 0, 0)) for n in np.unique(found.array) if n]
            write_label_map(out / folder / path.name, found, labels)
        cases.append(path.name.removesuffix(".nii.gz"))
    content = {
        "name": "SynthSeg's training label maps",
        "labels": {"background": 0, **{name: n for n, name in enumerate(names, start=1)}},
        "splits": {"pool": cases[:-HELD_OUT], "held_out": cases[-HELD_OUT:]},
    }
    (out / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(f"{len(cases)} maps, {len(names)} labels, tissues of the brain: {sorted(inner)}")


def tables(described: list[dict[str, Any]], *, coarse: bool) -> tuple[np.ndarray, np.ndarray, list[str], set[int]]:
    """Value -> tissue and value -> label, uint8 (256,); the labels' names; the tissues that belong to the brain."""
    by_value = {entry["value"]: entry for entry in described}
    by_source = {entry["source"]: entry["name"] for entry in described}
    tissues: dict[int, int] = {}
    names: list[str] = []
    tissue_of, class_of, inner = np.zeros(256, np.uint8), np.zeros(256, np.uint8), set()
    for entry in described:
        value = entry["value"]
        if value == 0:
            continue
        both_sides = min(entry["class"], by_value[entry["mirror"]]["class"])
        tissue_of[value] = tissues.setdefault(both_sides, len(tissues) + 1)
        if value < OUTSIDE_THE_BRAIN:
            inner.add(int(tissue_of[value]))
        if entry["output"]:
            name = by_source[entry["output"]]
            name = _coarse(MERGED.get(name, name)) if coarse else MERGED.get(name, name)
            if not name:
                continue
            if name not in names:
                names.append(name)
            class_of[value] = names.index(name) + 1
    return tissue_of, class_of, names, inner


def _coarse(name: str) -> str:
    """What `name` is a part of, on its side; "" if it is left out."""
    side = next((side for side in ("left ", "right ") if name.startswith(side)), "")
    if "cerebellum" in name:
        return f"{side}cerebellum"
    return next((side + whole for end, whole in COARSE.items() if name.endswith(end)), "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), coarse="--coarse" in sys.argv[3:])
