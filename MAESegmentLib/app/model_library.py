"""Which models there are, and which one a person means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from ..bundle import Bundle, ModelStore, import_bundle
from ..errors import BundleError, MAESegmentError

SEGMENTATION = "segmentation"


class ModelLibrary:
    """The models of a store that segment. Nothing is hashed here: the worker verifies what it loads."""

    def __init__(self, store: ModelStore | None = None) -> None:
        self._given = store

    @property
    def store(self) -> ModelStore:
        # Made anew, because the folder of a person's models may be chosen (MAESEGMENT_MODELS) while Slicer runs.
        return self._given if self._given is not None else ModelStore()

    def models(self) -> list[Bundle]:
        """Ordered by name and version."""
        return [bundle for bundle in self.store.list() if bundle.kind == SEGMENTATION]

    def problems(self) -> list[tuple[Path, MAESegmentError]]:
        """Folders in the store that hold no usable model, and why."""
        return list(self.store.scan()[1])

    def default(self) -> Bundle | None:
        """What is segmented with unless a person chooses: the selected, else the highest version of the first name.

        Those of the models that ship come first, so that one that was imported is used only where it was chosen.
        """
        names = sorted(
            {bundle.name for bundle in self.models()}, key=lambda name: (not self.store.is_shipped(name), name)
        )
        return self.meant(names[0]) if names else None

    def meant(self, name: str) -> Bundle | None:
        """What the name of a model means: its selected version, else the highest; None if there is none."""
        return self.store.meant(kind=SEGMENTATION).get(name)

    def find(self, model: Bundle | str | os.PathLike[str] | None) -> Bundle:
        """`model` is a bundle, a name or the beginning of one, name@version, a folder, or None for the default."""
        if hasattr(model, "content_hash"):  # a bundle, maybe one of before a Reload: then not of this class
            return cast(Bundle, model)
        if model is None or model == "":
            bundle = self.default()
            if bundle is None:
                raise BundleError("There is no model yet.", "Import one (Model, Import) or reinstall MAESegment.")
            return bundle
        bundle = self.store.find(model, kind=SEGMENTATION, verify=False)
        if bundle.kind != SEGMENTATION:
            raise BundleError(
                f"Model {bundle.name!r} is a pretrained autoencoder: it does not segment.",
                "Fine-tune it on labelled cases first.",
            )
        return bundle

    def add(self, archive: str | os.PathLike[str]) -> Bundle:
        """Verify and import a bundle's zip, or a bundle's folder, into the person's models."""
        return import_bundle(archive, self.store, load=False)  # no torch in this process
