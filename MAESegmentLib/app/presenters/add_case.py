"""Adding a corrected case: at once if nothing is unclear, else after the user has answered a few questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...cases.mapping import LabelMatch
from ...cases.records import CHECK, TRAIN, CaseRecord
from ...cases.submission import ERROR, CaseIssue
from ...errors import MAESegmentError
from ...jobs import Job
from ...translation import tr as _
from ..texts.learning import added_text, issues_text, labels_text
from .elements import Option, Question
from .label_questions import ABSENT, LEFT_OUT, NEW, OPEN, LabelQuestion, empty_question, segment_question
from .presenter import CaseHost, Presenter, in_background

#: Kinds of `LabelMatch` that a user must look at.
_UNCLEAR = ("similar", "new")
#: Kinds of `CaseIssue`: asked as a row of its own; asked by the text; no reason to ask.
_EMPTY, _DUPLICATE, _MISSING = "empty", "duplicate", "missing"


@dataclass(frozen=True)
class CaseQuestion:
    """What is asked before a case is stored; `missing` says why it cannot be confirmed yet."""

    text: str
    rows: tuple[LabelQuestion, ...] = ()
    issues: str = ""
    update_of: str = ""
    missing: str = ""

    @property
    def confirm_text(self) -> str:
        return _("Update") if self.update_of else _("Add")

    @property
    def rest_text(self) -> str:
        """Of the button for all that is not answered, as where another tool drew a hundred structures; "" if there is
        hardly any."""
        count = sum(row.answer == OPEN for row in self.rows)
        return _("Leave out the other {n}").format(n=count) if count > 1 else ""


@dataclass(frozen=True)
class AddCaseState:
    """`blocked` says why no case can be added now; `added` is a quiet line about the case stored or removed last.

    `was_edited` asks whether a stored case is updated that was edited in the scene since.
    """

    blocked: str = ""
    is_busy: bool = False
    has_region: bool = False
    only_region: bool = True
    role: str = TRAIN
    added: str = ""
    question: CaseQuestion | None = None
    was_edited: str = ""

    @property
    def asks(self) -> Question | None:
        """About the edited case, which waits while another one is stored or asked about."""
        if not self.was_edited or self.is_busy or self.question:
            return None
        later = _("It can be updated later by Add corrected case.")
        options = Option("update_edited", _("Update")), Option("postpone_edited", _("Not now"), later)
        return Question(self.was_edited, options)

    @property
    def can_add(self) -> bool:
        return not (self.blocked or self.is_busy or self.question)

    @property
    def button_text(self) -> str:
        return _("Adding...") if self.is_busy else _("Add corrected case")

    @property
    def tip(self) -> str:
        """Of the button."""
        return self.blocked or _(
            "Copy the scan and its segmentation, without names or dates of a patient, into the folder of corrected "
            "cases, from which the model can learn."
        )


@dataclass(frozen=True)
class _Target:
    """What is stored, for the family of which model, and as which case."""

    bundle: Any
    scan: Any
    segmentation: Any
    update_of: str = ""
    how: Mapping[str, Any] = field(default_factory=dict)


class AddCasePresenter(Presenter[AddCaseState]):
    """One case at a time."""

    def __init__(self, logic: Any, host: CaseHost, changed: Callable[[], None]) -> None:
        super().__init__(logic, host, AddCaseState(), changed)
        self._reason = ""
        self._matches: tuple[LabelMatch, ...] = ()
        self._errors: list[CaseIssue] = []
        self._subject: tuple[Any, ...] = ()
        #: What the question is about.
        self._asked: _Target | None = None
        self._edited: tuple[CaseRecord, _Target] | None = None
        self._declined: set[tuple[str, int]] = set()

    # What happens around ----------------------------------------------------------------------------------------------

    def update(self, reason: str = "") -> None:
        """After each change in the panel. `reason` says why nothing can be stored, beside what is missing here."""
        self._reason = reason
        self._put(blocked=reason or self._missing(), has_region=self._host.roi is not None)
        if self._subject != self._shown():
            # What was said and asked of another scan or model would read as if it were of this one.
            self._subject = self._shown()
            self._put(question=None, added="")
        if self._edited is not None and not self._can_update(self._edited[1]):
            self._forget_edited()
        self._check_answers()

    def look_for_edits(self) -> None:
        """Ask about a stored case that was edited in the scene, once for each state. It hashes voxels: not often."""
        state, bundle = self.state, self._host.bundle
        if state.is_busy or state.question or state.was_edited or self._reason or bundle is None:
            return
        try:
            changed = self._logic.changedCases(bundle)
        except (MAESegmentError, OSError) as error:
            self._host.failed(error)
            return
        for segmentation, record in changed:
            target = _Target(bundle, self._logic.scanOf(segmentation), segmentation, record.id)
            if (segmentation.GetID(), record.revision) not in self._declined and self._can_update(target):
                self._edited = (record, target)
                text = _("{segmentation} was edited since it was stored as {case}. Update stored case?")
                self._put(was_edited=text.format(segmentation=segmentation.GetName(), case=record.id))
                return

    def clear(self) -> None:
        """The scene is closed."""
        self._declined.clear()
        self._forget_edited()
        self._put(question=None, added="")

    def removed(self, case: str) -> None:
        """A stored case was deleted: nothing that was said or asked of it holds any more."""
        if self._edited is not None and self._edited[0].id == case:
            self._forget_edited()
        if self.state.question is not None and self.state.question.update_of == case:
            self._put(question=None)
        self._put(added=_("{case} was removed.").format(case=case))

    # What the user does -----------------------------------------------------------------------------------------------

    def set_role(self, role: str) -> None:
        self._put(role=role)

    def set_only_region(self, only: bool) -> None:
        self._put(only_region=only)

    def add(self, *, check_names: bool = False) -> None:
        """Store what is chosen; asks first if something is unclear, or if `check_names`."""
        if not self.state.can_add:
            return
        host, subject = self._host, self._shown()
        target = _Target(host.bundle, host.scan, host.segmentation)

        def propose() -> None:
            if subject == self._shown():
                proposal = self._logic.proposeCase(target.scan, target.segmentation, target.bundle)
                self._put(is_busy=False)
                self._go_on(proposal, target, check_names=check_names)
            else:
                self._put(is_busy=False)

        self._identified(target, propose)

    def answer(self, row: int, key: str) -> None:
        """Of the question's row `row`, the option with `key`."""
        question = self.state.question
        if question is not None and 0 <= row < len(question.rows):
            rows = list(question.rows)
            if any(option.key == key for option in rows[row].options):
                rows[row] = replace(rows[row], answer=key)
                self._put(question=replace(question, rows=tuple(rows)))
                self._check_answers()

    def leave_out_rest(self) -> None:
        """All that is not answered yet."""
        question = self.state.question
        if question is not None:
            rows = (replace(row, answer=LEFT_OUT) if row.answer == OPEN else row for row in question.rows)
            self._put(question=replace(question, rows=tuple(rows)))
            self._check_answers()

    def confirm(self) -> None:
        """Store it with the answers."""
        question, target = self.state.question, self._asked
        if question is None or question.missing or target is None:
            return
        rows = question.rows
        answers = {
            "mapping": self._mapping(rows),
            "newLabels": tuple(row.name for row in rows if row.answer == NEW),
            "absent": tuple(row.name for row in rows if row.answer == ABSENT),
        }
        self._put(question=None)
        self._store(self._described(target, question.update_of, answers))

    def cancel(self) -> None:
        """Store nothing."""
        self._put(question=None)

    def update_edited(self) -> None:
        """Store the edited segmentation, which need not be the chosen one, in place of its case."""
        edited = self._forget_edited()
        if edited is not None and self._can_update(edited[1]):
            self._identified(edited[1], lambda: self._store(edited[1]))

    def postpone_edited(self) -> None:
        """Ask again only after it was stored again."""
        edited = self._forget_edited()
        if edited is not None:
            self._declined.add((edited[1].segmentation.GetID(), edited[0].revision))

    # ------------------------------------------------------------------------------------------------------------------

    def _shown(self) -> tuple[Any, ...]:
        """What an answer is about. Each family of models has a store and labels of its own."""
        bundle = self._host.bundle
        return bundle.content_hash if bundle is not None else "", self._host.volume, self._host.segmentation

    def _can_update(self, target: _Target) -> bool:
        """Whether the edited nodes are in the scene still, and the model is chosen that they were looked for with."""
        bundle = self._host.bundle
        return (
            bundle is not None
            and bundle.content_hash == target.bundle.content_hash
            and all(node is not None and node.GetScene() is not None for node in (target.scan, target.segmentation))
        )

    def _forget_edited(self) -> tuple[CaseRecord, _Target] | None:
        """Ask about it no more; what was asked about."""
        edited, self._edited = self._edited, None
        self._put(was_edited="")
        return edited

    def _missing(self) -> str:
        host = self._host
        if host.bundle is None:
            return _("Choose a model.")
        if host.volume is None:
            return _("Choose a scan.")
        if host.segmentation is None:
            return _("Segment the scan and correct the result first, or choose a segmentation.")
        return ""

    def _identified(self, target: _Target, then: Callable[[], None]) -> None:
        """`then`, once its scan was compared with the stored ones; in a thread, for that reads all its voxels."""

        def done(looking: Job[None]) -> None:
            if self._is_closed:
                return
            try:
                looking.result()
                then()
            except Exception as problem:
                self._failed(problem)

        self._put(is_busy=True, added="")
        try:
            look = self._logic.identifyScan(target.scan, target.segmentation, target.bundle)
        except Exception as error:
            self._failed(error)
            return
        in_background(self._logic.session.loop, look, done)

    def _go_on(self, proposal: Any, target: _Target, *, check_names: bool) -> None:
        known = proposal.stored or proposal.duplicate
        if proposal.stored is not None and not proposal.isChanged and not check_names:
            self._put(added=_("It is stored already as {case}, and nothing changed since.").format(case=known.id))
            return
        issues = [one for one in proposal.findings if one.kind != _DUPLICATE]
        unclear = any(match.kind in _UNCLEAR for match in proposal.choices)
        self._matches = tuple(proposal.choices)
        if not (known or unclear or check_names or any(one.kind != _MISSING for one in issues)):
            self._store(self._described(target, "", {}))
            return
        self._asked = target
        self._errors = [one for one in issues if one.severity == ERROR]
        lines = []
        if known is not None:
            text = _("This scan is stored already as {case} ({labels}). Update stored case?")
            lines.append(text.format(case=known.id, labels=labels_text(known)))
        if unclear or check_names:
            lines.append(_("Which label is each segment? Your choices are remembered."))
        shown = [match for match in proposal.choices if check_names or unclear or match.kind != "same"]
        # What no label is like stands last: of another tool's structures, those that matter come first.
        ordered = sorted(shown, key=lambda match: match.kind == "new")
        rows = [segment_question(match, proposal.modelLabels) for match in ordered]
        empty = dict.fromkeys(str(one.details["label"]) for one in issues if one.kind == _EMPTY)
        question = CaseQuestion(
            "\n".join(lines) or _("Before it is stored:"),
            (*rows, *map(empty_question, empty)),
            issues_text([one for one in issues if one.kind != _EMPTY]),
            known.id if known is not None else "",
        )
        self._put(question=question)
        self._check_answers()

    def _check_answers(self) -> None:
        question = self.state.question
        if question is not None:
            self._put(question=replace(question, missing=self._why_not(question.rows)))

    def _why_not(self, rows: Sequence[LabelQuestion]) -> str:
        if self.state.blocked:
            return self.state.blocked
        if self._errors:
            return f"{self._errors[0].message} {self._errors[0].hint}".strip()
        unanswered = next((row for row in rows if row.answer == OPEN), None)
        if unanswered is not None:
            return _("Say what {segment} is.").format(segment=unanswered.name)
        if not any(self._mapping(rows).values()):
            return _("All segments are left out: there is nothing to store.")
        return ""

    def _mapping(self, rows: Sequence[LabelQuestion]) -> dict[str, str | None]:
        """Segment -> label, as answered or proposed; None: it is left out."""
        answered = {row.name: row.label for row in rows if not row.is_empty}
        return {match.segment: answered.get(match.segment, match.label) for match in self._matches}

    def _described(self, target: _Target, update_of: str, answers: Mapping[str, Any]) -> _Target:
        """With what is chosen and answered. A case that is updated keeps its role."""
        host, state = self._host, self.state
        how = {
            **answers,
            "role": "" if update_of else state.role,
            "region": host.roi if state.only_region else None,
        }
        return replace(target, update_of=update_of, how=how)

    def _store(self, target: _Target) -> None:
        self._put(is_busy=True)
        try:
            job = self._logic.addCase(
                target.scan,
                target.segmentation,
                target.bundle,
                update=target.update_of or None,
                wait=False,
                **target.how,
            )
        except Exception as error:
            self._failed(error)
            return
        job.add_listener(lambda job: self._on_job(job, target))
        self._on_job(job, target)

    def _on_job(self, job: Any, target: _Target) -> None:
        if not job.is_finished or not self.state.is_busy or self._is_closed:
            return
        if job.error is not None:
            self._failed(job.error)
        else:
            if self._edited is not None and self._edited[1].segmentation is target.segmentation:
                self._forget_edited()
            self._put(is_busy=False, added="\n".join([added_text(job.result()), *job.notes]))
        self._host.refresh()

    def _put(self, **changes: Any) -> None:
        was_busy = self.state.is_busy
        super()._put(**changes)
        if self.state.is_busy != was_busy:
            self._host.set_storing(self.state.is_busy)

    def _failed(self, error: Exception) -> None:
        self._put(is_busy=False)
        self._host.failed(error)


def role_options() -> tuple[Option, ...]:
    """What a case may be for."""
    return Option(TRAIN, _("Training case")), Option(CHECK, _("Validation case"))
