"""What MAESegment adds to Slicer's Sample Data module. Nothing is downloaded before a user asks for an entry."""

from __future__ import annotations

import hashlib
from pathlib import Path

CATEGORY = "MAESegment"
#: The MNI152 T1 average head (ICBM 2009a, 1 mm), as the nilearn project publishes it; the commit fixes its content.
HEAD_URL = (
    "https://raw.githubusercontent.com/nilearn/nilearn/a5fa8b96e3765dccd2a20005aead0c4229fa7653"
    "/nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
)
HEAD_CHECKSUM = "SHA256:421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"

_RESOURCES = Path(__file__).resolve().parents[1] / "Resources"
#: (node name, file): boxes in MNI152 space around each hippocampus, the same that `maesegment demo` uses.
BOXES = (
    ("Left hippocampus box", _RESOURCES / "SampleData" / "MNI152-left-hippocampus.mrk.json"),
    ("Right hippocampus box", _RESOURCES / "SampleData" / "MNI152-right-hippocampus.mrk.json"),
)


def register() -> None:
    """Add the entries, once; without effect in a Slicer that has no Sample Data module. For `startupCompleted()`."""
    try:
        from SampleData import SampleDataLogic
    except ModuleNotFoundError:
        return
    box_files = [path for _, path in BOXES]
    SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName="MNI152 head with hippocampus boxes",
        thumbnailFileName=str(_RESOURCES / "Icons" / "MNI152Head.png"),
        # The head first: `SampleData.downloadSample` returns the first node.
        uris=[HEAD_URL, *(path.as_uri() for path in box_files)],
        fileNames=["MNI152-T1-1mm.nii.gz", *(path.name for path in box_files)],
        nodeNames=["MNI152 T1 head", *(name for name, _ in BOXES)],
        loadFileTypes=["VolumeFile", "MarkupsFile", "MarkupsFile"],
        # With a checksum Slicer notices that its cache holds the box of an older version.
        checksums=[HEAD_CHECKSUM, *map(_checksum, box_files)],
    )


def _checksum(path: Path) -> str:
    return f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
