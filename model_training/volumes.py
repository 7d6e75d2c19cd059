"""Tell a model how large its structures are in the label maps that it learnt from: a new patch version.

    python -m model_training.volumes MODEL --data DATA [--split pool] --version 1.2.1 --out DIR

MODEL is a name or a bundle's folder; weights and labels stay as they are. `maesegment finetune` does the same at its
end, so that only a model made before needs this.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from MAESegmentLib.bundle import Bundle, ModelStore, open_bundle
from MAESegmentLib.bundle.usage.sizes import KEY, Volumes
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_reference
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.evaluation.cases import match_labels
from MAESegmentLib.images.labels import Label
from MAESegmentLib.images.volumetry import volumes_ml
from model_training import familiarity


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="name, name@version or folder")
    parser.add_argument("--data", type=Path, required=True, help="data set that the model was trained on")
    parser.add_argument("--split", default="pool", help="of the training cases (default: %(default)s)")
    parser.add_argument("--version", required=True, help="of the model that is written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model that is written")
    arguments = parser.parse_args()
    path = Path(arguments.model)
    bundle = open_bundle(path) if path.is_dir() else ModelStore().find(arguments.model)
    dataset = load_dataset(arguments.data)
    labels = [Label(value, name) for name, value in dataset.labels.items()]
    found = measured(bundle, dataset.select(arguments.split), labels)
    spec = replace(
        bundle.spec,
        version=arguments.version,
        parent=bundle.reference,
        changelog="Warns of volumes unlike those of its training cases. Weights unchanged.",
        inference={**bundle.spec.inference, KEY: {str(value): one.to_dict() for value, one in found.items()}},
    )
    written = familiarity.saved_again(bundle, spec, arguments.out, bundle.card, {})
    for label in written.labels:
        print(f"{label.name}: {found.get(label.value)}")
    print(f"{written.name} {written.version}: {written.path}")


def measured(bundle: Bundle, cases: Sequence[Case], labels: Sequence[Label]) -> dict[int, Volumes]:
    """By the model's label values, from the cases' label maps with the data set's `labels`."""
    values, _unknown = match_labels(bundle.labels, labels)
    known = {label.name: label.value for label in labels}
    found: dict[int, list[float]] = defaultdict(list)
    for case in cases:
        ml = volumes_ml(read_reference(case, known), labels)
        for own, value in values.items():
            if ml[value]:
                found[own].append(ml[value])
    return {own: Volumes.of(one) for own, one in found.items()}


if __name__ == "__main__":
    main()
