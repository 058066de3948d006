"""Review in a spreadsheet: candidates out as CSV, decisions back from it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracetune.errors import DataError
from tracetune.files import atomic_path
from tracetune.privacy import redact
from tracetune.review.corrections import CorrectionError, difference
from tracetune.review.items import OPEN, Correction, ReviewedItem, ReviewItem
from tracetune.review.store import Decision, ReviewStore
from tracetune.review.texts import one_line, request_of, words_of

READ_ONLY = (
    *("id", "state", "kind", "cell", "request", "answer", "rejected", "rejected_why"),
    *("confidence", "nearest", "earlier_rejection", "written_by", "corrected_so_far", "last_event"),
)
"""Columns that say what a candidate is."""
TO_FILL = ("decision", "reason", "corrected_request", "corrected_answer", "corrected_rejected")
"""Columns that reviewers fill in."""

_CHANGING = frozenset({"id", "state", "corrected_so_far", "last_event"})
"""Read-only columns that may say something else by now."""
_CORRECTED = {"request": "corrected_request", "answer": "corrected_answer"}
_CORRECTED["rejected"] = "corrected_rejected"
_DECISIONS = {"approved": True, "approve": True, "rejected": False, "reject": False}
# A spreadsheet takes a cell that starts like this for a formula. The full-width forms count too.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_MOST_PROBLEMS = 5


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        decided: Decisions taken.
        unchanged: Rows whose decision was taken before.
        empty: Rows without a decision.
    """

    decided: int
    unchanged: int
    empty: int


@dataclass(frozen=True)
class _Row:
    """A row of the file: its number in the spreadsheet, its line in the file, its cells."""

    number: int
    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class _Filled:
    """What somebody filled in about a candidate."""

    shown: ReviewedItem
    approved: bool
    reason: str
    correction: Correction | None

    def is_taken(self, state: str) -> bool:
        """Whether it says what is decided already.

        Args:
            state: State of the candidate in the file; if it is another one now, somebody decided
                the same since.
        """
        shown = self.shown
        standing = difference(shown.item, shown.final)
        if self.approved:
            if shown.state != "approved" or self.correction not in (None, standing):
                return False
            if self.correction is None and standing is not None and shown.state != state:
                return False
        elif shown.state != "rejected":
            return False
        return shown.state != state or redact(self.reason) in ("", shown.why)


class _Problem(Exception):
    """What is wrong with one cell."""

    def __init__(self, column: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.column, self.what, self.remedy = column, what, remedy


def export(store: ReviewStore, path: Path) -> int:
    """Writes all candidates to a CSV file that spreadsheets open.

    Args:
        store: The review.
        path: The file; it is replaced as a whole.

    Returns:
        How many candidates were written.
    """
    items = store.items()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*READ_ONLY, *TO_FILL])
    for shown in items:
        cells = _cells(shown) | {"earlier_rejection": _earlier(shown.item, items)}
        writer.writerow([*(_guard(cells[name]) for name in READ_ONLY), *("" for _ in TO_FILL)])
    with atomic_path(path) as temporary:
        # With the mark of UTF-8 at the front, without which spreadsheets guess another encoding.
        temporary.write_bytes(text.getvalue().encode("utf-8-sig"))
    return len(items)


def import_decisions(store: ReviewStore, path: Path, *, who: str, at: str) -> Imported:
    """Takes the decisions of a CSV file: all of them, or none if anything is wrong.

    Args:
        store: The review.
        path: The file, as :func:`export` wrote it and people filled it in.
        who: Whose decisions they are.
        at: Now: an ISO time with its zone.

    Raises:
        DataError: If the file cannot be read, or rows cannot be taken; names row and column.
    """
    rows = _read(path)
    known = {shown.item.id: shown for shown in store.items()}
    found: list[tuple[_Row, _Filled | None]] = []
    problems: list[str] = []
    remedy, ids = "", set[str]()
    for row in rows:
        try:
            if row.cells["id"] in ids:
                raise _Problem("id", "the candidate stands there twice", "keep one of the rows")
            ids.add(row.cells["id"])
            found.append((row, _decision(row, known, store)))
        except _Problem as problem:
            place = f"row {row.number} (line {row.line}), column {problem.column}"
            problems.append(f"{place}: {problem.what}")
            remedy = remedy or problem.remedy
    if problems:
        raise DataError(
            _listed(problems), where=str(path), remedy=f"{remedy}; nothing of the file was taken"
        )
    filled = [(row, given) for row, given in found if given is not None]
    new = [given for row, given in filled if not given.is_taken(row.cells["state"].strip())]
    decisions = [
        Decision(
            given.shown.item.id,
            given.approved,
            who,
            at,
            why=given.reason,
            correction=given.correction,
            seen=given.shown.seq,
        )
        for given in new
    ]
    store.decide_all(decisions, place="spreadsheet")
    return Imported(
        decided=len(new), unchanged=len(filled) - len(new), empty=len(found) - len(filled)
    )


def _cells(shown: ReviewedItem) -> dict[str, str]:
    item = shown.item
    return {
        "id": item.id,
        "state": shown.state,
        "kind": item.kind,
        "cell": item.cell,
        "request": request_of(item),
        "answer": words_of(item.answer),
        "rejected": words_of(item.rejected or []),
        "rejected_why": item.rejected_why,
        "confidence": f"{item.confidence:g}",
        "nearest": "\n".join(
            f"{near.similarity:.0%}: {one_line(near.text, 160)} → {one_line(near.answer, 160)}"
            for near in item.nearest
        ),
        "written_by": item.written_by,
        "corrected_so_far": _standing(shown),
        "last_event": str(shown.seq),
    }


def _standing(shown: ReviewedItem) -> str:
    """What a reviewer wrote instead, part by part; empty if nobody did."""
    correction = difference(shown.item, shown.final)
    parts = {} if correction is None else correction.model_dump(exclude_none=True)
    return "\n".join(f"{name}: {text}" for name, text in parts.items())


def _earlier(item: ReviewItem, items: Sequence[ReviewedItem]) -> str:
    return "\n".join(
        f"{shown.who}: {shown.why}"
        for shown in items
        if shown.item.root == item.root and shown.item.attempt < item.attempt
    )


def _guard(text: str) -> str:
    """``text`` so that no spreadsheet takes it for a formula; :func:`_unguard` is the way back."""
    return f"'{text}" if _FORMULA.match(text) else text


def _unguard(text: str) -> str:
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _read(path: Path) -> list[_Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), remedy="check the path") from None
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror})", where=str(path)) from None
    except UnicodeDecodeError:
        raise DataError(
            "the text is not UTF-8",
            where=str(path),
            remedy="save it as CSV UTF-8 in the spreadsheet",
        ) from None
    # Spreadsheets of some countries write semicolons or tabs.
    separator = re.match(r'"?id"?([,;\t])', text)
    if separator is None:
        raise _no_sheet(path, "id")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator[1])
    header = next(reader)
    missing = [name for name in (*READ_ONLY, *TO_FILL) if name not in header]
    if missing:
        raise _no_sheet(path, missing[0])
    rows, line = [], reader.line_num + 1
    try:
        for number, cells in enumerate(reader, start=2):
            if any(cells):
                named = zip(header, (_unguard(cell) for cell in cells), strict=False)
                rows.append(_Row(number, line, dict.fromkeys(header, "") | dict(named)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"no CSV: {error}", where=f"{path}, line {line}") from None
    return rows


def _no_sheet(path: Path, column: str) -> DataError:
    return DataError(
        f"there is no column {column!r} in the first row",
        where=str(path),
        remedy="start from a file that kedro review --export=FILE wrote, and keep its columns",
    )


def _decision(row: _Row, known: dict[str, ReviewedItem], store: ReviewStore) -> _Filled | None:
    """What is filled in in a row, checked; None if nothing is.

    Raises:
        _Problem: If it cannot be taken.
    """
    cells = {name: cell.strip() for name, cell in row.cells.items()}
    shown = known.get(cells["id"])
    if shown is None:
        raise _Problem(
            "id", f"there is no candidate {cells['id'][:40]!r}", "check --tenant and --name"
        )
    _refuse_edited(cells, shown)
    filled = [name for name in TO_FILL[1:] if cells[name]]
    if not cells["decision"]:
        if filled:
            raise _Problem("decision", f"is empty, but {filled[0]} is not", "fill it in")
        return None
    approved = _DECISIONS.get(cells["decision"].lower())
    if approved is None:
        raise _Problem(
            "decision", f"{cells['decision'][:40]!r} is no decision", "write approved or rejected"
        )
    correction = _correction(cells, shown, store)
    if not approved and any(cells[column] for column in _CORRECTED.values()):
        raise _Problem(filled[-1], "a rejected candidate takes no correction", "approve it instead")
    if not approved and not cells["reason"]:
        raise _Problem("reason", "a rejection needs a reason", "say in a few words what is wrong")
    found = _Filled(shown, approved, cells["reason"], correction)
    if not found.is_taken(cells["state"]):
        _refuse_overtaken(cells["last_event"], shown, known)
    return found


def _correction(
    cells: dict[str, str], shown: ReviewedItem, store: ReviewStore
) -> Correction | None:
    changes = {
        part: "\n".join(_lines(cells[column]))
        for part, column in _CORRECTED.items()
        if cells[column]
    }
    try:
        return store.check(shown.item, Correction(**changes)) if changes else None
    except CorrectionError as error:
        raise _Problem(_CORRECTED[error.part], error.what, error.remedy or "") from None


def _refuse_edited(cells: dict[str, str], shown: ReviewedItem) -> None:
    """Notices what was typed over: the candidate itself never changes."""
    for name, text in _cells(shown).items():
        if name in _CHANGING or _same(name, cells[name], text):
            continue
        instead = _CORRECTED.get(name)
        remedy = f"write the change into {instead}" if instead else "put it back"
        raise _Problem(name, "the text was changed; this column is only for reading", remedy)


def _same(name: str, cell: str, text: str) -> bool:
    if name == "confidence":
        # A spreadsheet takes it for a number and writes it in the manner of its country.
        try:
            return float(cell.replace(",", ".")) == float(text)
        except ValueError:
            return False
    return _lines(cell) == _lines(text)


def _lines(text: str) -> list[str]:
    return re.split("\r\n|\r|\n", text.strip())


def _refuse_overtaken(last_event: str, shown: ReviewedItem, known: dict[str, ReviewedItem]) -> None:
    later = [
        other.item
        for other in known.values()
        if other.item.root == shown.item.root and other.item.attempt > shown.item.attempt
    ]
    if later:
        raise _Problem("decision", "it was written anew since", f"decide about {later[-1].id}")
    if shown.state not in OPEN and str(shown.seq) != last_event:
        raise _Problem(
            "decision",
            f"{shown.who} decided meanwhile ({shown.state})",
            "empty the decision, or export a new file and decide there",
        )


def _listed(problems: Sequence[str]) -> str:
    shown = [*problems[:_MOST_PROBLEMS]]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    return "\n  ".join(["decisions cannot be taken:" if len(shown) > 1 else "", *shown]).strip()
