"""Candidates and everything that people decided about them, in files that only grow."""

from __future__ import annotations

import contextlib
import fcntl
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from tracetune.errors import DataError
from tracetune.files import write_json
from tracetune.review.corrections import check_correction, corrected
from tracetune.review.course import Course, Courses
from tracetune.review.decisions import Decision, OvertakenError, decide, submissions, take_back
from tracetune.review.items import (
    ACCEPTED,
    OPEN,
    Correction,
    Place,
    ReviewedItem,
    ReviewEvent,
    ReviewItem,
    ReviewSpec,
    State,
)
from tracetune.review.journal import Journal

__all__ = ["Decision", "OvertakenError", "ReviewStore"]


class ReviewStore:
    """The review of one tenant and name: ``items.jsonl``, ``history.jsonl`` and ``spec.json``.

    Several processes may use one folder: a lock lets one write at a time, and each reads what the
    others added. Every method that returns after writing has brought it to the disk.

    Args:
        folder: Where the files lie; it appears with the first candidate.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._forget()

    def __repr__(self) -> str:
        """The folder."""
        return f"ReviewStore({str(self.folder)!r})"

    def _forget(self) -> None:
        self._items = Journal(self.folder / "items.jsonl", ReviewItem)
        self._history = Journal(self.folder / "history.jsonl", ReviewEvent)
        self._courses = Courses()

    # Reading

    def items(self) -> list[ReviewedItem]:
        """All candidates with their states, in the order in which they were submitted."""
        with self._reading():
            return self._reviewed(list(self._courses.by_id.values()))

    def open_items(self) -> list[ReviewedItem]:
        """Candidates that wait for a person: the least sure first, so written anew ones lead."""
        return sorted(
            (item for item in self.items() if item.state in OPEN),
            key=lambda reviewed: reviewed.item.confidence,
        )

    def earlier(self, item: ReviewItem) -> list[ReviewedItem]:
        """The earlier writings of a candidate with what was said of them, the first one first."""
        return [
            found
            for found in self.items()
            if found.item.root == item.root and found.item.attempt < item.attempt
        ]

    def history(self) -> list[ReviewEvent]:
        """Everything that happened, in order."""
        with self._reading():
            return list(self._courses.history)

    def counts(self) -> dict[State, int]:
        """How many candidates are in each state."""
        found = Counter(item.state for item in self.items())
        return {state: found[state] for state in get_args(State)}

    def approval_rate(self) -> float:
        """Approved by people or rule over all, 0 if there are none (reference C4)."""
        counts = self.counts()
        total = sum(counts.values())
        return sum(counts[state] for state in ACCEPTED) / total if total else 0.0

    def rejected_for_rewriting(self, max_attempts: int) -> list[ReviewedItem]:
        """Rejected candidates, with the reviewers' words, that are to be written anew.

        Args:
            max_attempts: How often a candidate is written anew.
        """
        with self._reading():
            return self._reviewed(
                [
                    course
                    for course in self._courses.by_id.values()
                    if course.state == "rejected"
                    and course.item.attempt < max_attempts
                    and not self._courses.is_written_anew(course.item)
                ]
            )

    def spec(self) -> ReviewSpec:
        """What answers look like.

        Raises:
            DataError: If nothing was submitted yet, or the file is broken.
        """
        path = self.folder / "spec.json"
        try:
            return ReviewSpec.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            raise DataError(
                f"the description of the answers is {'broken' if path.exists() else 'missing'}",
                where=str(path),
                remedy="run the pipeline that submits candidates again",
            ) from None

    def check(self, item: ReviewItem, correction: Correction) -> Correction | None:
        """The correction as it would be kept; None if it changes nothing.

        Raises:
            CorrectionError: If it cannot be taken; says which part and why.
        """
        return check_correction(item, correction, self.spec())

    # Writing

    def submit(
        self,
        items: Sequence[ReviewItem],
        spec: ReviewSpec,
        *,
        auto_approve_from: float | None,
        at: str,
    ) -> int:
        """Hands candidates to the reviewers; those that are there already stay as they are.

        Args:
            items: Candidates.
            spec: What answers look like.
            auto_approve_from: Confidence from which a rule approves; None: never. What a person
                rejected and was written anew always goes to a person.
            at: Now: an ISO time with its zone.

        A candidate that was written anew is left out if the one it replaces is not rejected any
        more: somebody took the rejection back while it was being written.

        Returns:
            How many were new.

        Raises:
            DataError: If the candidates here answer for another kind of agent.
        """
        if not items and not self.folder.exists():
            return 0
        with self._writing():
            self._keep_spec(spec)
            new = {
                item.id: item
                for item in items
                if item.id not in self._courses.by_id and self._may_come(item)
            }
            self._items.append(list(new.values()))
            self._refresh()
            self._history.append(submissions(self._courses, auto_approve_from, at))
            self._refresh()
            return len(new)

    def decide(
        self,
        item_id: str,
        approved: bool,
        *,
        who: str,
        place: Place,
        at: str,
        why: str = "",
        correction: Correction | None = None,
        seen: int | None = None,
    ) -> ReviewedItem:
        """One decision; see :meth:`decide_all`."""
        decision = Decision(item_id, approved, who, at, why, correction, seen)
        return self.decide_all([decision], place=place)[0]

    def decide_all(self, decisions: Sequence[Decision], *, place: Place) -> list[ReviewedItem]:
        """Decisions about different candidates: all of them are taken, or none.

        Args:
            decisions: At most one for each candidate.
            place: Where they were made.

        Returns:
            The candidates as they are now, in the order of the decisions.

        Raises:
            OvertakenError: If somebody decided since the reviewer looked.
            CorrectionError: If a correction cannot be taken.
            DataError: If a candidate is unknown, was written anew, a rejection has no words, or
                nothing would change.
        """
        if not decisions:
            return []
        with self._writing():
            spec = self.spec()
            ids = [decision.item_id for decision in decisions]
            if len(set(ids)) < len(ids):
                raise DataError("two decisions about the same candidate at once")
            # A submission that a kill cut short: its events come first.
            self._history.append(submissions(self._courses, None, decisions[0].at))
            self._refresh()
            first = len(self._courses.history) + 1
            events = [
                decide(self._courses, decision, place, spec, first + number)
                for number, decision in enumerate(decisions)
            ]
            self._history.append(events)
            self._refresh()
            return self._reviewed([self._courses.by_id[item_id] for item_id in ids])

    def undo(self, who: str, place: Place, at: str) -> ReviewedItem:
        """Takes back the last decision of a person; the history gets one more event.

        Args:
            who: The person.
            place: Where it is taken back.
            at: Now: an ISO time with its zone.

        Returns:
            The candidate as it is now.

        Raises:
            DataError: If there is none, somebody else decided since, or the candidate was written
                anew because of it.
        """
        with self._writing():
            event = take_back(self._courses, who, place, at)
            self._history.append([event])
            self._refresh()
            return self._reviewed([self._courses.by_id[event.item]])[0]

    # Inside

    def _may_come(self, item: ReviewItem) -> bool:
        """False for a new writing of something that was approved while it was being written."""
        if item.attempt == 0:
            return True
        before = item.root if item.attempt == 1 else f"{item.root}_regen_{item.attempt - 1}"
        course = self._courses.by_id.get(before)
        return course is None or course.state == "rejected"

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        # Whoever only looks need not be allowed to write.
        with (self.folder / "lock").open("r" if kind == fcntl.LOCK_SH else "a") as handle:
            fcntl.flock(handle, kind)
            yield

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        if not (self.folder / "lock").exists():
            self._refresh()
            yield
            return
        with self._locked(fcntl.LOCK_SH):
            self._refresh()
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_EX):
            self._refresh()
            yield

    def _refresh(self) -> None:
        """Takes in what this and other processes appended."""
        if self._items.is_replaced() or self._history.is_replaced():
            self._forget()
        place = self._items.path
        try:
            for item in self._items.read_new():
                self._courses.add(item)
            place = self._history.path
            for event in self._history.read_new():
                self._courses.apply(event)
        except DataError as error:
            self._forget()
            if error.where is not None:
                raise
            raise DataError(
                error.what,
                where=str(place),
                remedy="restore the file from a copy; it is only ever appended to",
            ) from None

    def _keep_spec(self, spec: ReviewSpec) -> None:
        path = self.folder / "spec.json"
        if self._courses.by_id and path.exists():
            before = self.spec().output
            for name in ("target", "compare"):
                if getattr(before, name) != getattr(spec.output, name):
                    raise DataError(
                        f"the candidates here are of another kind of agent: output.{name} was "
                        f"{getattr(before, name)!r} and is {getattr(spec.output, name)!r}",
                        where=str(path),
                        remedy="give this run another name (--params=name=…), or move the folder",
                    )
        write_json(path, spec.model_dump(mode="json"))

    def _reviewed(self, courses: Sequence[Course]) -> list[ReviewedItem]:
        if not courses:
            return []
        spec = self.spec()
        return [_reviewed(course, spec) for course in courses]


def _reviewed(course: Course, spec: ReviewSpec) -> ReviewedItem:
    decision = course.decision
    return ReviewedItem(
        item=course.item,
        state=course.state,
        final=corrected(course.item, decision.correction if decision else None, spec),
        why=decision.why if decision else "",
        who=decision.who if decision else "",
        at=decision.at if decision else None,
        seq=course.last,
    )
