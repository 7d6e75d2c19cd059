"""Make a data set without the contours that are another organ's: they are taken out and marked as not annotated.

    python model_training/recipes/headneck-ct/contours.py DATA/headneck_ct/dataset7.json OUT

Of each structure, those of `pool` and `partial` with more than five times the median volume: of SpinalCord, four.
OUT has links to the images; `validation` stays as it is.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from MAESegmentLib.bundle.usage.sizes import outlying
from MAESegmentLib.cases.checks import read_reference
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volume import LabelMap
from MAESegmentLib.images.volumetry import volumes_ml
from MAESegmentLib.images.writing import write_label_map


def main(source: Path, out: Path) -> None:
    dataset = load_dataset(source)
    labels = [Label(value, name) for name, value in dataset.labels.items() if value]
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for case in dataset.select("pool,partial"):
        ml = volumes_ml(read_reference(case, dataset.labels), labels)
        for label in labels:
            if ml[label.value]:
                found[label.name][case.id] = ml[label.value]
    wrong: dict[str, list[str]] = defaultdict(list)
    for name, by_case in found.items():
        for number in outlying(list(by_case.values())):
            wrong[list(by_case)[number]].append(name)
            print(f"{list(by_case)[number]}: {name}, {list(by_case.values())[number]:.0f} ml")
    content = json.loads(source.read_text(encoding="utf-8"))
    by_id = {case.id: case for case in dataset.cases}
    for entry in content["cases"]:
        names = wrong.get(entry["id"], [])
        for path in (entry["image"], entry["label"]):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            if path == entry["image"] or not names:
                (out / path).unlink(missing_ok=True)
                (out / path).symlink_to((source.parent / path).resolve())
        if names:
            entry["unknown"] = sorted({*entry["unknown"], *names})
            reference = read_reference(by_id[entry["id"]], dataset.labels)
            taken = np.isin(reference.array, [dataset.labels[name] for name in names])
            kept = LabelMap(np.where(taken, 0, reference.array).astype(np.uint8), reference.ijk_to_ras)
            (out / entry["label"]).unlink(missing_ok=True)
            write_label_map(out / entry["label"], kept, labels)
    (out / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
