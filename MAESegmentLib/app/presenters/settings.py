"""The choices for segmenting beside scan, model and region: their texts, and how the logic takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...inference.settings import SHIFTED, Mirroring
from ...translation import tr as _
from ..texts.messages import device_text, device_tooltip

AUTO = "auto"
_MIRRORINGS: Mapping[str, Mirroring] = {"on": True, "off": False, SHIFTED: SHIFTED}


def precisions() -> list[tuple[str, str]]:
    """(text, value) of each choice, as for the functions below."""
    return [
        (_("Automatic"), AUTO),
        (_("Single (fp32)"), "fp32"),
        (_("Half (bf16)"), "bf16"),
        (_("Half (fp16)"), "fp16"),
    ]


def overlaps() -> list[tuple[str, float]]:
    return [(_("Model's default"), 0.0), (_("25 % (fast)"), 0.25), (_("50 %"), 0.5), (_("75 % (slow)"), 0.75)]


def mirrorings() -> list[tuple[str, str]]:
    return [
        (_("Model's default"), "model"),
        (_("Off (fast)"), "off"),
        (_("On (slow)"), "on"),
        (_("On, and shifted (slowest)"), SHIFTED),
    ]


def mirroring_choice(value: Mirroring | None) -> str:
    """The choice that stands for what a speed chooses."""
    return next((name for name, stands_for in _MIRRORINGS.items() if stands_for == value), "model")


def devices(known: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(text, value, tip) of what the worker found; without it the choice that every computer has."""
    found = [(device_text(one), str(one["name"]), device_tooltip(one)) for one in known]
    if all(value != "cpu" for _text, value, _tip in found):
        found.append((_("CPU"), "cpu", ""))
    tip = _("Where the network runs: the first GPU that works, otherwise the CPU.")
    return [(_("Automatic"), AUTO, tip), *found]


def process_options(
    *,
    device: str,
    precision: str,
    overlap: float,
    mirroring: str,
    allow_cpu: bool,
    check_familiarity: bool,
    clean: bool,
) -> dict[str, Any]:
    """Keyword arguments of `process`; 0 and "model" leave a choice to the model."""
    return {
        "device": device,
        "precision": precision,
        "overlap": overlap or None,
        "mirroring": _MIRRORINGS.get(mirroring),
        "allowCpu": allow_cpu,
        "checkFamiliarity": check_familiarity,
        "clean": clean,
    }
