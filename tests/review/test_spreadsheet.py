"""The spreadsheet: what goes out comes back, and nothing is taken from a file that is wrong."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.review.builders import AT, SPEC, agent, item
from tracetune.errors import DataError
from tracetune.review.items import Correction
from tracetune.review.spreadsheet import Imported, export, import_decisions
from tracetune.review.store import ReviewStore

NASTY = st.one_of(
    st.sampled_from(
        [
            "=1+1",
            "'=1+1",
            "''=x",
            "+49 is a prefix",
            "-3 degrees",
            "@home",
            "＝1",
            "a,b;c\td",
            'say "no"',
            "two\nlines",
            "old\r\nlines\rmixed",
            "\ttab",
            "مرحبا بالعالم",
            "\u202eabc",
            "👩‍👩‍👧 flag 🇳🇴",
            "'tis",
            "\ufeffmark",
            "nul\x00byte",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
).filter(lambda text: text.strip())


@pytest.fixture
def store(tmp_path: Path) -> ReviewStore:
    found = ReviewStore(tmp_path / "reviews")
    pair = item(2, request="=SUM(A1) says what", rejected="weather_agent")
    found.submit(
        [item(1), pair, item(3, request="two\nlines")], SPEC, auto_approve_from=None, at=AT
    )
    return found


class Sheet:
    """A file as a spreadsheet program sees it: rows of cells that can be filled in."""

    def __init__(self, store: ReviewStore, path: Path) -> None:
        self.store, self.path = store, path
        export(store, path)
        self.read()

    def read(self) -> None:
        with self.path.open(encoding="utf-8-sig", newline="") as handle:
            self.rows = list(csv.DictReader(handle))

    def fill(self, number: int, **cells: str) -> None:
        self.rows[number - 1] |= cells

    def save(self, *, delimiter: str = ",", encoding: str = "utf-8-sig") -> None:
        with self.path.open("w", encoding=encoding, newline="") as handle:
            writer = csv.DictWriter(handle, list(self.rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(self.rows)

    def take(self, who: str = "ada") -> Imported:
        self.save()
        return self.again(who)

    def again(self, who: str = "ada") -> Imported:
        return import_decisions(self.store, self.path, who=who, at=AT)

    def refused(self) -> str:
        before = self.store.history()
        with pytest.raises(DataError) as error:
            self.take()
        assert self.store.history() == before
        return str(error.value)


@pytest.fixture
def sheet(store: ReviewStore, tmp_path: Path) -> Sheet:
    return Sheet(store, tmp_path / "sheet.csv")


def test_the_file_opens_in_spreadsheets(sheet):
    assert sheet.path.read_bytes().startswith(b"\xef\xbb\xbfid,state,kind,cell,request,answer")
    assert [row["state"] for row in sheet.rows] == ["pending_review"] * 3
    assert sheet.rows[1]["request"] == "'=SUM(A1) says what"
    assert sheet.rows[2]["request"] == "two\nlines"
    assert sheet.rows[0]["nearest"] == '33%: I never got my bill → {"agent":"billing_agent"}'
    assert {row["decision"] + row["reason"] for row in sheet.rows} == {""}


def test_decisions_are_taken_and_a_second_time_changes_nothing(sheet, store):
    sheet.fill(1, decision="Approved ")
    sheet.fill(
        2,
        decision="approve",
        corrected_request="what does '=SUM(A1) say",
        corrected_answer='{ "agent": "travel_agent" }',
    )
    sheet.fill(3, decision="rejected", reason="says nothing")
    assert sheet.take() == Imported(decided=3, unchanged=0, empty=0)
    found = store.items()
    assert [shown.state for shown in found] == ["approved", "approved", "rejected"]
    assert found[1].final.prompt[-1].content == "what does '=SUM(A1) say"
    assert found[1].final.answer[0].content == agent("travel_agent")
    assert found[2].why == "says nothing"
    assert {event.place for event in store.history()[3:]} == {"spreadsheet"}
    before = store.history()
    assert sheet.again() == Imported(decided=0, unchanged=3, empty=0)
    assert sheet.again("bob") == Imported(decided=0, unchanged=3, empty=0)
    assert store.history() == before


def test_rows_without_a_decision_stay_open(sheet, store):
    assert sheet.take() == Imported(decided=0, unchanged=0, empty=3)
    assert len(store.open_items()) == 3


def test_a_correction_may_have_the_line_ends_of_another_system(sheet, store):
    sheet.fill(1, decision="approved", corrected_request="two\r\nlines")
    assert sheet.take().decided == 1
    assert store.items()[0].final.prompt[-1].content == "two\nlines"
    assert sheet.again().unchanged == 1


def test_the_same_answer_in_other_spelling_is_no_correction(sheet, store):
    sheet.fill(1, decision="approved", corrected_answer='{ "agent": "billing_agent" }')
    assert sheet.take().decided == 1
    assert store.history()[-1].correction is None
    assert sheet.again().unchanged == 1


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_separators_are_read(sheet, store, delimiter):
    sheet.fill(1, decision="approved", confidence="0,8")
    sheet.save(delimiter=delimiter)
    assert sheet.again().decided == 1


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"id": "item-00"}, ["row 2 (line 2), column id", "no candidate 'item-00'"]),
        ({"decision": "maybe"}, ["column decision", "'maybe' is no decision"]),
        ({"decision": "rejected"}, ["column reason", "needs a reason"]),
        ({"reason": "bad"}, ["column decision", "is empty, but reason is not"]),
        (
            {"decision": "rejected", "reason": "x", "corrected_answer": agent("travel_agent")},
            ["column corrected_answer", "takes no correction"],
        ),
        (
            {"decision": "approved", "corrected_answer": agent("nobody")},
            ["column corrected_answer", "nobody, which does not exist"],
        ),
        (
            {"decision": "approved", "corrected_request": "mail eve@example.org"},
            ["column corrected_request", "EMAIL"],
        ),
        (
            {"decision": "approved", "corrected_rejected": agent("travel_agent")},
            ["column corrected_rejected", "no pair"],
        ),
        ({"request": "other"}, ["column request", "write the change into corrected_request"]),
        ({"answer": agent("travel_agent")}, ["column answer", "corrected_answer"]),
        ({"kind": "pair"}, ["column kind", "put it back"]),
        ({"confidence": "high"}, ["column confidence"]),
    ],
)
def test_a_cell_that_is_wrong_is_named_and_nothing_is_taken(sheet, cells, expected):
    sheet.fill(3, decision="approved")
    sheet.fill(1, **cells)
    message = sheet.refused()
    for part in [*expected, str(sheet.path), "nothing of the file was taken"]:
        assert part in message


def test_rows_are_counted_as_the_spreadsheet_shows_them(sheet):
    sheet.rows.reverse()
    sheet.fill(2, decision="maybe")
    sheet.fill(3, decision="perhaps")
    message = sheet.refused()
    assert "row 3 (line 4), column decision: 'maybe'" in message
    assert "row 4 (line 5), column decision: 'perhaps'" in message


def test_a_candidate_that_stands_there_twice_is_refused(sheet):
    sheet.rows.append(sheet.rows[0])
    assert "stands there twice" in sheet.refused()


def test_what_somebody_else_decided_meanwhile_is_not_overwritten(sheet, store):
    store.decide(item(1).id, False, who="bob", place="terminal", at=AT, why="no")
    sheet.fill(1, decision="approved")
    message = sheet.refused()
    assert "bob decided meanwhile (rejected)" in message


def test_the_same_decision_by_somebody_else_is_no_conflict(sheet, store):
    store.decide(item(1).id, False, who="bob", place="terminal", at=AT, why="no")
    sheet.fill(1, decision="rejected", reason="unclear")
    assert sheet.take() == Imported(decided=0, unchanged=1, empty=2)
    assert store.items()[0].who == "bob"


def test_a_new_file_can_change_a_decision(store, tmp_path):
    store.decide(item(1).id, False, who="bob", place="terminal", at=AT, why="no")
    sheet = Sheet(store, tmp_path / "new.csv")
    assert sheet.rows[0]["state"] == "rejected"
    sheet.fill(1, decision="approved")
    assert sheet.take().decided == 1
    assert store.items()[0].state == "approved"
    assert sheet.again() == Imported(decided=0, unchanged=1, empty=2)


def test_a_file_from_before_a_later_decision_of_the_same_kind_is_refused(store, tmp_path):
    first = store.items()[0].item.id
    store.decide(first, True, who="bob", place="terminal", at=AT)
    sheet = Sheet(store, tmp_path / "sheet.csv")
    later = Correction(request="where is the invoice of May")
    seen = store.items()[0].seq
    store.decide(first, True, who="bob", place="terminal", at=AT, correction=later, seen=seen)
    sheet.fill(1, decision="rejected", reason="too short")
    assert "bob decided meanwhile" in sheet.refused()
    fresh = Sheet(store, tmp_path / "fresh.csv")
    assert fresh.rows[0]["corrected_so_far"] == "request: where is the invoice of May"
    fresh.fill(1, decision="rejected", reason="too short")
    assert fresh.take().decided == 1


def test_what_was_written_anew_is_decided_in_its_new_form(store, tmp_path):
    store.decide(item(1).id, False, who="bob", place="terminal", at=AT, why="too short")
    anew = item(1, request="where is my invoice from March", attempt=1)
    store.submit([anew], SPEC, auto_approve_from=None, at=AT)
    sheet = Sheet(store, tmp_path / "new.csv")
    assert sheet.rows[3]["earlier_rejection"] == "bob: too short"
    sheet.fill(1, decision="approved")
    assert "written anew" in sheet.refused()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'id'"),
        (b"id,state\r\n", "no column 'kind'"),
        ("id;\xe9".encode("latin-1"), "not UTF-8"),
    ],
)
def test_files_that_are_no_such_sheet(store, tmp_path, content, message):
    path = tmp_path / "other.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_decisions(store, path, who="ada", at=AT)


def test_a_missing_file_is_an_error(store, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        import_decisions(store, tmp_path / "none.csv", who="ada", at=AT)


@given(request=NASTY, why=NASTY, cell=NASTY, reason=NASTY)
def test_any_text_goes_out_and_comes_back(request, why, cell, reason):
    with tempfile.TemporaryDirectory() as folder:
        store = ReviewStore(Path(folder) / "reviews")
        pair = item(1, request, rejected="weather_agent", rejected_why=why, cell=cell)
        store.submit([pair, item(2)], SPEC, auto_approve_from=None, at=AT)
        sheet = Sheet(store, Path(folder) / "sheet.csv")
        for text in sheet.rows[0].values():
            assert not text.startswith(("=", "+", "-", "@", "\t", "\r"))
        sheet.fill(1, decision="approved")
        sheet.fill(2, decision="rejected", reason=reason)
        assert sheet.take() == Imported(decided=2, unchanged=0, empty=0)
        assert store.items()[0].final == pair
        assert sheet.again() == Imported(decided=0, unchanged=2, empty=0)
