"""kill -9 at every step, then again: the same results, and nothing is paid twice."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.llm.anthropic_server import running_server
from tests.llm.helpers import (
    ask,
    kill_when_held,
    outcomes,
    run,
    spending,
    start,
)

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with running_server() as other:
        folder = tmp_path_factory.mktemp("undisturbed")
        return run(other, folder, ask(6)), spending(folder)


def finish(server, folder, undisturbed) -> None:
    """The second run of a batch that was killed ends as if nothing had been."""
    assert run(server, folder, ask(6)) == undisturbed[0]
    assert spending(folder) == undisturbed[1]
    assert server.paid_twice() == 0
    assert sum(server.paid.values()) == 6
    assert len(server.batches) == 1
    assert not list(folder.glob("batches/*"))


def whole(folder) -> list[dict]:
    """The lines of the ledger that have their end."""
    path = folder / "ledger.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


HELD = [
    ("count", "hold_before", 2),
    ("list", "hold_before", 0),
    ("create", "hold_before", 0),
    ("create", "hold_after", 0),
    ("retrieve", "hold_before", 0),
    ("retrieve", "hold_after", 2),
    ("results", "hold_before", 0),
    ("results", "hold_middle", 0),
    ("results", "hold_after", 0),
]


@pytest.mark.parametrize(
    ("endpoint", "kind", "skip"), HELD, ids=[f"{e}-{k}-{s}" for e, k, s in HELD]
)
def test_batch_killed_during_a_call(server, tmp_path, undisturbed, endpoint, kind, skip):
    server.lag = 1
    server.fail(endpoint, kind, skip=skip)
    kill_when_held(server, start(server, tmp_path, "batch", count=6))
    if kind == "hold_middle":
        assert list(tmp_path.glob("batches/*.part"))
    finish(server, tmp_path, undisturbed)


@pytest.mark.parametrize("where", ["kill_after", "kill_in"])
@pytest.mark.parametrize("entry", ["counted", "round", "created", "reply"])
def test_batch_killed_at_a_line_of_the_ledger(server, tmp_path, undisturbed, where, entry):
    process = start(server, tmp_path, "batch", count=6, **{where: entry})
    process.communicate(timeout=60)
    assert process.returncode == -9
    finish(server, tmp_path, undisturbed)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_batch_killed_in_the_middle_of_its_replies(server, tmp_path, undisturbed, share):
    process = start(server, tmp_path, "batch", count=6, kill_in="collected", share=share)
    process.communicate(timeout=60)
    assert process.returncode == -9
    finish(server, tmp_path, undisturbed)


def test_unpaid_results_that_are_collected_twice_count_once(server, tmp_path):
    server.special["Number 1"] = "expired"
    start(server, tmp_path, "batch", kill_in="collected", share=0.8).communicate(timeout=60)
    assert [line["kind"] for line in whole(tmp_path)].count("reply") == 2
    server.special.clear()
    assert outcomes(run(server, tmp_path)) == ["answered"] * 3
    assert server.paid_twice() == 0


def test_batch_killed_again_and_again(server, tmp_path, undisturbed):
    for entry in ("round", "round", "created", "reply", "collected"):
        process = start(server, tmp_path, "batch", count=6, kill_in=entry)
        process.communicate(timeout=60)
    finish(server, tmp_path, undisturbed)


@pytest.mark.parametrize(("kind", "paid"), [("hold_before", 5), ("hold_after", 6)])
def test_direct_killed_in_flight(server, tmp_path, kind, paid):
    server.fail("messages", kind, skip=2)
    changes = {"concurrency": 1}
    kill_when_held(server, start(server, tmp_path, "direct", count=6, changes=changes))
    assert spending(tmp_path).open_requests == 1
    results = run(server, tmp_path, ask(6), "direct", concurrency=1)
    assert outcomes(results) == ["answered", "answered", "lost", "answered", "answered", "answered"]
    assert "interrupted" in results[2].reason
    assert server.paid_twice() == 0
    assert sum(server.paid.values()) == paid
    found = spending(tmp_path)
    assert (found.requests, found.lost_requests, found.open_requests) == (5, 1, 0)
    assert run(server, tmp_path, ask(6), "direct") == results


@pytest.mark.parametrize(
    ("where", "entry", "lost"),
    [
        ("kill_in", "counted", 0),
        ("kill_in", "intent", 0),
        ("kill_after", "intent", 1),
        ("kill_in", "reply", 1),
        ("kill_after", "reply", 0),
    ],
)
def test_direct_killed_at_a_line_of_the_ledger(server, tmp_path, where, entry, lost):
    changes = {"concurrency": 1}
    how = {where: entry, "changes": changes}
    process = start(server, tmp_path, "direct", count=4, **how)
    process.communicate(timeout=60)
    assert process.returncode == -9
    results = run(server, tmp_path, ask(4), "direct")
    assert outcomes(results).count("lost") == lost
    assert outcomes(results).count("answered") == 4 - lost
    assert server.paid_twice() == 0
    assert run(server, tmp_path, ask(4), "direct") == results


def test_direct_killed_with_several_in_flight(server, tmp_path):
    server.fail("messages", "hold_after", 4, skip=3)
    process = start(server, tmp_path, "direct", count=9, changes={"concurrency": 4})
    kill_when_held(server, process)
    results = run(server, tmp_path, ask(9), "direct")
    assert set(outcomes(results)) == {"answered", "lost"}
    assert server.paid_twice() == 0
    found = spending(tmp_path)
    assert found.requests + found.lost_requests == 9


def test_a_killed_wait_after_a_refusal_loses_nothing(server, tmp_path):
    server.fail("messages", "status", 1, status=429, headers={"retry-after": "60"})
    process = start(server, tmp_path, "direct", count=1)
    for _ in range(600):
        if [line["kind"] for line in whole(tmp_path)][-1:] == ["unpaid"]:
            break
        server.held.wait(0.05)
    process.kill()
    process.communicate()
    assert outcomes(run(server, tmp_path, ask(1), "direct")) == ["answered"]


def test_ctrl_c_sends_nothing_more(server, tmp_path):
    server.fail("messages", "status", 1000, status=429, headers={"retry-after": "1"})
    process = start(server, tmp_path, "direct", count=12, changes={"concurrency": 2})
    end = time.monotonic() + 30
    while server.calls.count("messages") < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    sent = server.calls.count("messages")
    # Two threads may have been on their way to the server when the signal came.
    assert sent <= 4
    time.sleep(1.5)
    assert server.calls.count("messages") == sent
