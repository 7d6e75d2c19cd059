"""What fine-tuning does where nobody chose: known labels keep what their model does, new ones begin without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.preprocessing.intensity import IntensityRecipe
from MAESegmentLib.training.defaults import default_settings, settings_in
from MAESegmentLib.training.loop.checkpoint import save_checkpoint
from MAESegmentLib.training.settings import Augmentation
from Testing.bundles import save_tiny, tiny_spec
from Testing.phantoms import LABELS


def base(tmp_path: Path, kind: str = "zscore") -> Bundle:
    """A model that was trained to be mirrored from left to right."""
    spec = tiny_spec(labels=LABELS)
    intensity = IntensityRecipe(kind)  # type: ignore[arg-type]
    changes = {"inference": {"mirror_axes": [0]}, "preprocessing": replace(spec.preprocessing, intensity=intensity)}
    return save_tiny(tmp_path / kind, replace(spec, **changes))


def test_known_labels_are_mirrored_and_prepared_as_in_their_model(tmp_path: Path) -> None:
    settings = default_settings(base(tmp_path), new_labels=False)
    assert settings.augmentation.flip_axes == (0,)
    assert settings.foreground is None


def test_known_labels_with_a_left_and_a_right_are_mirrored_as_in_their_model(tmp_path: Path) -> None:
    inference = {"mirror_axes": [2], "sides": {"axis": 0, "pairs": [[1, 2]]}}
    model = save_tiny(tmp_path / "sided", replace(tiny_spec(labels=LABELS), inference=inference))
    names = tuple(label.name for label in LABELS)
    settings = default_settings(model, new_labels=False, learnt=names)
    assert (settings.augmentation.flip_axes, settings.sides) == ((0, 2), (names,))
    for one_side in (
        default_settings(model, new_labels=False, learnt=names[:1]),
        default_settings(model, new_labels=False, chosen={"sides": []}),
    ):
        assert (one_side.augmentation.flip_axes, one_side.sides) == ((2,), ())
    assert default_settings(model, new_labels=True).augmentation.flip_axes == ()


def test_new_labels_are_not_mirrored_though_the_old_ones_were(tmp_path: Path) -> None:
    model = base(tmp_path)
    assert default_settings(model, new_labels=True).augmentation.flip_axes == ()
    chosen = {"augmentation": {"flip_axes": [1]}}
    assert default_settings(model, new_labels=True, chosen=chosen).augmentation.flip_axes == (1,)


@pytest.mark.parametrize(("kind", "expected"), [("zscore", True), ("ct", None)])
def test_new_labels_take_grey_values_over_the_body_where_these_are_relative(
    kind: str, expected: bool | None, tmp_path: Path
) -> None:
    model = base(tmp_path, kind)
    assert default_settings(model, new_labels=True).foreground is expected
    assert default_settings(model, new_labels=True, chosen={"foreground": False}).foreground is False


def test_new_labels_are_learnt_from_one_patch_a_step_that_is_changed_much(tmp_path: Path) -> None:
    """Each part of the augmentation may be chosen without losing the others."""
    model = base(tmp_path)
    settings = default_settings(model, new_labels=True)
    assert (settings.batch_size, settings.detail_channels) == (1, 16)
    assert settings.augmentation == Augmentation(affine=0.9, stretch=1.2, elastic=0.8, label_shares=True)
    chosen = default_settings(model, new_labels=True, chosen={"augmentation": {"elastic": 0.0}, "batch_size": 4})
    assert chosen.augmentation == replace(settings.augmentation, elastic=0.0)
    assert chosen.batch_size == 4
    drawn = default_settings(model, new_labels=True, chosen={"synthesis": {}})
    assert drawn.augmentation == Augmentation(), "drawn images differ by themselves"
    known = default_settings(model, new_labels=False)
    assert (known.batch_size, known.detail_channels, known.augmentation.elastic) == (2, None, 0.0)
    assert model.spec.network is not None
    network = replace(model.spec.network, detail_channels=4)
    detailed = save_tiny(tmp_path / "detailed", replace(model.spec, network=network))
    assert default_settings(detailed, new_labels=True).detail_channels is None, "it has such a head"


def test_every_process_of_a_team_has_a_patch_of_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert default_settings(base(tmp_path), new_labels=True).batch_size == 3


def test_a_run_resumes_with_the_defaults_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of before, and those of so many processes; not where something else was chosen."""
    model, out, chosen = base(tmp_path), tmp_path / "run", {"steps": 1000}
    now = default_settings(model, new_labels=True, chosen=chosen)
    before = replace(now, batch_size=2, detail_channels=None, augmentation=Augmentation())
    in_three = replace(now, batch_size=3, micro_batch=1)
    out.mkdir()
    for began in (before, in_three, now):
        save_checkpoint(out, {"fingerprint": f"{began.fingerprint()}-cases"})
        for processes in ("1", "2"):
            monkeypatch.setenv("WORLD_SIZE", processes)
            assert settings_in(out, model, new_labels=True, chosen=chosen) == began
    monkeypatch.setenv("WORLD_SIZE", "1")
    other = {"steps": 1000, "learning_rate": 1e-3}
    assert settings_in(out, model, new_labels=True, chosen=other) == replace(now, learning_rate=1e-3)
    (out / "checkpoint.pt").write_bytes(b"damaged")
    assert settings_in(out, model, new_labels=True, chosen=chosen) == now
