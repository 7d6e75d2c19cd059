"""Give a model statistics of its training scans, by which it knows a scan that it cannot know: a new patch version.

    python -m model_training.familiarity MODEL --data DATA [--split pool] --version 1.2.1 --out DIR [--figures CSV]

MODEL is a name or a bundle's folder; weights, labels and preprocessing stay as they are. `maesegment finetune` and
`maesegment pretrain` do the same at their end, so that only a model made before needs this.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from MAESegmentLib.bundle import Bundle, ModelStore, open_bundle, save_bundle
from MAESegmentLib.bundle.scan_statistics import ENOUGH_TO_CALIBRATE
from MAESegmentLib.bundle.spec import ModelSpec
from MAESegmentLib.bundle.training_statistics import FamiliarityStatistics, ScanDescription
from MAESegmentLib.cases.case import Case
from MAESegmentLib.cases.checks import read_image
from MAESegmentLib.cases.dataset import load_dataset
from MAESegmentLib.images.volume import Volume
from MAESegmentLib.inference.familiarity import FEW_SCANS, Encode, describe_scan, fit_familiarity
from MAESegmentLib.preprocessing.grey_values import describe_grey_values
from MAESegmentLib.training.saving import WINDOWS_OF_FEW

#: Of the model card.
SECTION = "## Scans it knows"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="name, name@version or folder")
    parser.add_argument("--data", type=Path, required=True, help="data set that the model was trained on")
    parser.add_argument("--split", default="pool", help="of the training scans (default: %(default)s)")
    parser.add_argument("--version", required=True, help="of the model that is written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model that is written")
    parser.add_argument("--figures", type=Path, help="results of benchmarks/familiarity.py, for the model card")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = Path(arguments.model)
    bundle = open_bundle(path) if path.is_dir() else ModelStore().find(arguments.model)
    cases = load_dataset(arguments.data).select(arguments.split)
    statistics = fit_familiarity(describe_cases(bundle, cases))
    figures = figures_of(bundle.name, arguments.figures) if arguments.figures else ""
    written = with_statistics(bundle, statistics, arguments.version, arguments.out, figures)
    print(f"{written.name} {written.version}: {written.path}, statistics of {statistics.scans} scans")


def describe_cases(bundle: Bundle, cases: Sequence[Case]) -> list[ScanDescription]:
    """As training describes them."""
    encode = encoder_of(bundle)
    windows = 1 if len(cases) >= ENOUGH_TO_CALIBRATE else WINDOWS_OF_FEW
    return [describe_volume(read_image(case), bundle, encode, windows) for case in cases]


def encoder_of(bundle: Bundle) -> Encode:
    """Of the segmentation network."""
    return bundle.load_network().encoder


def describe_volume(volume: Volume, bundle: Bundle, encode: Encode, windows: int = 1) -> ScanDescription:
    """As inference describes it."""
    preprocessing = bundle.spec.preprocessing
    prepared = preprocessing.prepare(volume)
    grey = describe_grey_values(volume.crop(prepared.region).array, preprocessing.intensity)
    spacing = prepared.grid.spacing
    image = torch.from_numpy(prepared.image)
    return describe_scan(grey, image, spacing, preprocessing.patch_size, encode, windows=windows)


def with_statistics(
    bundle: Bundle, statistics: FamiliarityStatistics, version: str, out: Path, figures: str = ""
) -> Bundle:
    """`bundle` as `version` in `out`: the same weights, and the statistics instead of the autoencoder's errors."""
    change = (
        f"Tells scans it cannot know, by statistics of {statistics.scans} of its training scans. Weights unchanged."
    )
    spec = replace(
        bundle.spec,
        version=version,
        parent=bundle.reference,
        changelog=change,
        familiarity=statistics.to_dict(),
        reconstruction_error=None,
    )
    return saved_again(bundle, spec, out, with_section(bundle.card, statistics, figures), {})


def saved_again(bundle: Bundle, spec: ModelSpec, out: Path, card: str, documents: Mapping[str, bytes]) -> Bundle:
    """The weights of `bundle` with another description; `documents` take the place of those of the same name."""
    autoencoder = bundle.load_autoencoder()
    docs = {path.name: path.read_bytes() for path in (bundle.path / "docs").iterdir() if path.name != "README.md"}
    return save_bundle(
        out,
        spec,
        bundle.load_network().state_dict(),
        autoencoder_state=None if autoencoder is None else autoencoder.state_dict(),
        card=card,
        licence_text=(bundle.path / "LICENSE").read_text(encoding="utf-8"),
        documents={**docs, **documents},
    )


def figures_of(name: str, file: Path) -> str:
    """The share of flagged scans by group, as the benchmark measured it for the model of this name."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"].split()[0] == name]
    shares = [f"{row['group']} {100 * float(row['flagged']):.0f} % of {row['scans']}" for row in rows]
    return f"Flagged, among scans that nothing was fitted on: {'; '.join(shares)}.\n" if shares else ""


def with_section(card: str, statistics: FamiliarityStatistics, figures: str = "") -> str:
    """The model card with what the check of familiarity rests on, in place of what it said before."""
    few = "" if statistics.scans >= FEW_SCANS else " These are few: the limits are wide."
    lengths = " x ".join(f"{length:.0f}" for length in statistics.extent_mm)
    text = (
        f"A scan is compared with {statistics.scans} training scans in its grey values, its extent (up to "
        f"{lengths} mm, twice as much is let through) and what the encoder makes of it at each stage; the limits were "
        f"calibrated by cross-validation within them.{few} A scan beyond one of them is segmented with a "
        f"warning.\n{figures}"
    )
    return in_section(card, SECTION, text)


def in_section(card: str, heading: str, text: str) -> str:
    """The model card with `text` below `heading`, in place of what it said there before."""
    before, _, after = card.partition(f"{heading}\n")
    rest = after.partition("\n## ")[2]
    return f"{before.rstrip()}\n\n{heading}\n{text}" + (f"\n## {rest}" if rest else "")


if __name__ == "__main__":
    main()
