"""Batch mode against a strict server: rounds, faults, adoption, unpaid results."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from tests.llm.anthropic_rules import Refusal, bad
from tests.llm.anthropic_server import Server, running_server
from tests.llm.helpers import ask, entries, options, outcomes, run, spending
from tracetune.errors import ConfigurationError, ServerError
from tracetune.llm import TextRequest
from tracetune.llm.anthropic_batches import LOOKS
from tracetune.llm.anthropic_writer import AnthropicWriter

BROKEN = [
    ("status", {"status": 429, "headers": {"retry-after": "0.05"}}),
    ("status", {"status": 429}),
    ("status", {"status": 500}),
    ("status", {"status": 529}),
    ("gateway", {"status": 502}),
    ("reset_before", {}),
    ("reset_after", {}),
    ("half_body", {}),
    ("html", {}),
    ("malformed", {}),
    ("empty", {}),
]
NAMES = [f"{kind}{how.get('status', '')}{'+' if 'headers' in how else ''}" for kind, how in BROKEN]


def expected_calls(endpoint: str) -> int:
    """Calls of an endpoint when it failed twice."""
    clean = {"count": 3, "list": 1, "create": 1, "retrieve": 3, "results": 1}
    return clean[endpoint] + 2


def clean(tmp_path) -> list:
    with running_server() as other:
        return run(other, tmp_path / "clean")


def test_every_request_is_answered_in_its_own_place(server, tmp_path):
    results = run(server, tmp_path, ask(20))
    assert [result.id for result in results] == [f"r{n}" for n in range(20)]
    assert outcomes(results) == ["answered"] * 20
    for sent, result in zip(server.sent, results, strict=True):
        assert result.value == server.answer(sent)  # the results came shuffled
        assert result.usage.input_tokens > 0
        assert result.usd > 0
    assert server.calls.count("create") == 1
    assert server.calls.index("list") < server.calls.index("create")
    assert server.calls.count("retrieve") == server.polls + 1


def test_running_again_costs_nothing_and_needs_no_key(server, tmp_path):
    first = run(server, tmp_path)
    before, server.key = len(server.calls), ""
    assert run(server, tmp_path) == first
    assert run(server, tmp_path, mode="direct") == first
    assert len(server.calls) == before


def test_a_change_of_what_decides_the_answer_is_asked_anew(server, tmp_path):
    run(server, tmp_path)
    run(server, tmp_path, effort=None)
    run(server, tmp_path, max_tokens=3_000)
    run(server, tmp_path, ask(system="You write others."))
    run(server, tmp_path, model="claude-sonnet-5-5")
    assert sum(server.paid.values()) == 15
    assert {part.model for part in spending(tmp_path).parts} == {
        "claude-haiku-5-5",
        "claude-sonnet-5-5",
    }


def test_rounds_have_the_size_that_was_set(server, tmp_path):
    assert outcomes(run(server, tmp_path, ask(7), batch_size=3)) == ["answered"] * 7
    assert [len(batch.requests) for batch in server.batches.values()] == [3, 3, 1]
    assert server.paid_twice() == 0


def test_a_request_given_twice_is_sent_once(server, tmp_path):
    results = run(server, tmp_path, [*ask(2), *ask(2)])
    assert results[:2] == results[2:]
    assert sum(server.paid.values()) == 2


@pytest.mark.parametrize(("kind", "how"), BROKEN, ids=NAMES)
@pytest.mark.parametrize("endpoint", ["count", "list", "create", "retrieve", "results"])
def test_a_fault_changes_nothing(server, tmp_path, endpoint, kind, how):
    server.fail(endpoint, kind, 2, **how)
    results = run(server, tmp_path / "folder")
    assert results == clean(tmp_path)
    assert server.paid_twice() == 0
    assert len(server.batches) == 1
    # A batch that was created before its reply was lost is found, not created again.
    worked = kind not in ("status", "gateway", "reset_before")
    expected = expected_calls(endpoint)
    if worked and endpoint in ("create", "retrieve"):  # a look counts, though its answer is lost
        expected -= 2
    assert server.calls.count(endpoint) == expected


def test_the_time_that_the_service_asks_for_is_waited(server, tmp_path):
    server.fail("list", "status", 1, status=429, headers={"retry-after": "0.4"})
    begun = datetime.now(UTC)
    run(server, tmp_path)
    assert datetime.now(UTC) - begun > timedelta(seconds=0.4)


@pytest.mark.parametrize("kind", ["cut_in_line", "cut_at_line", "reset_middle", "hold_after"])
def test_results_that_end_early_are_fetched_again(server, tmp_path, kind):
    server.release.set()
    server.fail("results", kind, 2)
    assert run(server, tmp_path / "folder", ask(9)) == run(server, tmp_path / "folder", ask(9))
    assert server.calls.count("results") == 3
    assert not list((tmp_path / "folder/batches").iterdir())


def test_results_that_never_come_whole_are_fetched_by_the_next_run(server, tmp_path):
    server.fail("results", "cut_at_line", 3)
    with pytest.raises(ServerError, match="missing") as caught:
        run(server, tmp_path / "folder", attempts=3)
    assert "run again" in str(caught.value)
    assert not [line for line in entries(tmp_path / "folder") if line["kind"] == "reply"]
    assert run(server, tmp_path / "folder") == clean(tmp_path)
    assert server.paid_twice() == 0


def test_repeated_and_unknown_lines_are_left_out(server, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "tracetune")
    server.fail("results", "repeat", 1)
    assert run(server, tmp_path / "folder") == clean(tmp_path)
    assert "2 repeated lines and 1 of requests that were not sent" in caplog.text
    assert spending(tmp_path / "folder").requests == 3


@pytest.mark.parametrize(
    "kind", ["reset_after", "status_after", "html", "malformed", "empty", "half_body"]
)
def test_a_batch_whose_creation_is_in_doubt_is_found_though_the_listing_lags(
    server, tmp_path, kind
):
    server.lag = 1
    server.add_stranger(3).polls = 1
    server.fail("create", kind)
    assert run(server, tmp_path / "folder") == clean(tmp_path)
    assert server.paid_twice() == 0
    assert server.calls.count("create") == 1
    created = next(line for line in entries(tmp_path / "folder") if line["kind"] == "created")
    assert created["adopted"]


def test_a_stranger_batch_of_the_same_size_is_not_taken(server, tmp_path):
    real = server.create

    def fails_while_a_stranger_creates(body):
        server.create = real
        server.add_stranger(3)
        raise Refusal(500, "api_error", "Internal server error")

    server.create = fails_while_a_stranger_creates
    assert run(server, tmp_path / "folder") == clean(tmp_path)
    assert server.calls.count("create") == 2
    assert server.calls.count("list") == 1 + LOOKS  # before each creation
    assert server.paid_twice() == 0


def test_a_long_listing_is_read_to_the_intent_and_no_further(server, tmp_path):
    for _ in range(7):
        server.add_stranger(2)
    server.page = 2
    server.fail("create", "reset_after")
    assert outcomes(run(server, tmp_path)) == ["answered"] * 3
    # One before the creation; one look that finds the new batch on its first page.
    assert server.calls.count("list") <= 3
    assert len(server.batches) == 8


def test_an_unknown_status_counts_as_under_way(server, tmp_path):
    server.status = "finalizing"
    assert outcomes(run(server, tmp_path)) == ["answered"] * 3


def test_the_deadline_leaves_the_batch_to_the_next_run(server, tmp_path):
    server.polls = 10_000
    with pytest.raises(ServerError, match="has not ended") as caught:
        run(server, tmp_path / "folder", deadline_hours=0.3 / 3600)
    assert "nothing is paid twice" in str(caught.value)
    under_way = spending(tmp_path / "folder")
    assert (under_way.open_requests, under_way.requests) == (3, 0)
    assert under_way.open_usd > 0
    next(iter(server.batches.values())).polls = 1
    assert run(server, tmp_path / "folder") == clean(tmp_path)
    assert server.calls.count("create") == 1


def test_direct_mode_collects_a_batch_that_is_under_way(server, tmp_path):
    server.polls = 10_000
    with pytest.raises(ServerError):
        run(server, tmp_path / "folder", deadline_hours=0.1 / 3600)
    next(iter(server.batches.values())).polls = 1
    results = run(server, tmp_path / "folder", ask(4), mode="direct")
    assert outcomes(results) == ["answered"] * 4
    assert server.paid_twice() == 0
    assert server.calls.count("messages") == 1


def test_a_batch_that_is_under_way_does_not_hold_up_other_requests(server, tmp_path):
    server.polls = 10_000
    with pytest.raises(ServerError):
        run(server, tmp_path, deadline_hours=0.1 / 3600)
    server.polls = 1
    assert outcomes(run(server, tmp_path, ask(2, first=10))) == ["answered"] * 2
    assert spending(tmp_path).open_requests == 3


@pytest.mark.parametrize("kind", ["expired", "canceled"])
def test_unpaid_results_are_sent_once_more_by_the_next_run(server, tmp_path, kind):
    server.special["Number 1"] = kind
    assert outcomes(run(server, tmp_path)) == ["answered", "expired", "answered"]
    assert spending(tmp_path).requests == 2
    again = run(server, tmp_path)
    assert outcomes(again) == ["answered", "expired", "answered"]
    assert "not paid" in again[1].reason
    assert len(server.batches) == 2
    server.special.clear()
    assert outcomes(run(server, tmp_path)) == ["answered", "expired", "answered"]
    assert len(server.batches) == 2
    assert server.paid_twice() == 0


def test_an_expired_request_can_be_answered_by_the_next_run(server, tmp_path):
    server.special["Number 1"] = "expired"
    run(server, tmp_path)
    server.special.clear()
    assert outcomes(run(server, tmp_path)) == ["answered"] * 3
    assert server.paid_twice() == 0


def test_requests_that_the_service_fails_on_can_be_sent_again(server, tmp_path):
    server.special["Number 2"] = "errored"
    results = run(server, tmp_path)
    assert outcomes(results) == ["answered", "answered", "failed"]
    assert "Internal server error" in results[2].reason
    server.special.clear()
    assert outcomes(run(server, tmp_path)) == ["answered"] * 3
    assert server.paid_twice() == 0


@pytest.mark.parametrize(
    ("kind", "outcome", "reason"),
    [
        ("refusal", "refused", "I would rather not"),
        ("max_tokens", "truncated", "max_tokens"),
        ("invalid", "invalid", "items"),
        ("not_json", "invalid", "not JSON"),
        ("stop_sequence", "invalid", "stop_sequence"),
        ("no_usage", "lost", "usage"),
        ("thinking", "answered", ""),
    ],
)
@pytest.mark.parametrize("mode", ["batch", "direct"])
def test_every_way_an_answer_can_end(server, tmp_path, mode, kind, outcome, reason):
    server.special["Number 1"] = kind
    results = run(server, tmp_path, mode=mode)
    assert outcomes(results) == ["answered", outcome, "answered"]
    assert reason in results[1].reason
    assert (results[1].usd > 0) == (outcome != "lost")
    if kind == "refusal":
        assert results[1].value is None
    # It was paid, so it is not sent again.
    assert run(server, tmp_path, mode=mode) == results
    assert sum(server.paid.values()) == 3
    found = spending(tmp_path)
    assert found.requests == (2 if outcome == "lost" else 3)
    assert found.lost_requests == (outcome == "lost")


def test_a_batch_that_is_gone_is_lost_and_not_created_again(server, tmp_path):
    server.polls = 10_000
    with pytest.raises(ServerError):
        run(server, tmp_path, deadline_hours=0.1 / 3600)
    server.batches.clear()
    results = run(server, tmp_path)
    assert outcomes(results) == ["lost"] * 3
    assert "no longer" in results[0].reason
    assert run(server, tmp_path) == results
    assert spending(tmp_path).lost_usd > 0
    assert server.calls.count("create") == 1


def test_a_request_that_came_back_unpaid_is_lost_with_its_second_batch(server, tmp_path):
    server.special["Number 1"] = "expired"
    run(server, tmp_path)
    server.special.clear()
    server.polls = 10_000
    with pytest.raises(ServerError):
        run(server, tmp_path, deadline_hours=0.1 / 3600)
    server.batches.clear()
    server.polls = 1
    results = run(server, tmp_path)
    assert outcomes(results) == ["answered", "lost", "answered"]
    assert run(server, tmp_path) == results
    assert server.calls.count("create") == 2
    assert spending(tmp_path).lost_requests == 1


def test_a_refused_creation_fails_its_requests_with_the_reason(server, tmp_path):
    def refuse(body):
        raise bad("Your credit balance is too low")

    real, server.create = server.create, refuse
    results = run(server, tmp_path)
    assert outcomes(results) == ["failed"] * 3
    assert "credit balance" in results[0].reason
    server.create = real
    assert outcomes(run(server, tmp_path)) == ["answered"] * 3


def test_no_creation_after_all_attempts_is_an_error_and_costs_nothing(server, tmp_path):
    server.fail("create", "status", 99, status=529)
    with pytest.raises(ServerError, match="no batch could be created"):
        run(server, tmp_path, attempts=3)
    assert server.calls.count("create") == 3
    assert server.calls.count("list") == 4
    assert spending(tmp_path).most_usd == 0


def test_an_unclear_creation_after_all_attempts_stays_reserved(server, tmp_path):
    server.fail("create", "reset_before", 99)
    with pytest.raises(ServerError, match="not known whether"):
        run(server, tmp_path, attempts=2)
    assert spending(tmp_path).open_requests == 3
    server.faults.clear()
    assert outcomes(run(server, tmp_path)) == ["answered"] * 3
    assert spending(tmp_path).open_requests == 0


class TestBudget:
    def test_only_what_cannot_pass_it_is_sent(self, server, tmp_path):
        one = run(server, tmp_path / "one", ask(1), max_tokens=4000)[0]
        most = one.usage.input_tokens * 0.05e-6 + 4000 * 0.25e-6
        results = run(server, tmp_path / "three", ask(3), budget_usd=most * 1.5)
        # After each round its true cost is known, which is far below the reserve.
        assert outcomes(results) == ["answered"] * 3
        assert [len(b.requests) for b in server.batches.values()] == [1, 1, 1, 1]
        assert spending(tmp_path / "three").usd <= most * 1.5

    def test_what_does_not_fit_is_not_sent_and_says_why(self, server, tmp_path):
        results = run(server, tmp_path, budget_usd=0.0005)
        assert outcomes(results) == ["over_budget"] * 3
        assert "llm.budget_usd=$0.0005" in results[0].reason
        assert "create" not in server.calls
        assert spending(tmp_path).usd == 0
        assert outcomes(run(server, tmp_path, budget_usd=1.0)) == ["answered"] * 3

    def test_it_holds_over_all_runs(self, server, tmp_path):
        run(server, tmp_path)
        paid = spending(tmp_path).usd
        assert "over_budget" in outcomes(run(server, tmp_path, ask(2, 50), budget_usd=paid))

    def test_tokens_are_counted_once(self, server, tmp_path):
        run(server, tmp_path, budget_usd=0.0)
        run(server, tmp_path, budget_usd=0.0)
        assert server.calls == ["count"] * 3

    def test_the_cost_is_that_of_the_price_table(self, server, tmp_path):
        result = run(server, tmp_path, ask(1), model="claude-opus-5")[0]
        usage = result.usage
        expected = (usage.input_tokens * 5 + usage.output_tokens * 25) / 1e6 / 2
        assert result.usd == pytest.approx(expected)
        assert spending(tmp_path).usd == pytest.approx(expected)


class TestCache:
    LONG = "You write messages. " + "Be kind and exact. " * 400

    @pytest.mark.parametrize("mode", ["batch", "direct"])
    def test_a_long_text_that_requests_share_is_cached(self, server, tmp_path, mode):
        results = run(server, tmp_path, ask(6, system=self.LONG), mode, model="claude-opus-5")
        assert all(params["system"][0].get("cache_control") for params in server.sent)
        assert [bool(r.usage.cache_write_tokens) for r in results].count(True) == 1
        read = next(r for r in results if r.usage.cache_read_tokens)
        price = 5.0 if mode == "direct" else 2.5
        usage = read.usage
        expected = usage.input_tokens + 0.1 * usage.cache_read_tokens + 5 * usage.output_tokens
        assert read.usd == pytest.approx(expected * price / 1e6)
        # The mark for the cache is no part of the request.
        assert run(server, tmp_path, ask(6, system=self.LONG), mode, model="claude-opus-5") == (
            results
        )

    @pytest.mark.parametrize(
        ("count", "system", "model"),
        [
            (1, LONG, "claude-opus-5"),
            (3, "You write messages.", "claude-opus-5"),
            (3, LONG, "claude-haiku-4-5"),
        ],
        ids=["alone", "short", "below the minimum of the model"],
    )
    def test_else_nothing_is_cached(self, server, tmp_path, count, system, model):
        run(server, tmp_path, ask(count, system=system), model=model)
        assert not any("cache_control" in params["system"][0] for params in server.sent)


class TestConfiguration:
    @pytest.mark.parametrize("mode", ["batch", "direct"])
    @pytest.mark.parametrize(
        "key", [None, "", "   ", "sk-ünusable", "sk with space", "sk\nnext", "sk\x00"]
    )
    def test_a_key_that_cannot_be_sent_is_refused_before_anything(
        self, server, tmp_path, mode, key
    ):
        server.key = key
        with pytest.raises(ConfigurationError, match=r"anthropic\.api_key") as caught:
            run(server, tmp_path, mode=mode)
        assert not server.calls
        assert not (key or "").strip() or key not in str(caught.value)

    @pytest.mark.parametrize("mode", ["batch", "direct"])
    def test_a_wrong_key_is_named_but_not_shown(self, server, tmp_path, mode):
        wrong = "sk-ant-wrong-9876543210"
        with pytest.raises(ConfigurationError, match=r"anthropic\.api_key") as caught:
            AnthropicWriter(options(server, mode), tmp_path, wrong).write(ask())
        assert wrong not in str(caught.value)
        assert "[key]" in str(caught.value)

    @pytest.mark.parametrize("mode", ["batch", "direct"])
    def test_a_key_that_is_refused_while_sending_costs_nothing(self, server, tmp_path, mode):
        run(server, tmp_path, budget_usd=0, mode=mode)  # counts the tokens
        endpoint = "create" if mode == "batch" else "messages"
        server.fail(endpoint, "status", 9, status=403)
        with pytest.raises(ConfigurationError):
            run(server, tmp_path, mode=mode)
        assert spending(tmp_path).most_usd == 0

    def test_an_unknown_model_is_named(self, server, tmp_path):
        prices = {"models": {"claude-next": {"input": 1, "output": 1}}}
        with pytest.raises(ConfigurationError, match="claude-next"):
            run(server, tmp_path, model="claude-next", prices=prices)

    def test_an_address_without_the_service_is_named(self, server, tmp_path):
        wrong = options(f"{server.url}/elsewhere")
        with pytest.raises((ServerError, ConfigurationError)):
            AnthropicWriter(wrong, tmp_path, server.key).write(ask())

    @pytest.mark.parametrize("url", ["ftp://host", "host:80", "http://", "http://u:p@host", ""])
    def test_an_address_that_is_none_is_refused(self, tmp_path, url):
        with pytest.raises(ConfigurationError, match=r"llm\.base_url"):
            AnthropicWriter(options(url), tmp_path, "sk-1").write(ask())

    def test_nobody_there_is_an_error_that_says_so(self, tmp_path):
        with running_server() as gone:
            url = gone.url
        with pytest.raises(ServerError, match="no connection"):
            AnthropicWriter(options(url, attempts=2), tmp_path, "sk-1").write(ask())

    def test_the_environment_names_neither_key_nor_address(self, server, tmp_path, monkeypatch):
        monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-from-the-environment")
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-from-the-environment")
        assert outcomes(run(server, tmp_path / "a")) == ["answered"] * 3
        server.key = None
        with pytest.raises(ConfigurationError):
            run(server, tmp_path / "b")

    def test_a_request_that_the_service_refuses_fails_before_it_costs(self, server, tmp_path):
        refused = TextRequest(**{**ask(1)[0].model_dump(), "id": "x", "prompt": ""})
        results = run(server, tmp_path, [refused, *ask(1)])
        assert outcomes(results) == ["failed", "answered"]
        assert "must not be empty" in results[0].reason
        assert [len(batch.requests) for batch in server.batches.values()] == [1]


def test_the_ledger_holds_every_reply_as_it_came(server: Server, tmp_path):
    run(server, tmp_path)
    replies = [line for line in entries(tmp_path) if line["kind"] == "reply"]
    sent = {json.dumps(row) for batch in server.batches.values() for row in batch.rows}
    assert {line["text"] for line in replies} == sent
