"""What a segmentation would be as a stored case: which segment is which label, and what to know before it is stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import mrml
from ..bundle import Bundle
from ..bundle.suitability import mismatch
from ..cases.mapping import LabelMatch, propose_mapping, same_name
from ..cases.records import CaseRecord
from ..cases.store import CaseStore
from ..cases.submission import ERROR, WARNING, CaseIssue, CaseSubmission
from ..errors import MAESegmentError, NodeError
from ..images.labels import ByName, Label, by_name, loose_name
from ..mrml import case_nodes as case_scene
from ..translation import tr as _

#: What `process` notes on its results.
MODEL, MODEL_HASH = "MAESegment.Model", "MAESegment.ModelHash"
#: `details["problem"]` of the `NodeError` about segments of which it is not clear which labels they are.
UNCLEAR_SEGMENTS = "unclear_segments"


@dataclass(frozen=True)
class CaseProposal:
    """`choices` are one for each segment, in order. `findings` of severity "error" keep it from being stored.

    `stored` is the case that the segmentation is linked with, and `isChanged` whether it was edited since; `duplicate`
    is another case with the same image. `modelLabels` are the names that a segment may be taken for, the model's first.
    """

    choices: list[LabelMatch]
    findings: list[CaseIssue]
    duplicate: CaseRecord | None
    stored: CaseRecord | None
    isChanged: bool
    modelLabels: tuple[str, ...]


@dataclass(frozen=True)
class SegmentLabels:
    """What a user or a script says about the segments; see `MAESegmentLogic.addCase`."""

    mapping: Mapping[str, str | None]
    new_labels: Collection[str] = ()
    absent: Collection[str] = ()


@dataclass(frozen=True)
class PreparedCase:
    """`values` are what the segments (by ID) become in the label map that `submission` describes.

    `remember` are labels of segments worth keeping for the next case.
    """

    values: Mapping[str, int]
    submission: CaseSubmission
    remember: Mapping[str, str | None]

    def described(self, **more: Any) -> PreparedCase:
        """With what else the submission is to say: role, group, model, region, replace."""
        return replace(self, submission=replace(self.submission, **more))


def propose(
    nodes: Sequence[Any], segmentation: Any, bundle: Bundle, store: CaseStore, aside: case_scene.Aside
) -> CaseProposal:
    """Looks, asks nothing and changes nothing. What takes long is done `aside`."""
    known = known_labels(bundle, store)
    findings: list[CaseIssue] = []
    stored = duplicate = None
    try:
        image = mrml.image_of(nodes)
        findings += channel_findings(image, bundle)
        if reason := mismatch(bundle, mrml.facts_of(nodes)):
            hint = _("A model learns such scans best from one that was trained on them.")
            findings.append(CaseIssue("mismatch", WARNING, reason, hint))
        duplicate = case_scene.find_duplicate(nodes, image, store.list(), aside)
    except MAESegmentError as error:
        findings.append(CaseIssue("scan", ERROR, error.message, error.hint))
    try:
        segments = mrml.drawn_segments(segmentation)
    except MAESegmentError as error:
        findings.append(CaseIssue("segmentation", ERROR, error.message, error.hint))
        return CaseProposal([], findings, duplicate, None, False, tuple(label.name for label in known))
    stored = case_scene.linked_case(segmentation, store)
    if stored is not None and duplicate is not None and duplicate.id == stored.id:
        duplicate = None
    drawn_on = mrml.volume_of(segmentation)
    if not any(mrml.may_be_of(segmentation, node) for node in nodes):
        text = _("{segmentation} was made on {other}, not on {scan}.")
        other = drawn_on.GetName() if drawn_on is not None else _("a scan that was removed")
        names = {"segmentation": segmentation.GetName(), "other": other, "scan": nodes[0].GetName()}
        findings.append(CaseIssue("other_scan", WARNING, text.format(**names), _("Is this its scan?")))
    choices = propose_choices(segments, segmentation, bundle, known, store)
    findings += _segment_findings(segmentation, segments, choices, bundle)
    if duplicate is not None and stored is None:
        text = _("This scan is stored already, as {case}.").format(case=duplicate.id)
        hint = _("Update the stored case, or leave it as it is.")
        findings.append(CaseIssue("duplicate", WARNING, text, hint, {"case": duplicate.id}))
    changed = stored is not None and case_scene.is_changed(segmentation)
    return CaseProposal(choices, findings, duplicate, stored, changed, tuple(label.name for label in known))


def known_labels(bundle: Bundle, store: CaseStore) -> tuple[Label, ...]:
    """The model's, then those of the store that the model does not have."""
    own = by_name(bundle.labels)
    return (*bundle.labels, *(label for label in store.labels() if label.name not in own))


def propose_choices(
    segments: Sequence[mrml.Segment], segmentation: Any, bundle: Bundle, known: Sequence[Label], store: CaseStore
) -> list[LabelMatch]:
    """One for each segment. What our own model drew is clear, whatever a user said of such names before."""
    names = [label.name for label in known]
    sided = {label.name: own.name for label, own in bundle.sided}
    choices = propose_mapping([one.name for one in segments], names, {**sided, **store.remembered()})
    if not segmentation.GetAttribute(MODEL_HASH):
        return choices
    own = {mrml.segment_id_of(label): label.name for label in bundle.labels}
    return [
        LabelMatch(one.name, one.name, "same") if own.get(one.id) == one.name else choice
        for one, choice in zip(segments, choices, strict=True)
    ]


def prepare_case(
    segmentation: Any,
    segments: Sequence[mrml.Segment],
    choices: Sequence[LabelMatch],
    known: Sequence[Label],
    answers: SegmentLabels,
) -> PreparedCase:
    """Every segment's label; `NodeError` says what is not clear and which argument makes it so.

    The submission has labels, `unknown` and `absent`; the rest is the caller's.
    """
    named = _Names(known, answers, segments)
    taken: dict[str, str] = {}
    remember: dict[str, str | None] = {}
    unclear: list[LabelMatch] = []
    for segment, choice in zip(segments, choices, strict=True):
        label, is_clear = named.label_of(segment, choice)
        if not is_clear and not segment.is_empty:
            unclear.append(choice)
        if label is not None:
            taken[segment.id] = label
        if is_clear and choice.kind != "same" and not (segment.is_empty and label is None):
            remember[segment.name] = label
    if unclear:
        raise _unclear(segmentation, unclear)
    drawn = {segment.id: taken[segment.id] for segment in segments if segment.id in taken and not segment.is_empty}
    absent = named.absent(taken)
    both = sorted(set(absent) & set(drawn.values()))
    if both:
        raise NodeError(
            _("{names} is given as absent, but has voxels.").format(names=", ".join(both)),
            _("Remove the voxels, or leave it out of absent."),
        )
    names = list(dict.fromkeys([*drawn.values(), *absent]))
    labels = tuple(replace(named.describe(name), value=number) for number, name in enumerate(names, start=1))
    values = {segment_id: names.index(name) + 1 for segment_id, name in drawn.items()}
    unknown = tuple(label.name for label in known if label.name not in names)
    return PreparedCase(values, CaseSubmission(labels, unknown=unknown, absent=tuple(absent)), remember)


class _Names:
    """Label names as they are written in the model and the store, and those that are allowed to be new."""

    def __init__(self, known: Sequence[Label], answers: SegmentLabels, segments: Sequence[mrml.Segment]) -> None:
        self._known = by_name(known)
        self._new = ByName((name, name) for name in answers.new_labels)
        self._answers = answers
        self._segments = segments
        here = {segment.name for segment in segments}
        unknown = [name for name in answers.mapping if name not in here]
        if unknown:
            raise NodeError(
                _("There is no segment called {names}.").format(names=_quoted(unknown)),
                _("The segments are called {names}.").format(names=_quoted(sorted(here))),
            )

    def label_of(self, segment: mrml.Segment, choice: LabelMatch) -> tuple[str | None, bool]:
        """(label, whether that is sure): what was said, else what is known or allowed to be new."""
        if segment.name in self._answers.mapping:
            name = self._answers.mapping[segment.name]
            return (None if name is None else self._allowed(name)), True
        if choice.kind == "left out":
            return None, True
        if choice.kind in ("same", "remembered") and choice.label is not None:
            known = self._find(choice.label)
            if known is not None:
                return known, True
        new = self._new.get(segment.name)
        return new, new is not None

    def absent(self, taken: Mapping[str, str]) -> list[str]:
        """The labels that were looked for and are not there; they may be named as their segments are."""
        by_segment = ByName((segment.name, taken.get(segment.id)) for segment in self._segments)
        found = (by_segment.get(name) or self._allowed(name) for name in self._answers.absent)
        return list(dict.fromkeys(found))

    def describe(self, name: str) -> Label:
        """Colour and code: the model's or the store's; of a new label those of its segment."""
        label = self._known.get(name)
        if label is not None:
            return label
        wanted = ByName((s, True) for s in (name, *(s for s, one in self._answers.mapping.items() if one == name)))
        segment = next((one for one in self._segments if one.name in wanted), None)
        return Label(1, name) if segment is None else Label(1, name, segment.colour, segment.terminology)

    def _allowed(self, name: str) -> str:
        found = self._find(name)
        if found is None:
            names = ", ".join(label.name for label in self._known.values()) or _("none")
            raise NodeError(
                _('There is no label "{name}" (there are: {names}).').format(name=name, names=names),
                _('For a new label, give newLabels=["{name}"].').format(name=name),
            )
        return found

    def _find(self, name: str) -> str | None:
        label = self._known.get(name)
        return label.name if label is not None else self._new.get(name)


def model_reference(segmentation: Any) -> dict[str, str] | None:
    """{"name", "version", "hash"} of the model whose result the segmentation was; None if it was none."""
    name, _at, version = (segmentation.GetAttribute(MODEL) or "").partition("@")
    digest = segmentation.GetAttribute(MODEL_HASH) or ""
    return {"name": name, "version": version, "hash": digest} if name and version and digest else None


def channel_findings(image: mrml.NodeImage, bundle: Bundle) -> list[CaseIssue]:
    """What is wrong with the number of volumes."""
    wanted = bundle.channels
    if len(image.channels) == len(wanted):
        return []
    text = _("Model {model} learns from {count} volumes ({names}) a case; {given} were given.").format(
        model=bundle.name, count=len(wanted), names=", ".join(wanted), given=len(image.channels)
    )
    return [CaseIssue("channels", ERROR, text, _("Choose one volume for each, in this order."))]


def _segment_findings(
    segmentation: Any, segments: Sequence[mrml.Segment], choices: Sequence[LabelMatch], bundle: Bundle
) -> list[CaseIssue]:
    found: list[CaseIssue] = []
    if all(segment.is_empty for segment in segments):
        text = _("Nothing is drawn in {name}.").format(name=segmentation.GetName())
        return [CaseIssue("nothing", ERROR, text, _("Segment at least one structure first."))]
    drawn = {choice.label for one, choice in zip(segments, choices, strict=True) if not one.is_empty}
    for segment, choice in zip(segments, choices, strict=True):
        if segment.is_empty and choice.label is not None and choice.label not in drawn:
            text = _("{name} is empty: it counts as not annotated.").format(name=segment.name)
            hint = _("If this scan really does not show it, give it as absent; then the model learns that, too.")
            found.append(CaseIssue("empty", WARNING, text, hint, {"segment": segment.name, "label": choice.label}))
    found += _merged(segments, choices)
    sides = {label.name for label, _own in bundle.sided}
    if any(one.name in sides and not one.is_empty for one in segments):
        text = _("{model} is made for a box around one side; from this case it learns the whole scan.")
        hint = _("For a case like its others, crop the scan to one side first and segment that.")
        found.append(CaseIssue("whole", WARNING, text.format(model=bundle.name), hint))
    having = [choice.label for choice in choices if choice.label]
    missing = [label.name for label in bundle.labels if not any(same_name(label.name, one) for one in having)]
    if missing:
        text = _("There is no segment for {names}: counted as not annotated in this case.")
        hint = _("The model learns nothing about them from this case, neither that they are there nor that not.")
        text = text.format(names=", ".join(missing))
        found.append(CaseIssue("missing", WARNING, text, hint, {"labels": missing}))
    if segmentation.GetAttribute(MODEL_HASH) and not mrml.is_edited(segmentation):
        text = _("{name} was not corrected: it is what the model made.").format(name=segmentation.GetName())
        hint = _("Correct it first, unless it is right as it is.")
        found.append(CaseIssue("unchanged", WARNING, text, hint))
    return found


def _merged(segments: Sequence[mrml.Segment], choices: Sequence[LabelMatch]) -> list[CaseIssue]:
    """Segments that become one label: perhaps they were meant to be two."""
    names: dict[str, list[str]] = {}
    for segment, choice in zip(segments, choices, strict=True):
        if not segment.is_empty and choice.kind != "left out":
            names.setdefault(loose_name(choice.label or segment.name), []).append(segment.name)
    found = []
    for label, alike in names.items():
        if len(alike) > 1:
            text = _("{names} become one label.").format(names=_quoted(alike))
            hint = _("If they are different structures, rename one of them.")
            found.append(CaseIssue("merged", WARNING, text, hint, {"label": label}))
    return found


def _unclear(segmentation: Any, choices: Sequence[LabelMatch]) -> NodeError:
    lines = [
        _('"{segment}" (perhaps {label})').format(segment=choice.segment, label=choice.label)
        if choice.label
        else _('"{segment}" (no label is called like it)').format(segment=choice.segment)
        for choice in choices
    ]
    mapping = ", ".join(f'"{choice.segment}": "{choice.label or "LABEL"}"' for choice in choices)
    new = ", ".join(f'"{choice.segment}"' for choice in choices)
    return NodeError(
        _("It is not clear which labels these segments of {name} are: {segments}.").format(
            name=segmentation.GetName(), segments=", ".join(lines)
        ),
        _(
            "Say so with mapping={{{mapping}}} (None instead of a label leaves a segment out), or with "
            "newLabels=[{new}] for labels that are new to the model."
        ).format(mapping=mapping, new=new),
        problem=UNCLEAR_SEGMENTS,
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or _("none")
