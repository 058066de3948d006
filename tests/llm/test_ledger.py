"""The ledger: every prefix of the file is one, broken lines are errors, one process holds it."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.limits import no_file_larger_than
from tests.llm.helpers import ask, outcomes, run, spending
from tracetune.errors import DataError, TracetuneError
from tracetune.llm import Spending, spent
from tracetune.llm.contracts import Usage
from tracetune.llm.entries import Counted, Intent, Lost, Planned, Price, Reply
from tracetune.llm.ledger import FILE, Ledger, read_contents

PRICE = Price(input=1.0, output=5.0, cache_read=0.1, cache_write=1.25)


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def intent(number: int) -> Intent:
    planned = Planned(hash=key(number), id=f"r{number}", max_usd=0.5)
    return Intent(time="2026-11-20T00:00:00Z", model="m", price=PRICE, request=planned)


def reply(number: int, text: str) -> Reply:
    body = {
        "type": "message",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 100, "output_tokens": 10},
    }
    return Reply(time="2026-11-20T00:00:00Z", hash=key(number), text=json.dumps(body))


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4), data=st.data()
)
def test_every_prefix_of_the_file_is_a_ledger(tmp_path_factory, texts, data):
    folder = tmp_path_factory.mktemp("ledger")
    with Ledger(folder) as ledger:
        for number, text in enumerate(texts):
            ledger.append([intent(number)])
            ledger.append([Reply(time="", hash=key(number), text=text)])
    whole = (folder / FILE).read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    (folder / FILE).write_bytes(whole[:cut])
    with Ledger(folder) as ledger:
        ledger.append([Counted(key=key(99), tokens=5)])
    kept = (folder / FILE).read_bytes().split(b"\n")
    assert kept[-1] == b""
    assert kept[:-2] == whole[:cut].split(b"\n")[:-1]
    assert read_contents(folder).counts == {key(99): 5}


@pytest.mark.parametrize(
    "broken",
    [
        b"{not json}\n",
        b'{"kind": "unheard of"}\n',
        b'{"kind": "counted", "key": "short", "tokens": 1}\n',
        b'{"kind": "lost", "time": "", "hash": "%s", "reason": "nobody announced it"}\n'
        % key(7).encode(),
        b"\n",
        b"\xff\xfe\n",
        b"\x00\x00\x00\n",
    ],
)
def test_a_broken_line_elsewhere_is_an_error_that_names_it(tmp_path, broken):
    with Ledger(tmp_path) as ledger:
        ledger.append([intent(0)])
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes() + broken + path.read_bytes())
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"ledger\.jsonl:2") as caught:
        Ledger(tmp_path)
    assert "restore" in str(caught.value)
    assert path.read_bytes() == before
    with pytest.raises(DataError):
        spent(tmp_path)


def test_it_can_be_opened_again_after_a_broken_line(tmp_path):
    (tmp_path / FILE).write_bytes(b"broken\n")
    with pytest.raises(DataError):
        Ledger(tmp_path)
    (tmp_path / FILE).unlink()
    with Ledger(tmp_path):
        pass


def test_a_full_disk_leaves_no_half_line(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.append([intent(0)])
        size = (tmp_path / FILE).stat().st_size
        with no_file_larger_than(size + 10), pytest.raises(DataError, match="File too large"):
            ledger.append([intent(1)])
        ledger.append([intent(2)])
    assert set(read_contents(tmp_path).sent) == {key(0), key(2)}


def test_one_holder_at_a_time(tmp_path):
    with Ledger(tmp_path), pytest.raises(TracetuneError, match="another run"):
        Ledger(tmp_path)
    with Ledger(tmp_path):
        pass


def test_spending_is_read_while_another_writes(tmp_path):
    assert spent(tmp_path / "nothing") == Spending()
    assert not (tmp_path / "nothing").exists()
    with Ledger(tmp_path) as ledger:
        ledger.append([intent(0), intent(1), intent(2)])
        assert spent(tmp_path).open_requests == 3
        ledger.append([reply(0, "hello")])
        ledger.append([Lost(time="", hash=key(1), reason="gone")])
        with (tmp_path / FILE).open("ab") as handle:
            handle.write(b'{"kind": "repl')  # the other one is in the middle of a line
        found = spent(tmp_path)
    assert found.usage == Usage(input_tokens=100, output_tokens=10)
    assert found.usd == pytest.approx(150e-6)
    assert (found.requests, found.lost_requests, found.open_requests) == (1, 1, 1)
    assert (found.lost_usd, found.open_usd) == (0.5, 0.5)
    assert found.most_usd == pytest.approx(1.00015)
    assert [(part.model, part.mode) for part in found.parts] == [("m", "direct")]


def test_spending_of_a_run_is_the_difference(server, tmp_path):
    before = spending(tmp_path)
    run(server, tmp_path)
    first = spending(tmp_path)
    assert first.since(before) == first
    run(server, tmp_path, ask(2, 40), "direct")
    second = spending(tmp_path).since(first)
    assert (second.requests, [part.mode for part in second.parts]) == (2, ["direct"])
    assert spending(tmp_path).since(spending(tmp_path)) == Spending()


def test_prices_that_change_later_leave_the_booked_cost(server, tmp_path):
    run(server, tmp_path)
    booked = spending(tmp_path)
    dear = {"as_of": "2027-01-01", "models": {"claude-haiku-5-5": {"input": 9, "output": 9}}}
    assert outcomes(run(server, tmp_path, prices=dear)) == ["answered"] * 3
    assert spending(tmp_path) == booked
