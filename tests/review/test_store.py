"""The store: what is handed in, decided and taken back, and what a folder says afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.limits import no_file_larger_than
from tests.review.builders import AT, SPEC, agent, item
from tracetune.errors import DataError
from tracetune.outputs import OutputSpec
from tracetune.review.corrections import CorrectionError
from tracetune.review.items import Correction, ReviewSpec
from tracetune.review.options import ReviewOptions
from tracetune.review.store import Decision, OvertakenError, ReviewStore


@pytest.fixture
def store(tmp_path: Path) -> ReviewStore:
    found = ReviewStore(tmp_path / "reviews")
    found.submit([item(1), item(2), item(3)], SPEC, auto_approve_from=None, at=AT)
    return found


def approve(store: ReviewStore, number: int, who: str = "ada", **more):
    return store.decide(item(number).id, True, who=who, place="terminal", at=AT, **more)


def reject(store: ReviewStore, number: int, who: str = "ada", why: str = "too vague", **more):
    return store.decide(item(number).id, False, who=who, place="terminal", at=AT, why=why, **more)


def states(store: ReviewStore) -> list[str]:
    return [found.state for found in store.items()]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    store = ReviewStore(tmp_path / "reviews")
    assert store.items() == store.open_items() == store.history() == []
    assert set(store.counts().values()) == {0}
    assert store.approval_rate() == 0.0
    assert store.submit([], SPEC, auto_approve_from=None, at=AT) == 0
    assert not store.folder.exists()


def test_new_candidates_wait_and_rules_approve_only_if_asked(tmp_path):
    sure, unsure = item(1, confidence=0.85), item(2, confidence=0.84)
    anew = item(3, attempt=1, confidence=0.9)
    asked = ReviewStore(tmp_path / "asked")
    assert asked.submit([sure, unsure, anew], SPEC, auto_approve_from=0.85, at=AT) == 3
    assert states(asked) == ["auto_approved", "pending_review", "regenerated"]
    assert asked.items()[0].who == "rule"
    assert "0.85" in asked.items()[0].why
    assert asked.approval_rate() == pytest.approx(1 / 3)

    unasked = ReviewStore(tmp_path / "unasked")
    unasked.submit([sure, unsure, anew], SPEC, auto_approve_from=None, at=AT)
    assert states(unasked) == ["pending_review", "pending_review", "regenerated"]
    assert [found.who for found in unasked.items()] == ["", "", ""]


def test_handing_in_twice_changes_nothing(store):
    files = {path: path.read_bytes() for path in store.folder.iterdir()}
    assert store.submit([item(2), item(1)], SPEC, auto_approve_from=0.1, at=AT) == 0
    assert {path: path.read_bytes() for path in store.folder.iterdir()} == files


def test_the_least_sure_come_first(tmp_path):
    store = ReviewStore(tmp_path)
    given = [item(1, confidence=0.9), item(2, confidence=0.5), item(3, confidence=0.9)]
    store.submit(given, SPEC, auto_approve_from=None, at=AT)
    assert [found.item.id for found in store.open_items()] == [given[n].id for n in (1, 0, 2)]


def test_decisions_are_there_for_everybody_who_looks(store):
    other = ReviewStore(store.folder)
    assert states(other) == ["pending_review"] * 3
    approve(store, 1)
    found = reject(store, 2, who="bob", why="  says   nothing ")
    assert (found.state, found.who, found.why) == ("rejected", "bob", "says   nothing")
    assert (
        states(other)
        == states(ReviewStore(store.folder))
        == [
            "approved",
            "rejected",
            "pending_review",
        ]
    )
    assert other.counts() == {
        "auto_approved": 0,
        "pending_review": 1,
        "approved": 1,
        "rejected": 1,
        "regenerated": 0,
    }
    assert other.approval_rate() == pytest.approx(1 / 3)


def test_a_rejection_needs_words(store):
    with pytest.raises(DataError, match="needs a reason"):
        reject(store, 1, why="  ")
    assert len(store.history()) == 3


def test_an_unknown_candidate_is_an_error(store):
    with pytest.raises(DataError, match="no such candidate"):
        approve(store, 9)


def test_nobody_decides_over_somebody_by_accident(store):
    other = ReviewStore(store.folder)
    seen = other.open_items()[0]
    approve(store, 1)
    with pytest.raises(OvertakenError, match="ada decided meanwhile"):
        other.decide(
            seen.item.id, False, who="bob", place="terminal", at=AT, why="no", seen=seen.seq
        )
    now = other.items()[0]
    changed = other.decide(
        now.item.id, False, who="bob", place="terminal", at=AT, why="no", seen=now.seq
    )
    assert (changed.state, changed.who) == ("rejected", "bob")


def test_the_same_decision_again_is_refused(store):
    found = approve(store, 1)
    with pytest.raises(DataError, match="approved already, by ada"):
        approve(store, 1, who="bob", seen=found.seq)


def test_decisions_in_one_go_are_all_taken_or_none(store):
    good = Decision(item(1).id, True, "ada", AT)
    bad = Decision(item(2).id, False, "ada", AT)
    with pytest.raises(DataError, match="needs a reason"):
        store.decide_all([good, bad], place="spreadsheet")
    assert states(store) == ["pending_review"] * 3
    with pytest.raises(DataError, match="same candidate"):
        store.decide_all([good, good], place="spreadsheet")
    assert store.decide_all([], place="spreadsheet") == []


def test_undo_takes_back_ones_own_last_decision_and_is_an_event(store):
    approve(store, 1)
    reject(store, 2)
    approve(store, 3, who="bob")
    assert store.undo("ada", "terminal", AT).item.id == item(2).id
    assert states(store) == ["approved", "pending_review", "approved"]
    assert store.undo("ada", "terminal", AT).item.id == item(1).id
    with pytest.raises(DataError, match="nothing that could be taken back"):
        store.undo("ada", "terminal", AT)
    history = store.history()
    assert [event.seq for event in history] == list(range(1, 9))
    assert [event.undoes for event in history[6:]] == [5, 4]
    undone = store.items()[0]
    assert (undone.who, undone.why, undone.at) == ("", "", None)


def test_undo_of_a_change_brings_back_what_was_before(store):
    first = approve(store, 1, correction=Correction(request="where is my bill"))
    reject(store, 1, seen=first.seq)
    back = store.undo("ada", "terminal", AT)
    assert back.state == "approved"
    assert back.final.prompt[-1].content == "where is my bill"


def test_undo_does_not_reach_under_somebody_elses_decision(store):
    first = approve(store, 1)
    reject(store, 1, who="bob", seen=first.seq)
    with pytest.raises(OvertakenError, match="bob decided about it after ada"):
        store.undo("ada", "terminal", AT)


def test_what_was_written_anew_is_decided_in_its_new_form(store):
    found = reject(store, 1)
    assert [r.item.id for r in store.rejected_for_rewriting(2)] == [item(1).id]
    assert store.rejected_for_rewriting(2)[0].why == "too vague"
    assert store.rejected_for_rewriting(0) == []
    anew = item(1, request="where is my March invoice", attempt=1)
    store.submit([anew], SPEC, auto_approve_from=0.1, at=AT)
    assert store.rejected_for_rewriting(2) == []
    assert [r.why for r in store.earlier(anew)] == ["too vague"]
    with pytest.raises(DataError, match="written anew") as error:
        approve(store, 1, seen=found.seq)
    assert anew.id in error.value.remedy
    with pytest.raises(DataError, match="written anew"):
        store.undo("ada", "terminal", AT)
    store.decide(anew.id, False, who="ada", place="terminal", at=AT, why="still vague")
    assert [r.item.id for r in store.rejected_for_rewriting(2)] == [anew.id]
    assert store.rejected_for_rewriting(1) == []


def test_a_correction_is_in_the_row_and_in_its_tags(tmp_path):
    store = ReviewStore(tmp_path)
    pair = item(1, rejected="weather_agent")
    store.submit([pair], SPEC, auto_approve_from=None, at=AT)
    correction = Correction(
        request=" is it sunny ",
        answer='{ "agent": "travel_agent" }',
        rejected=agent("billing_agent"),
    )
    found = store.decide(pair.id, True, who="ada", place="terminal", at=AT, correction=correction)
    assert found.item == pair
    assert found.final.prompt[-1].content == "is it sunny"
    assert found.final.prompt[0] == pair.prompt[0]
    assert found.final.answer[0].content == agent("travel_agent")
    assert found.final.rejected[0].content == agent("billing_agent")
    assert found.final.tags == {"target": "travel_agent"}
    assert ReviewStore(tmp_path).items() == [found]


@pytest.mark.parametrize(
    ("correction", "part", "message"),
    [
        ({"request": " "}, "request", "is blank"),
        ({"request": "a" * 501}, "request", "501 characters"),
        ({"request": "ring\x07"}, "request", "control characters"),
        ({"request": "write to eve@example.org"}, "request", "EMAIL"),
        ({"answer": "billing_agent"}, "answer", "not a JSON object"),
        ({"answer": '{"agent": NaN}'}, "answer", "not a JSON object"),
        ({"answer": '{"agent": "hr_agent"}'}, "answer", "hr_agent, which does not exist"),
        ({"answer": '{"agent": "billing_agent", "x": "eve@example.org"}'}, "answer", "EMAIL"),
        ({"answer": '{"agent": "weather_agent"}'}, "answer", "say the same"),
        ({"rejected": "{}"}, "rejected", "not a JSON object"),
        ({"rejected": '{"agent": "billing_agent", "x": 1}'}, "rejected", "say the same"),
    ],
)
def test_corrections_that_cannot_be_taken(tmp_path, correction, part, message):
    store = ReviewStore(tmp_path)
    pair = item(1, rejected="weather_agent")
    store.submit([pair], SPEC, auto_approve_from=None, at=AT)
    with pytest.raises(CorrectionError, match=message) as error:
        store.decide(
            pair.id, True, who="ada", place="terminal", at=AT, correction=Correction(**correction)
        )
    assert error.value.part == part
    assert "eve@" not in str(error.value)
    assert states(store) == ["pending_review"]


def test_a_worse_answer_may_name_what_does_not_exist_but_only_pairs_have_one(tmp_path):
    store = ReviewStore(tmp_path)
    pair = item(1, rejected="weather_agent")
    store.submit([pair, item(2)], SPEC, auto_approve_from=None, at=AT)
    taken = store.check(pair, Correction(rejected='{"agent": "hr_agent"}'))
    assert taken == Correction(rejected=agent("hr_agent"))
    with pytest.raises(CorrectionError, match="no pair"):
        store.check(item(2), Correction(rejected=agent("hr_agent")))


def test_an_edit_that_changes_nothing_is_no_correction(store):
    same = Correction(request=" where is my invoice ", answer=agent("billing_agent"))
    assert approve(store, 1, correction=same).final == item(1)
    assert store.history()[-1].correction is None


def test_plain_text_answers_are_corrected_as_text(tmp_path):
    store = ReviewStore(tmp_path)
    spec = ReviewSpec(output=OutputSpec(compare="text"), max_chars=500)
    store.submit([item(1)], spec, auto_approve_from=None, at=AT)
    found = approve(store, 1, correction=Correction(answer="Look into  your account."))
    assert found.final.answer[0].content == "Look into  your account."
    assert found.final.tags["target"] == "Look into your account."


def test_words_of_reviewers_hold_no_personal_data_on_disk(store):
    reject(store, 1, why="ask eve@example.org")
    assert store.items()[0].why == "ask <EMAIL>"
    assert "eve@" not in (store.folder / "history.jsonl").read_text()


def test_another_kind_of_agent_is_refused_but_further_names_are_not(store):
    more = ReviewSpec(output=OutputSpec(known=("hr_agent",)), max_chars=9)
    store.submit([], more, auto_approve_from=None, at=AT)
    assert store.spec() == more
    other = ReviewSpec(output=OutputSpec(compare="set"), max_chars=500)
    with pytest.raises(DataError, match="another kind of agent"):
        store.submit([item(4)], other, auto_approve_from=None, at=AT)


def test_a_torn_last_line_is_passed_over_and_cut_off(store):
    approve(store, 1)
    history = store.folder / "history.jsonl"
    whole = history.read_bytes()
    with history.open("ab") as handle:
        handle.write(b'{"after":"approved","at":"2026-')
    assert states(ReviewStore(store.folder)) == ["approved", "pending_review", "pending_review"]
    approve(ReviewStore(store.folder), 2)
    assert history.read_bytes().startswith(whole)
    assert states(ReviewStore(store.folder)) == ["approved", "approved", "pending_review"]


@pytest.mark.parametrize("name", ["items.jsonl", "history.jsonl"])
def test_a_broken_line_names_file_and_line(store, name):
    lines = (store.folder / name).read_text().splitlines()
    lines[1] = lines[1].replace('"id"', '"di"').replace('"seq"', '"qes"')
    (store.folder / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"{name}, line 2: field '(id|seq)'"):
        ReviewStore(store.folder).items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seq": 9}, "event 9 stands where 4"),
        ({"item": item(8).id}, "never submitted"),
        ({"before": "rejected"}, "but it was pending_review"),
        ({"undoes": 1}, "that is not last"),
    ],
)
def test_a_history_that_contradicts_itself_is_an_error(store, change, message):
    approve(store, 1)
    history = store.folder / "history.jsonl"
    lines = history.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | change)
    history.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message) as error:
        ReviewStore(store.folder).items()
    assert "history.jsonl" in error.value.where


def test_a_submission_that_was_cut_short_is_completed(store):
    history = store.folder / "history.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(b"".join(lines[:1]))
    again = ReviewStore(store.folder)
    assert states(again) == ["pending_review"] * 3
    approve(again, 3)
    assert [event.item for event in again.history()] == [item(n).id for n in (1, 2, 3, 3)]
    assert again.submit([item(1), item(2), item(3)], SPEC, auto_approve_from=None, at=AT) == 0


def test_files_that_were_replaced_are_read_anew(store):
    for path in store.folder.iterdir():
        path.unlink()
    assert store.items() == []
    store.submit([item(7)], SPEC, auto_approve_from=None, at=AT)
    assert [found.item.id for found in store.items()] == [item(7).id]


def test_a_broken_description_of_answers_is_an_error(store):
    (store.folder / "spec.json").write_text("{}")
    with pytest.raises(DataError, match="broken"):
        store.items()


def test_what_was_approved_while_it_was_being_written_anew_stays_as_it_is(tmp_path):
    store = ReviewStore(tmp_path / "review")
    first, again = item(1), item(1, request="where is the bill", attempt=1)
    store.submit([first], SPEC, auto_approve_from=None, at=AT)
    store.decide(first.id, False, who="ada", place="terminal", at=AT, why="stiff")
    store.undo("ada", "terminal", AT)
    store.decide(first.id, True, who="ada", place="terminal", at=AT)
    assert store.submit([again], SPEC, auto_approve_from=None, at=AT) == 0
    assert [found.state for found in store.items()] == ["approved"]


@given(parts=st.lists(st.from_regex(r"[a-z][a-z-]{0,5}", fullmatch=True), min_size=4, max_size=4))
def test_no_two_reviews_share_a_project(parts):
    first, second = (parts[0], parts[1]), (parts[2], parts[3])
    options = ReviewOptions()
    assert (options.project_of(*first) == options.project_of(*second)) == (first == second)


def test_a_full_disk_leaves_no_half_decision(tmp_path):
    store = ReviewStore(tmp_path / "review")
    first = item(1)
    store.submit([first], SPEC, auto_approve_from=None, at=AT)
    before = store.history()
    size = (tmp_path / "review/history.jsonl").stat().st_size
    with no_file_larger_than(size + 20), pytest.raises(DataError, match="File too large"):
        store.decide(first.id, True, who="ada", place="terminal", at=AT)
    assert ReviewStore(tmp_path / "review").history() == before
    assert store.decide(first.id, True, who="ada", place="terminal", at=AT).state == "approved"
