"""Write the recipes of the trials that choose width and grid of `headneck-ct` 2.0, everything else equal.

    python model_training/recipes/headneck-ct/trials.py OUT

Each trial pretrains for 1,500 steps and fine-tunes for 2,000, on all seven organs of `dataset7.json`: 69 cases of
`pool` and the 121 of `partial`, mirrored anatomy, 6 cases of `pool` held out. `validation` is never seen.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NEW_ORGANS = """[[labels]]
value = 6
name = "Larynx"
colour = [230, 159, 0]
[labels.terminology]
category = { scheme = "SCT", value = "123037004", meaning = "Anatomical Structure" }
type = { scheme = "SCT", value = "4596009", meaning = "Larynx" }

[[labels]]
value = 7
name = "Esophagus"
colour = [0, 114, 178]
[labels.terminology]
category = { scheme = "SCT", value = "123037004", meaning = "Anatomical Structure" }
type = { scheme = "SCT", value = "32849002", meaning = "Esophagus" }

[settings]
"""
FINE_TUNING = {
    "[settings]\n": NEW_ORGANS,
    'split = "pool"\n': 'split = "pool,partial"\n',
    'validation = "0.07"': 'validation = "pool:69:"',
    'licence_file = "LICENSE.txt"\ncard_file = "card.md"\n': "",
    "flip_axes = []": "flip_axes = [0]",
    'version = "1.1.0"': 'version = "2.0.0"',
    "foreground_fraction = 0.6\n": (
        'foreground_fraction = 0.6\nprecision = "bf16"\nsides = [["RightParotid", "LeftParotid"]]\n'
    ),
}


@dataclass(frozen=True)
class Trial:
    """What differs from `pretrain.toml`: `network` lines in place of the windows, spacing in mm, patch in voxels."""

    name: str
    spacing: str = "[3.9, 3.9, 2.5]"
    patch: str = "[56, 48, 56]"
    network: str = "windows = [[4, 4, 4], [7, 4, 7], [7, 6, 7]]"


TRIALS = (
    Trial("base"),
    Trial(
        "wide",
        network=f"{Trial.network}\nembed_dim = 48\nheads = [3, 6, 12]\ndecoder_heads = [3, 6]",
    ),
    Trial("fine", "[3.0, 3.0, 2.5]", "[72, 64, 56]", "windows = [[4, 4, 4], [6, 4, 7], [9, 8, 7]]"),
)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pretraining = (HERE / "pretrain.toml").read_text(encoding="utf-8")
    fine_tuning = _changed((HERE / "finetune2.toml").read_text(encoding="utf-8"), FINE_TUNING)
    for trial in TRIALS:
        changes = {
            "steps = 1200": 'steps = 1500\nprecision = "bf16"',
            Trial.spacing: trial.spacing,
            Trial.patch: trial.patch,
            Trial.network: trial.network,
        }
        (out / f"{trial.name}-pretrain.toml").write_text(_changed(pretraining, changes), encoding="utf-8")
        (out / f"{trial.name}-finetune.toml").write_text(fine_tuning, encoding="utf-8")


def _changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in the recipe, not once")
        text = text.replace(old, new)
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
