"""The state of candidates, derived from the history of their review and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tracetune.errors import DataError
from tracetune.review.items import ReviewEvent, ReviewItem, State

RULE: Final = "rule"
"""``who`` and ``place`` of what no person decided."""


def first_state(item: ReviewItem) -> State:
    """The state in which a candidate waits for a person."""
    return "regenerated" if item.attempt else "pending_review"


@dataclass
class Course:
    """What became of one candidate.

    Attributes:
        item: The candidate as it was written.
        standing: Events that count, in order: its submission, then decisions not taken back.
        last: ``seq`` of the last event about it, whatever it was.
    """

    item: ReviewItem
    standing: list[ReviewEvent] = field(default_factory=list)
    last: int = 0

    @property
    def state(self) -> State:
        """Its state now."""
        return self.standing[-1].after if self.standing else first_state(self.item)

    @property
    def decision(self) -> ReviewEvent | None:
        """The decision that counts; None while it is open."""
        if len(self.standing) > 1:
            return self.standing[-1]
        if self.standing and self.standing[0].after == "auto_approved":
            return self.standing[0]
        return None


class Courses:
    """All candidates of a review, in the order in which they were submitted."""

    def __init__(self) -> None:
        self.by_id: dict[str, Course] = {}
        self.history: list[ReviewEvent] = []
        self._latest: dict[str, ReviewItem] = {}

    def add(self, item: ReviewItem) -> None:
        """A further candidate.

        Raises:
            DataError: If it is there already.
        """
        if item.id in self.by_id:
            raise DataError(f"the candidate {item.id} stands there twice")
        self.by_id[item.id] = Course(item)
        self._latest[item.root] = max(
            self._latest.get(item.root, item), item, key=lambda writing: writing.attempt
        )

    def latest(self, item: ReviewItem) -> ReviewItem:
        """The last writing of a candidate."""
        return self._latest[item.root]

    def is_written_anew(self, item: ReviewItem) -> bool:
        """Whether a later writing of the candidate exists."""
        return item.attempt < self.latest(item).attempt

    def apply(self, event: ReviewEvent) -> None:
        """A further event of the history.

        Raises:
            DataError: If it contradicts the events before it.
        """
        course = self.by_id.get(event.item)
        if course is None:
            raise DataError(f"event {event.seq} is about {event.item}, which was never submitted")
        if event.seq != len(self.history) + 1:
            raise DataError(f"event {event.seq} stands where {len(self.history) + 1} is expected")
        before = course.state if course.standing else None
        if event.before != before:
            raise DataError(
                f"event {event.seq} finds {event.item} {event.before}, but it was {before}"
            )
        if event.undoes is None:
            course.standing.append(event)
        else:
            if len(course.standing) < 2 or course.standing[-1].seq != event.undoes:
                raise DataError(
                    f"event {event.seq} takes back {event.undoes}, but that is not last"
                )
            course.standing.pop()
        course.last = event.seq
        self.history.append(event)

    def last_decision_of(self, who: str) -> ReviewEvent | None:
        """The last decision of a person that was not taken back."""
        undone = {event.undoes for event in self.history}
        for event in reversed(self.history):
            decided = event.undoes is None and event.place != RULE
            if decided and event.who == who and event.seq not in undone:
                return event
        return None
