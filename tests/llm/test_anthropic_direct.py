"""Direct mode against a strict server: what is tried again, and what never is."""

from __future__ import annotations

import threading
import time

import pytest

from tests.llm.anthropic_server import running_server
from tests.llm.helpers import ask, entries, options, outcomes, run, spending
from tracetune.errors import TracetuneError
from tracetune.llm.anthropic_writer import AnthropicWriter


def test_every_request_is_answered_in_its_own_place(server, tmp_path):
    results = run(server, tmp_path, ask(12), "direct")
    assert [result.id for result in results] == [f"r{n}" for n in range(12)]
    assert outcomes(results) == ["answered"] * 12
    by_prompt = {params["messages"][0]["content"]: server.answer(params) for params in server.sent}
    assert [by_prompt[request.prompt] for request in ask(12)] == [r.value for r in results]


def test_it_costs_twice_what_a_batch_costs(server, tmp_path):
    direct = run(server, tmp_path / "a", mode="direct")
    batch = run(server, tmp_path / "b")
    assert [r.value for r in direct] == [r.value for r in batch]
    assert [r.usd for r in direct] == [pytest.approx(2 * r.usd) for r in batch]


@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {}), (429, {"retry-after": "0.1"}), (500, {}), (503, {}), (529, {}), (408, {})],
)
def test_a_refusal_of_the_service_costs_nothing_and_is_tried_again(
    server, tmp_path, status, headers
):
    server.fail("messages", "status", 4, status=status, headers=headers)
    assert outcomes(run(server, tmp_path, mode="direct")) == ["answered"] * 3
    assert server.calls.count("messages") == 7
    assert server.paid_twice() == 0
    assert spending(tmp_path).lost_requests == 0


def test_retry_after_is_waited_in_full(server, tmp_path):
    server.fail("messages", "status", 1, status=429, headers={"retry-after": "1.2"})
    begun = time.monotonic()
    run(server, tmp_path, ask(1), "direct")
    assert time.monotonic() - begun > 1.2


def test_a_wait_past_the_deadline_is_not_begun(server, tmp_path):
    server.fail("messages", "status", 1, status=429, headers={"retry-after": "4000"})
    begun = time.monotonic()
    results = run(server, tmp_path, ask(1), "direct", deadline_hours=1.0)
    assert time.monotonic() - begun < 5
    assert outcomes(results) == ["failed"]
    assert "429" in results[0].reason
    assert outcomes(run(server, tmp_path, ask(1), "direct")) == ["answered"]


def test_after_all_attempts_it_fails_and_can_be_sent_again(server, tmp_path):
    server.fail("messages", "status", 3, status=529)
    results = run(server, tmp_path, ask(1), "direct", attempts=3)
    assert outcomes(results) == ["failed"]
    assert "529" in results[0].reason
    assert "3 attempts" in results[0].reason
    assert spending(tmp_path).most_usd == 0
    assert outcomes(run(server, tmp_path, ask(1), "direct")) == ["answered"]


@pytest.mark.parametrize(
    ("kind", "worked"),
    [
        ("reset_before", False),
        ("reset_after", True),
        ("half_body", True),
        ("html", True),
        ("malformed", True),
        ("empty", True),
        ("gateway", False),
    ],
)
def test_a_lost_reply_is_never_asked_for_again(server, tmp_path, kind, worked):
    server.fail("messages", kind, 1, status=502)
    results = run(server, tmp_path, ask(1), "direct")
    assert outcomes(results) == ["lost"]
    assert results[0].usd == 0
    found = spending(tmp_path)
    assert (found.requests, found.lost_requests) == (0, 1)
    assert found.lost_usd > 0
    assert run(server, tmp_path, ask(1), "direct") == results
    assert outcomes(run(server, tmp_path, ask(1), "batch")) == ["lost"]
    assert sum(server.paid.values()) == worked
    assert server.calls.count("messages") == 1


def test_a_reply_that_comes_too_late_is_lost(server, tmp_path):
    server.fail("messages", "hold_after")
    assert outcomes(run(server, tmp_path, ask(2), "direct", timeout=0.6)).count("lost") == 1
    server.release.set()
    assert server.paid_twice() == 0


def test_what_may_have_been_paid_counts_against_the_budget(server, tmp_path):
    server.fail("messages", "reset_after")
    run(server, tmp_path, ask(1), "direct")
    lost = spending(tmp_path).lost_usd
    results = run(server, tmp_path, ask(1, 7), "direct", budget_usd=lost * 1.5)
    assert outcomes(results) == ["over_budget"]


def test_nobody_there_is_tried_again_and_costs_nothing(server, tmp_path):
    run(server, tmp_path, ask(1), "direct", budget_usd=0)  # counts the tokens
    with running_server() as gone:
        url = gone.url
    requests = ask(1)
    # The address does not decide the answer, so the token count is kept.
    results = AnthropicWriter(options(url, "direct", attempts=2), tmp_path, "sk-1").write(requests)
    assert outcomes(results) == ["failed"]
    assert "no connection" in results[0].reason
    assert spending(tmp_path).most_usd == 0
    assert outcomes(run(server, tmp_path, requests, "direct")) == ["answered"]


def test_a_budget_for_one_sends_one_after_the_other(server, tmp_path):
    probe = run(server, tmp_path / "one", ask(1), "direct")[0]
    most = probe.usage.input_tokens * 0.1e-6 + 4000 * 0.5e-6
    running, most_at_once, work = [0], [0], server.answer

    def slow(params):
        running[0] += 1
        most_at_once[0] = max(most_at_once[0], running[0])
        time.sleep(0.02)
        running[0] -= 1
        return work(params)

    server.answer = slow
    results = run(server, tmp_path / "more", ask(4), "direct", budget_usd=most * 1.3)
    assert outcomes(results) == ["answered"] * 4
    assert most_at_once == [1]
    assert spending(tmp_path / "more").usd <= most * 1.3


def test_over_budget_says_the_figures(server, tmp_path):
    results = run(server, tmp_path, mode="direct", budget_usd=0.001)
    assert outcomes(results) == ["over_budget"] * 3
    assert "messages" not in server.calls
    assert "up to $0.002" in results[0].reason


def test_the_intent_is_on_disk_before_the_request_is_sent(server, tmp_path):
    seen = []
    work = server.answer

    def look(params):
        seen.append([line["kind"] for line in entries(tmp_path)][-1])
        return work(params)

    server.answer = look
    run(server, tmp_path, ask(1), "direct")
    assert seen == ["intent"]


def test_one_process_at_a_time(server, tmp_path):
    server.fail("messages", "hold_after")
    first = threading.Thread(target=run, args=(server, tmp_path, ask(1), "direct"))
    first.start()
    assert server.held.wait(10)
    with pytest.raises(TracetuneError, match="another run"):
        run(server, tmp_path, ask(1), "direct")
    server.release.set()
    first.join()
    assert server.paid_twice() == 0
