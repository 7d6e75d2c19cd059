"""Draw the pictures of `docs/models.md`: what the models of MR find in the MNI152 head of the nilearn package.

    python -m model_training.gallery

That of `headneck-ct` is in its card: publish.py drew it.
"""

from __future__ import annotations

from pathlib import Path

from MAESegmentLib.bundle.library import ModelLibrary
from MAESegmentLib.bundle.store import ModelStore
from MAESegmentLib.bundle.suitability import locator_among
from MAESegmentLib.inference.locating import locating
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.inference.preview import write_preview
from MAESegmentLib.inference.settings import InferenceSettings
from MAESegmentLib.samples import read_sample

MODELS = ("brain-mr", "hippocampus-mr")
FOLDER = Path(__file__).resolve().parents[1] / "Resources" / "Screenshots"


def main() -> None:
    # The models that ship, whatever the user has.
    library, head = ModelLibrary(ModelStore("nowhere")), read_sample()
    for name in MODELS:
        bundle = library.find(name)
        settings = InferenceSettings.of_model(bundle.spec.inference, device="cpu", precision="fp32")
        predictor = locating(Predictor(bundle, settings), locator_among(bundle, library.meant)[0])
        found = predictor.predict(head)
        print(write_preview(FOLDER / f"model-{name}.png", head, found.label_map, found.labels))


if __name__ == "__main__":
    main()
