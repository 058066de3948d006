"""The store against a plain model of its rules, over any order of what people may do."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.review.builders import AT, SPEC, item
from tracetune.errors import DataError
from tracetune.review.items import Correction
from tracetune.review.store import ReviewStore

OPEN = ("pending_review", "regenerated")
PEOPLE = st.sampled_from(["ada", "bob"])
NUMBERS = st.integers(1, 4)
ATTEMPTS = st.integers(0, 2)
EDIT = Correction(request="where is my bill")


@dataclass
class Model:
    """One candidate: decisions that count, as (who, state, why, edited, number of the event)."""

    first: str
    stack: list[tuple[str, str, str, bool, int]] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.stack[-1][1] if self.stack else self.first


class StoreRules(RuleBasedStateMachine):
    """Two processes' views of one folder; every rule goes through one of them."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.stores = [ReviewStore(self.folder / "reviews") for _ in range(2)]
        self.model: dict[tuple[int, int], Model] = {}
        self.decided: list[tuple[str, tuple[int, int], int]] = []
        self.events = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_anew(self, key: tuple[int, int]) -> bool:
        return any(number == key[0] and attempt > key[1] for number, attempt in self.model)

    @rule(number=NUMBERS, attempt=ATTEMPTS, sure=st.booleans(), auto=st.booleans(), via=NUMBERS)
    def submit(self, number: int, attempt: int, sure: bool, auto: bool, via: int) -> None:
        given = item(number, attempt=attempt, confidence=0.9 if sure else 0.5)
        threshold = 0.85 if auto else None
        new = self.stores[via % 2].submit([given], SPEC, auto_approve_from=threshold, at=AT)
        key = (number, attempt)
        # What replaces something that is not rejected (any more) is left out.
        before = self.model.get((number, attempt - 1))
        wanted = before is None or before.state == "rejected"
        assert new == (key not in self.model and wanted)
        if new:
            waits = "regenerated" if attempt else "pending_review"
            self.model[key] = Model("auto_approved" if auto and sure and not attempt else waits)
            self.events += 1

    @rule(
        number=NUMBERS,
        attempt=ATTEMPTS,
        who=PEOPLE,
        approved=st.booleans(),
        why=st.sampled_from(["", "bad"]),
        edited=st.booleans(),
        looked=st.booleans(),
        via=NUMBERS,
    )
    def decide(
        self,
        number: int,
        attempt: int,
        who: str,
        approved: bool,
        why: str,
        edited: bool,
        looked: bool,
        via: int,
    ) -> None:
        key = (number, attempt)
        given = item(number, attempt=attempt)
        store = self.stores[via % 2]
        shown = [found for found in store.items() if found.item.id == given.id]
        found = self.model.get(key)
        after = "approved" if approved else "rejected"
        allowed = found is not None and not self.is_anew(key)
        allowed = allowed and (approved or (bool(why) and not edited))
        if found is not None and found.state not in OPEN:
            same = found.stack and found.stack[-1][1:4] == (after, why, edited)
            allowed = allowed and looked and not same
        arguments: dict[str, Any] = {
            "who": who,
            "place": "terminal",
            "at": AT,
            "why": why,
            "correction": EDIT if edited else None,
            "seen": shown[0].seq if looked and shown else None,
        }
        if not allowed:
            with pytest.raises(DataError):
                store.decide(given.id, approved, **arguments)
            return
        assert found is not None
        now = store.decide(given.id, approved, **arguments)
        self.events += 1
        found.stack.append((who, after, why, edited, self.events))
        self.decided.append((who, key, self.events))
        assert (now.state, now.who, now.why) == (after, who, why)

    @rule(who=PEOPLE, via=NUMBERS)
    def undo(self, who: str, via: int) -> None:
        own = [entry for entry in self.decided if entry[0] == who]
        store = self.stores[via % 2]
        if not own or self.is_anew(own[-1][1]) or self.model[own[-1][1]].stack[-1][4] != own[-1][2]:
            with pytest.raises(DataError):
                store.undo(who, "terminal", AT)
            return
        _, key, _ = own[-1]
        store.undo(who, "terminal", AT)
        self.events += 1
        self.decided.remove(own[-1])
        self.model[key].stack.pop()

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        for store in [*self.stores, ReviewStore(self.folder / "reviews")]:
            shown = {(f.item.id): f for f in store.items()}
            assert len(shown) == len(self.model)
            for (number, attempt), model in self.model.items():
                found = shown[item(number, attempt=attempt).id]
                assert found.state == model.state
                edited = bool(model.stack and model.stack[-1][3])
                assert (found.final != found.item) == edited
            history = store.history()
            assert [event.seq for event in history] == list(range(1, self.events + 1))
            assert sum(store.counts().values()) == len(self.model)


StoreRules.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestStoreRules = StoreRules.TestCase
