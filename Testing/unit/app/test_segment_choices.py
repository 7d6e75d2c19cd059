"""The models and settings that can be chosen for segmenting, and how the logic takes them."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from MAESegmentLib.app.presenters import settings
from MAESegmentLib.app.presenters.models import ModelList
from MAESegmentLib.app.session import LogBuffer
from MAESegmentLib.errors import MAESegmentError
from Testing.fake_logic import HEADNECK, FakeLogic


@pytest.fixture
def logic():
    return FakeLogic(SimpleNamespace(), None)


@pytest.fixture
def models(logic):
    models = ModelList(logic)
    models.refresh()
    return models


def test_models_are_listed_by_name_the_newest_version_first(logic):
    shipped = logic.models()[0]
    versions = [
        SimpleNamespace(name=name, version=version, metadata=shipped.metadata, locator=None)
        for name, version in (("a", "1.0.0"), ("a", "1.1.0"), ("b", "0.1.0"))
    ]
    logic.bundles = versions
    models = ModelList(logic)
    models.refresh()
    assert list(models.bundles) == ["a@1.1.0", "a@1.0.0", "b@0.1.0"]
    assert models.default() == "a@1.0.0"
    assert models.get("b@0.1.0") is versions[2]


def test_choice_of_the_user_stays_for_the_next_scan_if_it_can_fit_and_is_remembered(logic, models):
    ct, mr = HEADNECK, "hippocampus-mr@2.0.0"
    logic.misfits = {("head", "headneck-ct"), ("neck", "hippocampus-mr")}
    assert models.for_scan(models.default(), "head") == mr, "what was only proposed gives way"
    assert models.for_scan(mr, "neck") == ct
    models.picked(ct, "neck")
    assert logic.calls == [], "nobody chose it"
    models.picked(models.propose(mr), "head")
    assert logic.calls == [], "it belongs to the sample"
    models.default()
    models.picked(mr, "knee")
    models.picked(ct, "knee")
    assert logic.calls == [("preferModel", ("knee", "hippocampus-mr")), ("preferModel", ("knee", "headneck-ct"))]
    assert models.for_scan(ct, "neck") == ct
    assert models.for_scan(ct, "head") == mr
    assert models.for_scan("liver-ct@3.0.0", "head") == "liver-ct@3.0.0", "the scene asks for it"
    logic.refusals["preferModel"] = MAESegmentError("The folder cannot be written.")
    logic.session.log = LogBuffer()
    models.picked(ct, "neck")
    assert "cannot be written" in logic.session.log.text()


def test_chosen_model_says_what_it_is_for_and_how_good_it_is(models):
    info = models.info(HEADNECK)
    assert "head-and-neck planning CT" in info
    assert re.search(r"Mean Dice 0\.\d\d \(n = 40 held-out cases\)", info)


def test_absence_of_a_model_is_explained(logic, models):
    assert models.info("") == "Choose a model."
    assert "liver-ct@3.0.0, which is not installed" in models.info("liver-ct@3.0.0")
    logic.bundles = []
    models.refresh()
    assert (models.default(), models.info("")) == ("", "There is no model: import one.")


def test_choices_that_are_left_to_the_model_are_none():
    given = settings.process_options(
        device="auto",
        precision="auto",
        overlap=0.0,
        mirroring="model",
        allow_cpu=True,
        check_familiarity=True,
        clean=True,
    )
    assert (given["overlap"], given["mirroring"]) == (None, None)
    given = settings.process_options(
        device="cpu",
        precision="fp32",
        overlap=0.75,
        mirroring="off",
        allow_cpu=False,
        check_familiarity=False,
        clean=False,
    )
    assert given == {
        "device": "cpu",
        "precision": "fp32",
        "overlap": 0.75,
        "mirroring": False,
        "allowCpu": False,
        "checkFamiliarity": False,
        "clean": False,
    }


def test_processor_can_be_chosen_before_the_worker_has_looked_for_devices():
    assert [value for _text, value, _tip in settings.devices(())] == ["auto", "cpu"]
    found = settings.devices([{"name": "cuda:0", "title": "NVIDIA T4"}, {"name": "cpu", "title": "AMD Ryzen"}])
    assert [(text, value) for text, value, _tip in found[1:]] == [("NVIDIA T4", "cuda:0"), ("AMD Ryzen", "cpu")]
