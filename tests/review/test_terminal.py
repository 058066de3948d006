"""``kedro review`` as people use it: the real command in a real terminal of 80 by 24."""

from __future__ import annotations

import csv
import signal

import pytest

from tests.project import Project, copy_project
from tests.review.builders import AT, SPEC, agent, item
from tests.review.terminal import Terminal
from tracetune.errors import ConfigurationError
from tracetune.files import sha256_text
from tracetune.records import Message
from tracetune.review.command import reviewer
from tracetune.review.store import ReviewStore

LEFT, ESCAPE, ENTER, TAB, CTRL_S = "\x1b[D", "\x1b", "\r", "\t", "\x13"
EVIL = "will it [bold]rain[/] \x1b[31mtomorrow\x07 \u202eno"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("terminal") / "project")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"n{sha256_text(request.node.name)[:8]}"


@pytest.fixture
def store(copied: Project, name: str) -> ReviewStore:
    found = ReviewStore(copied.path / "data/reviews/demo" / name)
    found.submit(
        [
            item(1, confidence=0.6),
            item(2, request=EVIL, answer="weather_agent", rejected="travel_agent", confidence=0.7),
            item(3, request="book a flight 🛫", answer="travel_agent", confidence=0.8),
        ],
        SPEC,
        auto_approve_from=None,
        at=AT,
    )
    return found


def states(store: ReviewStore) -> list[str]:
    return [found.state for found in store.items()]


def test_a_session_from_start_to_end_and_on(copied, name, store):
    terminal = Terminal(copied, f"--name={name}")
    terminal.sees(f"demo/{name} · ada", "1 of 3", "where is my invoice", "3 open")
    terminal.sees('{"agent":"billing_agent"}', "billing_agent:plain · confidence 0.60")
    terminal.sees("33%  I never got my bill", "a approve  r reject  e edit  s skip  u undo")
    terminal.keys("s")
    terminal.sees("2 of 3", "skipped; it stays open", "Worse", "because it books trips")
    assert states(store) == ["pending_review"] * 3

    terminal.keys("r")
    terminal.sees("Why is it rejected?", "6  the worse answer is not worse")
    terminal.keys(ENTER)
    terminal.sees("A reason is needed")
    terminal.keys("nobody asks like this", ENTER)
    terminal.sees("3 of 3", "1 rejected", "u takes it back")
    assert (states(store)[1], store.items()[1].why) == ("rejected", "nobody asks like this")

    terminal.keys("u")
    terminal.sees("2 of 3", "taken back", "0 rejected")
    assert states(store)[1] == "pending_review"
    terminal.keys("r")
    terminal.sees("Why is it rejected?")
    terminal.keys("1")
    terminal.sees("3 of 3", "book a flight")
    assert store.items()[1].why == "the answer is wrong"

    terminal.keys(LEFT)
    terminal.sees("2 of 3", "rejected by ada", "the answer is wrong")
    terminal.keys("q")
    said = terminal.ends()
    assert "0 approved, 1 rejected, 2 open of 3 candidates" in said
    assert f"kedro run --pipeline=auto --params=tenant=demo,name={name}" in said

    terminal = Terminal(copied, f"--name={name}")
    terminal.sees("1 of 3", "where is my invoice", "2 open")
    terminal.keys("a")
    terminal.sees("3 of 3", "1 approved")
    terminal.keys("a")
    terminal.sees("Everything is decided.", "2 of 3 candidates are approved.")
    assert states(store) == ["approved", "rejected", "approved"]
    terminal.keys("q")
    assert "2 approved, 1 rejected, 0 open" in terminal.ends()
    assert {event.who for event in store.history()} == {"rule", "ada"}


def test_an_edit_is_checked_before_it_is_taken(copied, name, store):
    terminal = Terminal(copied, f"--name={name}")
    terminal.sees("1 of 3")
    terminal.keys("e")
    terminal.sees("▸ Request", "Ctrl+S (or F2) approves")
    terminal.keys(" from March", TAB)
    terminal.sees("from March", "▸ Answer")
    terminal.keys("x", CTRL_S)
    terminal.sees("the answer is not a JSON object whose field agent or")
    assert states(store)[0] == "pending_review"
    terminal.keys("\x7f" * 40, agent("weather_agent"), CTRL_S)
    terminal.sees("2 of 3", "1 approved")
    found = store.items()[0]
    assert found.final.prompt[-1].content == "where is my invoice from March"
    assert found.final.answer[0].content == agent("weather_agent")
    assert found.item == item(1, confidence=0.6)
    terminal.keys(LEFT)
    terminal.sees("1 of 3", "where is my invoice from March", "approved with changes by ada")
    terminal.keys("a")
    terminal.sees("nothing would change")
    terminal.keys("e")
    terminal.sees("▸ Request")
    terminal.keys(ESCAPE)
    terminal.sees("Written for")
    terminal.keys("q")
    terminal.ends()
    assert [event.after for event in store.history()[3:]] == ["approved"]


def test_text_of_candidates_is_text_and_no_command_to_the_terminal(copied, name, store):
    terminal = Terminal(copied, f"--name={name}")
    terminal.sees("1 of 3")
    terminal.keys("s")
    terminal.sees("will it [bold]rain[/] ␛[31mtomorrow␇ <U+202E>no")
    terminal.keys("e")
    terminal.sees("▸ Request", "␛[31mtomorrow␇")
    terminal.keys(TAB)
    terminal.sees("▸ Answer")
    terminal.keys(TAB)
    terminal.sees("▸ Worse answer")
    terminal.keys("\x7f" * 40, agent("billing_agent"), CTRL_S)
    terminal.sees("3 of 3")
    terminal.keys("q")
    terminal.ends()
    for harmful in (b"31mtomorrow\x07", b"\x1b[31mtomorrow", "\u202e".encode()):
        assert harmful not in terminal.received
    final = store.items()[1].final
    assert final.prompt[-1].content == EVIL
    assert final.rejected[0].content == agent("billing_agent")


def test_help_lists_the_keys_and_skipped_ones_stay(copied, name, store):
    terminal = Terminal(copied, f"--name={name}", NO_COLOR="1")
    terminal.sees("1 of 3")
    terminal.keys("?")
    terminal.sees("take back your last decision", "Esc or Enter closes this.")
    terminal.keys(ENTER, "sss")
    terminal.sees("3 were skipped and stay open.")
    terminal.keys(LEFT)
    terminal.sees("3 of 3", "book a flight")
    terminal.keys("\x03")
    assert "3 open" in terminal.ends()


def test_what_another_person_decides_meanwhile_is_noticed(copied, name, store):
    terminal = Terminal(copied, f"--name={name}")
    terminal.sees("1 of 3", "3 open")
    store.decide(item(1).id, False, who="bob", place="terminal", at=AT, why="no")
    terminal.keys("a")
    terminal.sees("bob decided meanwhile", "2 open", "rejected by bob")
    assert states(store)[0] == "rejected"
    terminal.keys("q")
    terminal.ends()


def test_a_candidate_written_anew_shows_what_was_wrong(copied, name, store):
    store.decide(item(1).id, False, who="bob", place="terminal", at=AT, why="says too little")
    anew = item(1, request="where is my March invoice", attempt=1, confidence=0.5)
    store.submit([anew], SPEC, auto_approve_from=None, at=AT)
    terminal = Terminal(copied, f"--name={name}", size=(100, 30))
    terminal.sees("1 of 3", "March invoice", "attempt 2", "(bob: says too little)")
    terminal.keys("q")
    terminal.ends()


def test_a_long_answer_without_spaces_is_shown_to_its_end(copied, name, store):
    words = "x" * 150 + "end"
    answer = [Message(role="assistant", content=f'{{"agent":"billing_agent","why":"{words}"}}')]
    long = item(9, answer="billing_agent", confidence=0.1)
    store.submit([long.model_copy(update={"answer": answer})], SPEC, auto_approve_from=None, at=AT)
    terminal = Terminal(copied, f"--name={name}")
    terminal.sees("1 of 4", 'end"}')
    terminal.keys("q")
    terminal.ends()


@pytest.mark.faults
def test_a_terminal_that_is_killed_loses_no_decision(copied, name, store):
    terminal = Terminal(copied, f"--name={name}")
    terminal.sees("1 of 3")
    terminal.keys("a")
    terminal.sees("2 of 3", "1 approved")
    terminal.child.kill(signal.SIGKILL)
    terminal.child.wait()
    assert states(store) == ["approved", "pending_review", "pending_review"]
    terminal = Terminal(copied, f"--name={name}")
    terminal.sees("2 of 3", "1 approved", "2 open")
    terminal.keys("q")
    terminal.ends()


def test_without_a_terminal_it_says_what_else_there_is(copied, name, store):
    result = copied.kedro("review", f"--name={name}")
    assert result.returncode == 1
    assert "this is no terminal" in result.stdout
    assert "--status" in result.stdout
    assert "--export=FILE" in result.stdout


def test_status_export_and_import_from_the_command_line(copied, name, store, tmp_path):
    sheet = tmp_path / "sheet.csv"
    result = copied.kedro("review", f"--name={name}", f"--export={sheet}")
    assert "3 candidates are in" in result.stdout
    assert f"kedro review --tenant=demo --name={name} --import={sheet}" in result.stdout
    with sheet.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    with sheet.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"decision": "approved"} for row in rows)
    result = copied.kedro("review", f"--name={name}", f"--import={sheet}", "--who=bob")
    assert result.returncode == 0, result.stdout
    assert "3 approved, 0 rejected, 0 open of 3 candidates (approval rate 100%)" in result.stdout
    result = copied.kedro("review", f"--name={name}", "--status")
    assert "3 approved" in result.stdout
    assert "Decide about them" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name=empty"], "there are no candidates to review"),
        (["--name=empty", "--export=x.csv"], "kedro run --pipeline=auto --params=tenant=demo"),
        (["--name=Bad"], "'Bad' is not a tenant or name"),
        (["--status", "--export=x.csv"], "choose one of them"),
    ],
)
def test_what_cannot_be_done_is_said(copied, arguments, message):
    result = copied.kedro("review", *arguments)
    assert result.returncode == 1
    assert message in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize("who", ["eve@example.org", " ", "rule", "a\x1b[31m", "a\nb"])
def test_names_that_cannot_be_kept_are_refused(who):
    with pytest.raises(ConfigurationError, match="--who") as error:
        reviewer(who)
    assert "eve@" not in str(error.value)


def test_the_name_of_the_reviewer_is_the_login_name(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    assert reviewer(None) == "ada"
    assert reviewer(" Ada Lovelace ") == "Ada Lovelace"
