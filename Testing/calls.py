"""The calls that scripts have, on files and in Slicer: what the page about them shows and the contract test holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """`name` is that of the console. Arguments that only one of both has are named; all others are the same."""

    name: str
    does: str
    returns: str
    has_wait: bool = False
    #: What stands for the files in Slicer: argument of the console -> argument there.
    nodes: tuple[tuple[str, str], ...] = ()
    only_files: tuple[str, ...] = ()
    only_slicer: tuple[str, ...] = ()

    @property
    def in_slicer(self) -> str:
        return camel_case(self.name)


_SCAN = ("scan", "volumeNode")

CALLS = (
    Call(
        "process",
        "Segment a scan.",
        "a segmentation",
        True,
        nodes=(_SCAN,),
        only_files=("out",),
        only_slicer=("outputSegmentation", "overwrite", "askForBox"),
    ),
    Call(
        "update_scan",
        "Let the rest of a scan follow from slices that were corrected, or on which a structure was drawn.",
        "a segmentation, with what was drawn as it was",
        True,
        nodes=(_SCAN, ("label_map", "segmentationNode"), ("model", "modelName")),
        only_files=("before", "labels", "out"),
        only_slicer=("changing",),
    ),
    Call(
        "grow_scribbles",
        "Grow scribbles in a box about them, without training.",
        "a segmentation, with the scribbles as they were",
        True,
        nodes=(_SCAN, ("label_map", "segmentationNode"), ("model", "modelName")),
        only_files=("before", "labels", "out"),
        only_slicer=("changing",),
    ),
    Call(
        "statistics",
        "Measure the structures of a segmentation, as Slicer's Segment Statistics does.",
        "names with volume, grey values, extent and voxels at the border",
        nodes=(_SCAN, ("label_map", "segmentationNode")),
        only_files=("labels",),
    ),
    Call("compare", "Segment a scan with two versions and find where they differ.", "a comparison", True, (_SCAN,)),
    Call(
        "add_case",
        "Store a scan with its corrected segmentation.",
        "the record of the case",
        True,
        nodes=(_SCAN, ("label_map", "segmentationNode")),
        only_files=("labels",),
        only_slicer=("mapping", "newLabels"),
    ),
    Call("cases", "List the stored cases.", "their records"),
    Call("case_store", "Find where the cases of a model are.", "a `CaseStore`"),
    Call("set_case_role", "Train on a case, or hold it out for validation.", "its record"),
    Call("remove_case", "Delete a case.", "nothing"),
    Call("next_cases", "Rank scans: which to correct next.", "scans, the least certain first", True),
    Call("estimate_fine_tune", "Measure how long a fine-tuning takes here.", "time and memory", True),
    Call("fine_tune", "Make a new version of a model from stored cases.", "the new version, not yet used", True),
    Call("models", "List the models that segment.", "bundles"),
    Call("selected_model", "Find which version a name means.", "a bundle, or None"),
    Call("use_version", "Choose which version a name means.", "its bundle"),
    Call("remove_version", "Delete a version.", "nothing"),
    Call("import_model", "Add a model from a zip or a folder.", "its bundle"),
    Call("export_model", "Write a model to one zip.", "the path of the zip"),
)


def camel_case(name: str) -> str:
    """As Slicer writes names.

    >>> camel_case("check_familiarity")
    'checkFamiliarity'
    """
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
