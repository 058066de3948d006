"""What people and machines said about the routing decisions."""

from __future__ import annotations

import json
import random

from tools.sample.language import Grammar
from tools.sample.plan import CONFUSIONS, History, Routing
from tools.sample.private import in_requests
from tools.sample.reviewing import REVIEWERS, Annotation, Reviewing
from tools.sample.spans import SEED


class Reviews(Reviewing):
    """Annotations in the order in which they are posted.

    Attributes:
        first: Span annotations of the daily review.
        late: Span annotations posted afterwards: second thoughts, corrections of corrections.
        notes: Notes on spans.
        sessions: Session annotations.
    """

    def __init__(self, history: History, grammar: Grammar) -> None:
        """Reviews the whole history."""
        super().__init__(random.Random(f"reviews:{SEED}"), grammar.shared["feedback"])
        self.agents = list(grammar.topics)
        self.notes: list[Annotation] = []
        self.sessions: list[Annotation] = []
        for item in history.routings:
            self._machines(item)
            if self.rng.random() < 0.82:
                self._person(item)
        for session in history.sessions:
            if self.rng.random() < 0.4:
                self._session(session)

    def _person(self, item: Routing) -> None:
        rng = self.rng
        reviewer, second = rng.sample(REVIEWERS, 2)
        if item.said is None:
            self._verdict(item, reviewer, rng.random() < 0.3)
            return
        if rng.random() < 0.012:
            self._unsure(item, reviewer)
            return
        right = item.said == item.truth
        if rng.random() < 0.03:
            right = not right  # people err, too
        (self._right if right else self._wrong)(item, reviewer, second)

    def _right(self, item: Routing, reviewer: str, second: str) -> None:
        rng, chance = self.rng, self.rng.random()
        if chance < 0.02:
            # Agreement written down as a correction, which corrects nothing.
            correction = {"corrected_output": item.span.attributes["output.value"]}
            self._verdict(item, reviewer, True, metadata=correction)
            return
        note = rng.choice(self.words["approved"]) if rng.random() < 0.1 else None
        self._verdict(item, reviewer, True, explanation=note)
        if chance < 0.045:
            self._verdict(item, second, False, explanation=rng.choice(self.words["rejected"]))
        elif chance < 0.085:
            # Another reviewer names the answer that would have been the wrong one.
            worse = rng.choice([a for a in CONFUSIONS[item.said or ""] if a != item.said])
            rejected = {"rejected_output": json.dumps({item.key: worse})}
            self._verdict(item, second, False, metadata=rejected)
        elif chance < 0.10:
            worse = rng.choice([a for a in self.agents if a != item.said])
            self.first[-1]["metadata"] = {"rejected_output": json.dumps({item.key: worse})}
        elif chance < 0.14:
            self._verdict(item, second, True)

    def _wrong(self, item: Routing, reviewer: str, second: str) -> None:
        rng, chance = self.rng, self.rng.random()
        target = item.truth
        if target == item.said:  # the reviewer errs: a neighbour seems better
            target = rng.choice([a for a in CONFUSIONS[item.truth] if a != item.said])
        answer = json.dumps({"agent": target})
        why = rng.choice(self.words["rejected"]) if rng.random() < 0.4 else None
        if chance < 0.06:
            self._verdict(item, reviewer, False, explanation=answer)
        elif chance < 0.15:
            self._verdict(item, reviewer, False, explanation=why)
        elif chance < 0.17:
            self._verdict(item, reviewer, False, metadata={"corrected_output": target})
        else:
            self._verdict(
                item, reviewer, False, explanation=why, metadata={"corrected_output": answer}
            )
            if chance < 0.22:
                self._verdict(item, second, True)
            elif chance < 0.26:
                # The first correction was off; a colleague puts it right days later.
                off = rng.choice([a for a in self.agents if a not in (item.said, target)])
                self.first[-1]["metadata"] = {"corrected_output": json.dumps({"agent": off})}
                self._verdict(item, second, False, late=True, metadata={"corrected_output": answer})
            elif chance < 0.29:
                # The reviewer changes an own verdict: the server keeps the last one only.
                self.first[-1] = self.first[-1] | {"result": {"label": "approved"}}
                del self.first[-1]["metadata"]
                self._verdict(
                    item, reviewer, False, late=True, metadata={"corrected_output": answer}
                )

    def _machines(self, item: Routing) -> None:
        """Verdicts and names that never decide."""
        rng = self.rng
        if rng.random() < 0.08:
            self._verdict(item, "judge-v2", rng.random() < 0.7, kind="LLM")
        if rng.random() < 0.03:
            self._verdict(item, "schema-check", item.said is not None, kind="CODE")
        if rng.random() < 0.05:
            self._verdict(item, rng.choice(REVIEWERS), rng.random() < 0.6, name="helpfulness")
        if rng.random() < 0.015:
            mail = rng.choice(in_requests()["email"])
            self.notes.append(
                {
                    "span_id": item.span.span_id,
                    "note": f"asked {mail} whether this was meant",
                    "identifier": f"note-{len(self.notes)}",
                }
            )

    def _session(self, session: str) -> None:
        rng = self.rng
        label, score = rng.choice(
            [("success", 1.0), ("success", 0.9), ("partial", 0.5), ("failure", 0.0)]
        )
        self.sessions.append(
            {
                "session_id": session,
                "name": "session_evaluation",
                "annotator_kind": "HUMAN",
                "identifier": rng.choice(REVIEWERS),
                "result": {"label": label, "score": score},
            }
        )
        if rng.random() < 0.1:
            self.sessions.append(
                self.sessions[-1]
                | {
                    "annotator_kind": "LLM",
                    "identifier": "judge-v2",
                    "result": {"label": "success"},
                }
            )
