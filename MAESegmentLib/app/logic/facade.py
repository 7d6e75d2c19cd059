"""The object that scripts in Slicer, both panels and the browser call."""

from __future__ import annotations

import os
from pathlib import Path

from ...bundle import Bundle
from ...bundle.library import ModelChoice, ModelLibrary
from ...console.calls import part
from ..session import SceneSession
from .cases import Cases
from .drawing import Drawing
from .learning import Learning
from .segment import Segmenting


class Logic:
    """Each call is described where it is done. Never opens a dialog; what goes wrong is a `MAESegmentError`."""

    def __init__(
        self, session: SceneSession | None, library: ModelLibrary | None = None, caseFolder: Path | None = None
    ) -> None:
        """`caseFolder` holds the cases instead of the session's folder."""
        self._session = session
        self._case_folder = caseFolder
        self.library = library or ModelLibrary()
        self._segmenting = Segmenting(self)
        self._cases = Cases(self)
        self._drawing = Drawing(self)
        self._learning = Learning(self, self._segmenting, self._cases)

    @property
    def session(self) -> SceneSession:
        """The worker, the event loop and the folders."""
        assert self._session is not None
        return self._session

    @property
    def case_root(self) -> Path:
        """Where the cases of all models are, a folder for each."""
        return self._case_folder or self.session.case_root

    models = part("library", ModelLibrary.models)
    problems = part("library", ModelLibrary.problems)
    selectedModel = part("library", ModelLibrary.meant)
    useVersion = part("library", ModelLibrary.use)
    removableReason = part("library", ModelLibrary.removable)
    removeVersion = part("library", ModelLibrary.remove)

    def importModel(self, path: str | os.PathLike[str]) -> Bundle:
        """Verify a zip or a folder and add it to the user's models; the event loop continues meanwhile."""
        return self.session.loop.call_aside(lambda: self.library.add(path))

    def exportModel(self, model: ModelChoice, path: str | os.PathLike[str]) -> Path:
        """Write a model as a zip that `importModel` reads; the event loop continues meanwhile."""
        return self.session.loop.call_aside(lambda: self.library.export(model, path))

    defaultModel = part("_segmenting", Segmenting.defaultModel)
    preferModel = part("_segmenting", Segmenting.preferModel)
    canFit = part("_segmenting", Segmenting.canFit)
    process = part("_segmenting", Segmenting.process)
    statistics = part("_segmenting", Segmenting.statistics)
    outputFor = part("_segmenting", Segmenting.outputFor)
    processBatch = part("_segmenting", Segmenting.processBatch)
    processSequence = part("_segmenting", Segmenting.processSequence)

    updateScan = part("_drawing", Drawing.updateScan)
    growScribbles = part("_drawing", Drawing.growScribbles)
    findDrawn = part("_drawing", Drawing.findDrawn)
    addBackground = part("_drawing", Drawing.addBackground)
    removeBackground = part("_drawing", Drawing.removeBackground)

    setCaseFolder = part("_cases", Cases.setCaseFolder)
    caseFolder = part("_cases", Cases.caseFolder)
    caseStore = part("_cases", Cases.caseStore)
    cases = part("_cases", Cases.cases)
    proposeCase = part("_cases", Cases.proposeCase)
    identifyScan = part("_cases", Cases.identifyScan)
    addCase = part("_cases", Cases.addCase)
    openCase = part("_cases", Cases.openCase)
    removeCase = part("_cases", Cases.removeCase)
    setCaseRole = part("_cases", Cases.setCaseRole)
    changedCases = part("_cases", Cases.changedCases)
    scanOf = part("_cases", Cases.scanOf)
    scanNames = part("_cases", Cases.scanNames)

    estimateFineTune = part("_learning", Learning.estimateFineTune)
    fineTune = part("_learning", Learning.fineTune)
    fineTuneRuns = part("_learning", Learning.fineTuneRuns)
    compare = part("_learning", Learning.compare)
    nextCases = part("_learning", Learning.nextCases)
