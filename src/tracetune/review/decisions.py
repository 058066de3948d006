"""The rules of a review: which event follows from what somebody decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tracetune.errors import DataError
from tracetune.privacy import redact
from tracetune.review.corrections import check_correction
from tracetune.review.course import RULE, Course, Courses, first_state
from tracetune.review.items import OPEN, Correction, Place, ReviewEvent, ReviewSpec, State


@dataclass(frozen=True)
class Decision:
    """What somebody decides about a candidate.

    Attributes:
        item_id: The candidate.
        approved: Approved, or rejected.
        who: The person.
        at: When: an ISO time with its zone.
        why: Words; a rejection needs some.
        correction: What was edited; only with an approval.
        seen: ``seq`` of the candidate as the person saw it. None: it was open.
    """

    item_id: str
    approved: bool
    who: str
    at: str
    why: str = ""
    correction: Correction | None = None
    seen: int | None = None


class OvertakenError(DataError):
    """Somebody else decided after the reviewer had looked."""


def submissions(courses: Courses, auto_approve_from: float | None, at: str) -> list[ReviewEvent]:
    """Events of candidates that have none; also of those whose submission was cut short.

    Args:
        courses: All candidates.
        auto_approve_from: Confidence from which a rule approves; None: never. What a person
            rejected and was written anew always goes to a person.
        at: Now.
    """
    new = [course.item for course in courses.by_id.values() if not course.standing]
    events = []
    for seq, item in enumerate(new, start=len(courses.history) + 1):
        after, why = first_state(item), ""
        sure = auto_approve_from is not None and item.confidence >= auto_approve_from
        if sure and not item.attempt:
            after = "auto_approved"
            why = f"confidence {item.confidence:g} reaches {auto_approve_from:g}"
        events.append(_event(seq, at, RULE, RULE, item.id, None, after, why=why))
    return events


def decide(
    courses: Courses, decision: Decision, place: Place, spec: ReviewSpec, seq: int
) -> ReviewEvent:
    """The event of a decision.

    Args:
        courses: All candidates.
        decision: What was decided.
        place: Where.
        spec: What answers look like.
        seq: Position of the event.

    Raises:
        OvertakenError: If somebody decided since the reviewer looked.
        CorrectionError: If the correction cannot be taken.
        DataError: If the candidate is unknown or was written anew, a rejection has no words, or
            nothing would change.
    """
    course = courses.by_id.get(decision.item_id)
    if course is None:
        raise DataError(
            "there is no such candidate",
            where=decision.item_id,
            remedy="check the id, the tenant and the name",
        )
    _refuse_overtaken(course, decision)
    _refuse_written_anew(courses, course)
    if not decision.who.strip():
        raise DataError("a decision needs somebody who decides", where=decision.item_id)
    correction = _correction(course, decision, spec)
    # The words go into files and to whoever writes the candidate anew.
    why = redact(decision.why.strip())
    standing = course.decision
    after: State = "approved" if decision.approved else "rejected"
    found = (after, correction, why)
    if standing and (standing.after, standing.correction, standing.why) == found:
        raise DataError(
            f"it is {after} already, by {standing.who}; nothing would change",
            where=decision.item_id,
            remedy="leave it as it is, or decide otherwise",
        )
    before = course.state
    return _event(
        seq, decision.at, decision.who, place, decision.item_id, before, after, why, correction
    )


def take_back(courses: Courses, who: str, place: Place, at: str) -> ReviewEvent:
    """The event that takes back the last decision of a person.

    Raises:
        OvertakenError: If somebody else decided about the candidate since.
        DataError: If there is no decision, or the candidate was written anew because of it.
    """
    last = courses.last_decision_of(who)
    if last is None:
        raise DataError(f"{who} has decided nothing that could be taken back")
    course = courses.by_id[last.item]
    standing = course.standing[-1]
    if standing.seq != last.seq:
        raise OvertakenError(
            f"{standing.who} decided about it after {who}",
            where=last.item,
            remedy="decide about it anew instead",
        )
    _refuse_written_anew(courses, course)
    seq, after = len(courses.history) + 1, course.standing[-2].after
    return _event(seq, at, who, place, last.item, course.state, after, undoes=last.seq)


def _event(
    seq: int,
    at: str,
    who: str,
    place: Place,
    item: str,
    before: State | None,
    after: State,
    why: str = "",
    correction: Correction | None = None,
    undoes: int | None = None,
) -> ReviewEvent:
    return ReviewEvent(
        seq=seq,
        at=_moment(at),
        who=who,
        place=place,
        item=item,
        before=before,
        after=after,
        why=why,
        correction=correction,
        undoes=undoes,
    )


def _moment(at: str) -> datetime:
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError(f"the time {at!r} has no zone")
    return moment


def _refuse_overtaken(course: Course, decision: Decision) -> None:
    if course.state in OPEN or course.last == decision.seen:
        return
    standing = course.standing[-1]
    raise OvertakenError(
        f"{standing.who} decided meanwhile ({standing.after}, {standing.at:%Y-%m-%d %H:%M} UTC)",
        where=decision.item_id,
        remedy="look at it again before you change that",
    )


def _refuse_written_anew(courses: Courses, course: Course) -> None:
    if courses.is_written_anew(course.item):
        raise DataError(
            "it was rejected and written anew since",
            where=course.item.id,
            remedy=f"decide about {courses.latest(course.item).id} instead",
        )


def _correction(course: Course, decision: Decision, spec: ReviewSpec) -> Correction | None:
    if decision.approved:
        return check_correction(course.item, decision.correction, spec)
    if decision.correction is not None:
        raise DataError(
            "a rejected candidate takes no correction",
            where=decision.item_id,
            remedy="approve it with the correction, or reject it without one",
        )
    if not decision.why.strip():
        raise DataError(
            "a rejection needs a reason",
            where=decision.item_id,
            remedy="say in a few words what is wrong; whoever writes it anew reads them",
        )
    return None
