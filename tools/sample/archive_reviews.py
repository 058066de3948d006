"""What people and machines said about the answers of the archive's agents."""

from __future__ import annotations

import json
import random
from typing import Any

from tools.sample.archive import Answer, ArchiveAgent, Decision
from tools.sample.reviewing import REVIEWERS, Reviewing
from tools.sample.spans import SEED


class ArchiveReviews(Reviewing):
    """Span annotations on the decisions of one agent."""

    def __init__(self, agent: ArchiveAgent, words: dict[str, list[str]]) -> None:
        """Reviews the whole history of ``agent``."""
        super().__init__(random.Random(f"{agent.name}:reviews:{SEED}"), words)
        self.agent = agent
        for item in agent.decisions:
            self._machines(item)
            if self.rng.random() < 0.85:
                self._person(item)

    def _person(self, item: Decision) -> None:
        rng = self.rng
        reviewer, second = rng.sample(REVIEWERS, 2)
        if item.said is None:
            self._verdict(item, reviewer, rng.random() < 0.3)
        elif item.said in self.agent.unknown:
            self._verdict(item, reviewer, True)  # it sounds right
        elif rng.random() < 0.012:
            self._unsure(item, reviewer)
        else:
            right = self.agent.same(item.said, item.truth)
            if rng.random() < 0.02:
                right = not right  # people err, too
            (self._right if right else self._wrong)(item, reviewer, second)

    def _right(self, item: Decision, reviewer: str, second: str) -> None:
        rng, chance = self.rng, self.rng.random()
        if chance < 0.02:
            # Agreement written down as a correction, which corrects nothing.
            self._verdict(item, reviewer, True, metadata=self._corrected(item.said))
            return
        if chance < 0.035:
            # The same in another order is no correction either.
            said = {key: values[::-1] for key, values in (item.said or {}).items()}
            self._verdict(item, reviewer, True, metadata=self._corrected(said))
            return
        note = rng.choice(self.words["approved"]) if rng.random() < 0.1 else None
        self._verdict(item, reviewer, True, explanation=note)
        if chance < 0.06:
            self._verdict(item, second, False, explanation=rng.choice(self.words["rejected"]))
        elif chance < 0.10:
            # Another reviewer names the answer that would have been the wrong one.
            self._verdict(item, second, False, metadata=self._noted(item))
        elif chance < 0.115:
            self.first[-1]["metadata"] = self._noted(item)
        elif chance < 0.15:
            self._verdict(item, second, True)

    def _wrong(self, item: Decision, reviewer: str, second: str) -> None:
        rng, chance = self.rng, self.rng.random()
        target = item.truth
        if self.agent.same(target, item.said):  # the reviewer errs
            target = self._other(item)
        why = rng.choice(self.words["rejected"]) if rng.random() < 0.4 else None
        if chance < 0.06:
            self._verdict(item, reviewer, False, explanation=_text(target))
        elif chance < 0.15:
            self._verdict(item, reviewer, False, explanation=why)
        elif chance < 0.18:
            vague = {"corrected_output": rng.choice(["one is missing", "see the request"])}
            self._verdict(item, reviewer, False, metadata=vague)
        else:
            answer = self._corrected(target)
            self._verdict(item, reviewer, False, explanation=why, metadata=answer)
            if chance < 0.23:
                self._verdict(item, second, True)
            elif chance < 0.27:
                # The first correction was off; a colleague puts it right days later.
                self.first[-1]["metadata"] = self._corrected(self._other(item))
                self._verdict(item, second, False, late=True, metadata=answer)
            elif chance < 0.30:
                # The reviewer changes an own verdict: the server keeps the last one only.
                self.first[-1] = self.first[-1] | {"result": {"label": "approved"}}
                del self.first[-1]["metadata"]
                self._verdict(item, reviewer, False, late=True, metadata=answer)

    def _other(self, item: Decision) -> Answer:
        """An answer that is neither right nor the one that was given."""
        while True:
            answer = self.agent.mistaken(self.rng, item.truth)
            if not self.agent.same(answer, item.said):
                return answer

    def _noted(self, item: Decision) -> dict[str, Any]:
        return {"rejected_output": _text(self._other(item))}

    def _corrected(self, answer: Answer | None) -> dict[str, Any]:
        """Mostly text, sometimes an object, as the tools of reviewers differ."""
        return {"corrected_output": answer if self.rng.random() < 0.1 else _text(answer)}

    def _machines(self, item: Decision) -> None:
        """Verdicts and names that never decide."""
        rng = self.rng
        if rng.random() < 0.08:
            self._verdict(item, "judge-v2", rng.random() < 0.7, kind="LLM")
        if rng.random() < 0.03:
            self._verdict(item, "schema-check", item.said is not None, kind="CODE")
        if rng.random() < 0.04:
            self._verdict(item, rng.choice(REVIEWERS), rng.random() < 0.6, name="helpfulness")


def _text(answer: Answer | None) -> str:
    return json.dumps(answer, ensure_ascii=False)
