"""The pairwise judge: both orders, what counts as a win, and that nothing is paid twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.llm.anthropic_answers import prompt_of
from tests.llm.anthropic_server import Server, running_server
from tests.llm.helpers import options as llm_options
from tracetune import hosted_calls
from tracetune.conversations.ab import Duel, compare_judged, questions
from tracetune.conversations.ab_options import AbOptions
from tracetune.llm import TextRequest, TextResult, Unfinished
from tracetune.llm.anthropic_writer import AnthropicWriter
from tracetune.records import Message

OPTIONS = AbOptions()
Better = Literal["A", "B", "tie"]


def duel(ours: str | None, theirs: str | None, number: int = 0, said: str = "Do it.") -> Duel:
    prompt = [Message(role="user", content=said)]
    return Duel(f"row-{number}", f"conversation-{number}", prompt, ours, theirs)


def answers_in(prompt: str) -> tuple[str, str]:
    """What stands as A and as B."""
    return tuple(
        prompt.split(f'<answer name="{name}">\n')[1].split("\n</answer>")[0] for name in "AB"
    )


class Judge:
    """A judge with a rule of its own, in place of a large model."""

    label = "a rule"

    def __init__(self, rule: Callable[[str, str], Better | None]) -> None:
        self.rule = rule
        self.asked: list[TextRequest] = []

    def known(self, requests: Sequence[TextRequest]) -> set[str]:
        return set()

    def write(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        self.asked += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: TextRequest) -> TextResult:
        better = self.rule(*answers_in(request.prompt))
        if better is None:
            return TextResult(id=request.id, outcome="refused", reason="no")
        value = {"better": better, "reason": "so"}
        return TextResult(id=request.id, outcome="answered", value=value, usd=0.5)


def longer(first: str, second: str) -> Better:
    return "tie" if len(first) == len(second) else "A" if len(first) > len(second) else "B"


def test_a_win_needs_both_orders():
    duels = [duel("long answer", "short", 0), duel("no", "longer", 1), duel("aa", "bb", 2)]
    report = compare_judged(duels, writer=Judge(longer), options=OPTIONS)
    assert [one.outcome for one in report.verdicts] == [1, -1, 0]
    assert report.verdicts[0].said == ["ours", "ours"]
    assert (report.result.wins, report.result.losses, report.result.ties) == (1, 1, 1)
    assert (report.asked, report.usd, report.swayed) == (6, 3.0, 0)


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_likes_a_place_finds_ties_only(place):
    duels = [duel("one", "two", 0), duel("three", "four", 1)]
    report = compare_judged(duels, writer=Judge(lambda *_: place), options=OPTIONS)
    assert (report.result.ties, report.result.n, report.swayed) == (2, 2, 2)


def test_one_order_and_a_tie_is_a_tie():
    report = compare_judged(
        [duel("b", "a")], writer=Judge(lambda a, b: "A" if a < b else "tie"), options=OPTIONS
    )
    assert report.verdicts[0].said == ["tie", "theirs"]
    assert (report.verdicts[0].outcome, report.swayed) == (0, 0)


def test_alike_answers_are_not_asked_and_missing_ones_fail():
    judge = Judge(longer)
    duels = [duel("same", " same\n", 0), duel(None, "x", 1), duel("x", None, 2), duel("", "x", 3)]
    report = compare_judged(duels, writer=judge, options=OPTIONS)
    assert [one.outcome for one in report.verdicts] == [0, None, None, -1]
    assert (report.result.n, report.result.failed, len(judge.asked)) == (2, 2, 2)
    assert report.result.win_rate == 0.0


def test_a_question_without_a_reply_makes_the_pair_fail():
    judge = Judge(lambda a, b: None if a == "ours" else "A")
    report = compare_judged([duel("ours", "theirs")], writer=judge, options=OPTIONS)
    assert report.verdicts[0].outcome is None
    assert report.verdicts[0].said == [None, "theirs"]
    assert (report.result.n, report.result.failed, report.result.win_rate) == (0, 1, None)
    assert report.outcomes == {"answered": 1, "refused": 1}
    assert report.problems == ["refused: no"]


def test_nothing_to_compare_asks_nobody():
    judge = Judge(longer)
    report = compare_judged([], writer=judge, options=OPTIONS)
    assert (report.result.n, report.result.win_rate, report.asked, judge.asked) == (0, None, 0, [])


texts = st.text(alphabet="ab c", min_size=1, max_size=6).filter(str.strip)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(texts, texts), max_size=6))
def test_swapping_the_models_swaps_wins_and_losses(pairs):
    for rule in (longer, lambda a, b: "A" if a < b else "B"):
        ours, theirs = (
            compare_judged(
                [duel(*pair[::step], n) for n, pair in enumerate(pairs)],
                writer=Judge(rule),
                options=OPTIONS,
            ).result
            for step in (1, -1)
        )
        assert [-one for one in ours.outcomes] == theirs.outcomes
        assert (ours.wins, ours.losses) == (theirs.losses, theirs.wins)


def test_what_the_judge_sees_names_no_model_and_holds_no_secret():
    prompt = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="x" * 9_000),
        Message(role="assistant", content="Done."),
        Message(role="user", content="And now the file."),
        Message(role="assistant", content="call: read"),
        Message(role="tool", content="contents"),
    ]
    long = Duel("r", "c", prompt, "Write to ann.example@mail.example.org", "I wrote it.")
    first, second = questions(long, OPTIONS)
    assert answers_in(first.prompt) == answers_in(second.prompt)[::-1]
    assert "ann.example" not in first.prompt + second.prompt
    assert "<request>\nAnd now the file.\n</request>" in first.prompt
    assert "<tools>\nassistant: call: read\n\ntool: contents\n</tools>" in first.prompt
    assert "assistant: Done." in first.prompt
    assert len(first.prompt) < OPTIONS.context_chars + 600
    assert first.id != second.id
    # The same texts are the same question, whatever rows and models they are of.
    again = Duel("other", "other", prompt, long.theirs, long.ours)
    assert [one.id for one in questions(again, OPTIONS)] == [second.id, first.id]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(hosted_calls, "_FIRST_WAIT", 0.02)
    with running_server() as state:
        state.answer = lambda params: {
            "reason": "it is longer",
            "better": longer(*answers_in(prompt_of(params))),
        }
        yield state


def writer(server: Server, folder: Any, mode: str, **changes: Any) -> AnthropicWriter:
    return AnthropicWriter(llm_options(server, mode, **changes), folder, server.key)


@pytest.mark.parametrize("mode", ["batch", "direct"])
def test_replies_of_the_service_are_kept_and_paid_once(server, tmp_path, mode):
    duels = [duel("long answer", "short", 0), duel("no", "longer", 1)]
    first = compare_judged(duels, writer=writer(server, tmp_path, mode), options=OPTIONS)
    assert [one.outcome for one in first.verdicts] == [1, -1]
    assert first.verdicts[0].reasons == ["it is longer"] * 2
    assert first.usd > 0
    more = [*duels, duel("a new one", "old", 2)]
    second = compare_judged(more, writer=writer(server, tmp_path, mode), options=OPTIONS)
    assert [one.outcome for one in second.verdicts] == [1, -1, 1]
    assert (sum(server.paid.values()), server.paid_twice()) == (6, 0)


def test_a_batch_that_is_not_done_is_picked_up_another_day(server, tmp_path):
    server.polls = 10_000
    slow = writer(server, tmp_path, "batch", deadline_hours=0.2 / 3600)
    with pytest.raises(Unfinished, match="has not ended"):
        compare_judged([duel("long answer", "short")], writer=slow, options=OPTIONS)
    for batch in server.batches.values():
        batch.polls = 0
    report = compare_judged(
        [duel("long answer", "short")], writer=writer(server, tmp_path, "batch"), options=OPTIONS
    )
    assert (report.result.wins, len(server.batches), server.paid_twice()) == (1, 1, 0)


def test_what_does_not_fit_the_budget_fails_and_is_not_paid(server, tmp_path):
    poor = writer(server, tmp_path, "direct", budget_usd=0.0)
    report = compare_judged([duel("long answer", "short")], writer=poor, options=OPTIONS)
    assert (report.result.failed, report.outcomes) == (1, {"over_budget": 2})
    assert not server.paid
