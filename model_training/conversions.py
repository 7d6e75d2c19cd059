"""Convert the models that ship for OpenVINO, so that they segment where PyTorch is not installed.

    python -m model_training.conversions

Writes Resources/Models/NAME.openvino for each. To be run again whenever a model there was replaced; a test notices.
"""

from __future__ import annotations

from MAESegmentLib.bundle import Bundle, open_bundle
from MAESegmentLib.inference.runtimes.conversion import prepare
from MAESegmentLib.inference.runtimes.converted import shipped_file
from MAESegmentLib.storage.user_folders import default_shipped_folder


def shipped_models() -> list[Bundle]:
    """Those that segment."""
    folders = sorted(path for path in default_shipped_folder().iterdir() if path.is_dir())
    return [bundle for bundle in map(open_bundle, folders) if bundle.kind == "segmentation"]


def main() -> None:
    for bundle in shipped_models():
        made = prepare(bundle, shipped_file(bundle))
        print(
            f"{bundle.name} {bundle.version}: {made.file}, {made.file.stat().st_size / 1e6:.1f} MB, "
            f"scores differ from PyTorch's by {made.difference:.0e} of the largest"
        )


if __name__ == "__main__":
    main()
