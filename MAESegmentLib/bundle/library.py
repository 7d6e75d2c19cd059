"""The models that segment, which one a user means, and how versions belong together: one rule for all doors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ..errors import BundleError, ConfigurationError, MAESegmentError
from .archive import export_bundle, import_bundle
from .folder import Bundle
from .store import ModelStore
from .suitability import ScanFacts, best_fit, can_fit, kind_of

SEGMENTATION = "segmentation"
#: A bundle, a name or the beginning of one, NAME@VERSION, a folder, or None for the only model there is.
ModelChoice = Bundle | str | os.PathLike[str] | None


class ModelLibrary:
    """The models of a store that segment. Nothing is hashed here: the worker verifies what it loads."""

    def __init__(self, store: ModelStore | None = None) -> None:
        self._given = store

    @property
    def store(self) -> ModelStore:
        # Made again, because the folder of a user's models may be chosen (MAESEGMENT_MODELS) while Slicer runs.
        return self._given if self._given is not None else ModelStore()

    def models(self) -> list[Bundle]:
        """Ordered by name and version."""
        return [bundle for bundle in self.store.list() if bundle.kind == SEGMENTATION]

    def problems(self) -> list[tuple[Path, MAESegmentError]]:
        """Folders in the store that hold no usable model, and why."""
        return list(self.store.scan()[1])

    def default(self, scan: ScanFacts | None = None) -> Bundle | None:
        """What a panel proposes, for `scan` if one is chosen; None if there is no model.

        What the user chose last for a scan of its kind, if it can fit; else the one whose training scans it resembles
        most. If nothing fits, the first: models that ship come before those that were imported. One that places the
        boxes of others is for whoever asks for it.
        """
        every = self._proposed()
        known = without_locators(every)
        if scan is not None:
            best = best_fit(known, scan)
            wanted = self.store.preferred(_kind(scan, best))
            liked = next((one for one in every if one.name == wanted and can_fit(one, scan)), best)
            if liked is not None:
                return liked
        return next(iter(known or every), None)

    def prefer(self, model: ModelChoice, scan: ScanFacts) -> None:
        """Remember that the user chose `model` for `scan`, if it can fit."""
        bundle = self.find(model)
        kind = _kind(scan, best_fit(without_locators(self._proposed()), scan))
        if kind and can_fit(bundle, scan) and self.store.preferred(kind) != bundle.name:
            self.store.prefer(bundle.name, kind)

    def meant(self, name: str) -> Bundle | None:
        """What the name of a model means: its selected version, else the highest; None if there is none."""
        return self.store.meant(kind=SEGMENTATION).get(name)

    def find(self, model: ModelChoice = None, *, verify: bool = False) -> Bundle:
        """`model` is a bundle, a name or the beginning of one, NAME@VERSION, a folder, or None for the only one.

        Raises `ConfigurationError` if none is named and several could be meant: which anatomy is wanted cannot be
        guessed. `BundleError` if there is none, or it does not segment. `verify` compares its files with their hashes.
        """
        if hasattr(model, "content_hash"):  # a bundle, maybe one of before a Reload: then not of this class
            return cast(Bundle, model)
        if model is None or model == "":
            model = self._only_name()
        bundle = self.store.find(model, kind=SEGMENTATION, verify=verify)
        if bundle.kind != SEGMENTATION:
            raise BundleError(
                f"Model {bundle.name!r} is a pretrained autoencoder: it does not segment.",
                "Fine-tune it on labelled cases first.",
            )
        return bundle

    def use(self, model: ModelChoice) -> Bundle:
        """From now on the name of this model means this version, here and in every other program."""
        bundle = self.find(model)
        self.store.select(bundle)
        return bundle

    def removable(self, model: ModelChoice) -> str:
        """Why a version cannot be removed, in a sentence; "" if it can."""
        return self.store.removable(self.find(model))

    def remove(self, model: ModelChoice) -> None:
        """Delete a version that nothing was made from; `BundleError` says why one cannot be removed."""
        self.store.remove(self.find(model))

    def add(self, path: str | os.PathLike[str]) -> Bundle:
        """Verify and import a bundle's zip, or a bundle's folder, into the user's models."""
        return import_bundle(path, self.store, load=False)  # no torch in this process

    def export(self, model: ModelChoice, path: str | os.PathLike[str]) -> Path:
        """Write a model as a zip that `add` reads."""
        return export_bundle(self.find(model), path)

    def _proposed(self) -> list[Bundle]:
        """What each name means, the models that ship first."""
        meant, store = self.store.meant(kind=SEGMENTATION), self.store
        return [meant[name] for name in sorted(meant, key=lambda name: (not store.is_shipped(name), name))]

    def _names(self) -> set[str]:
        return {bundle.name for bundle in self.models()}

    def _only_name(self) -> str:
        names = sorted(self._names())
        if not names:
            raise BundleError("There is no model yet.", "Import one, or reinstall MAESegment, which ships models.")
        if len(names) > 1:
            raise ConfigurationError("Which model? None was named.", f"Name one of: {', '.join(names)}.")
        return names[0]


def without_locators(models: Sequence[Bundle]) -> list[Bundle]:
    """Those of `models` that do not place the boxes of another one."""
    locators = {one.locator.model for one in models if one.locator is not None}
    return [one for one in models if one.name not in locators]


def _kind(scan: ScanFacts, best: Bundle | None) -> str:
    """Of files that do not say, that of the model which they resemble."""
    return kind_of(scan.modality) or (str(best.metadata["maesegment"]["modality"]) if best is not None else "")


def parent_of(bundle: Bundle | None, models: Sequence[Bundle]) -> Bundle | None:
    """What `bundle` was made from, if it is among `models`."""
    wanted = bundle.parent["hash"] if bundle is not None and bundle.parent else None
    return next((one for one in models if one.content_hash == wanted), None)


def family_of(bundle: Bundle, models: Sequence[Bundle]) -> list[Bundle]:
    """Those of `models` that descend from one model with `bundle`, or have a name in common; the newest first."""
    names = {bundle.name}
    while True:
        family = [one for one in models if names & {one.name, one.parent["name"] if one.parent else one.name}]
        known = {one.name for one in models}
        more = {name for one in family for name in (one.name, one.parent["name"] if one.parent else one.name)} & known
        if more <= names:
            return [one for one in reversed(family) if one.name in names]
        names |= more
