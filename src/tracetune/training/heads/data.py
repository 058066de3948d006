"""The folder of rows as the training reads it: rows, what is known beside them, the reference.

``train.jsonl`` and ``validation.jsonl`` hold document 001's records, ``sidecar.jsonl`` one
:class:`~tracetune.records.heads.HeadExtra` of each, ``reference.json`` how coordinates were made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tracetune.errors import DataError
from tracetune.files import sha256_file
from tracetune.records.heads import PATTERNS, HeadExtra, TrajectoryReference, TrajectoryRow
from tracetune.training.job import TRAIN_FILE, VALIDATION_FILE, DatasetRef, dataset_ref

SIDECAR_FILE = "sidecar.jsonl"
REFERENCE_FILE = "reference.json"
_Found = TypeVar("_Found", TrajectoryRow, HeadExtra)
_AGAIN = "run the stage that writes the rows again"


@dataclass(frozen=True)
class HeadRows:
    """Rows of one file with what is known of each.

    Attributes:
        rows: The records, in the order of the file.
        extras: What is known of each, in the same order.
        next_rows: Positions of the next turns of each, nearest first.
    """

    rows: list[TrajectoryRow]
    extras: list[HeadExtra]
    next_rows: list[list[int]]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def support(self) -> dict[str, int]:
        """Rows that have each pattern."""
        return {
            name: sum(extra.patterns[column] for extra in self.extras)
            for column, name in enumerate(PATTERNS)
        }


@dataclass(frozen=True)
class HeadsDataset:
    """Everything in the folder.

    Attributes:
        train: Training rows.
        validation: Validation rows; may be empty.
        reference: How their coordinates were made.
    """

    train: HeadRows
    validation: HeadRows
    reference: TrajectoryReference


def heads_dataset_ref(folder: Path) -> DatasetRef:
    """Hashes the files of the folder, those beside the rows too.

    Raises:
        DataError: One is missing.
    """
    found = dataset_ref(folder)
    files = dict(found.files)
    for name in (SIDECAR_FILE, REFERENCE_FILE):
        files[name] = sha256_file(_present(folder / name))
    return found.model_copy(update={"files": files})


def load_dataset(folder: Path, files: dict[str, str] | None = None) -> HeadsDataset:
    """Reads and checks the folder.

    Args:
        folder: The folder.
        files: SHA-256 that each file must have, if it was hashed before.

    Raises:
        DataError: A file is missing, has changed, holds something else, or two of them disagree.
    """
    for name, digest in (files or {}).items():
        if sha256_file(_present(folder / name)) != digest:
            raise DataError(
                "the rows have changed since the job was made",
                where=str(folder / name),
                remedy="make a new job from the rows as they are now",
            )
    reference = read_reference(folder)
    extras = _sidecar(folder / SIDECAR_FILE, reference)
    parts = []
    for name in (TRAIN_FILE, VALIDATION_FILE):
        path = folder / name
        wanted = path.is_file() or name == TRAIN_FILE
        parts.append(_joined(path, extras, reference) if wanted else HeadRows([], [], []))
    train, validation = parts
    both = {r.conversation_id for r in train.rows} & {r.conversation_id for r in validation.rows}
    if both:
        raise DataError(
            f"{len(both)} conversations stand in training and in validation, for example "
            f"{min(both)!r}: their turns know one another",
            where=str(folder),
            remedy="divide the rows by conversation",
        )
    return HeadsDataset(train, validation, reference)


def read_reference(folder: Path) -> TrajectoryReference:
    """How the coordinates of the rows were made.

    Raises:
        DataError: The file is missing or holds something else.
    """
    path = _present(folder / REFERENCE_FILE)
    try:
        return TrajectoryReference.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not a reference: {error}", where=str(path), remedy=_AGAIN) from error


def read_trajectory_rows(path: Path) -> list[TrajectoryRow]:
    """Document 001's records in a JSONL file.

    Raises:
        DataError: The file is missing or a line is no record; names file, line and field.
    """
    return [
        _parsed(TrajectoryRow, text, path, number, "a row of trajectory and messages")
        for number, text in _lines(_present(path))
    ]


def _sidecar(path: Path, reference: TrajectoryReference) -> dict[str, HeadExtra]:
    found: dict[str, HeadExtra] = {}
    for number, text in _lines(_present(path)):
        extra = _parsed(HeadExtra, text, path, number, "what is known of a row")
        where = f"{path}, line {number}"
        if extra.row_id in found:
            raise DataError(f"row {extra.row_id!r} comes twice", where=where, remedy=_AGAIN)
        if extra.variant != reference.variant:
            raise DataError(
                f"the coordinates of row {extra.row_id!r} are {extra.variant!r}, "
                f"{REFERENCE_FILE} says {reference.variant!r}",
                where=where,
                remedy=_AGAIN,
            )
        found[extra.row_id] = extra
    return found


def _joined(path: Path, extras: dict[str, HeadExtra], reference: TrajectoryReference) -> HeadRows:
    rows = read_trajectory_rows(path)
    positions = {row.row_id: number for number, row in enumerate(rows)}
    if len(positions) != len(rows):
        twice = Counter(row.row_id for row in rows).most_common(1)[0][0]
        raise DataError(f"row {twice!r} comes twice", where=str(path), remedy=_AGAIN)
    known, following = [], []
    for number, row in enumerate(rows, start=1):
        where = f"{path}, line {number}"
        extra = extras.get(row.row_id)
        if extra is None:
            raise DataError(
                f"{SIDECAR_FILE} does not know row {row.row_id!r}", where=where, remedy=_AGAIN
            )
        if extra.role != row.messages[-1].role:
            raise DataError(
                f"the last message is the {row.messages[-1].role}'s, {SIDECAR_FILE} says that row "
                f"{row.row_id!r} is a turn of the {extra.role}",
                where=where,
                remedy="let the messages end with the turn itself",
            )
        lost = [other for other in extra.next_rows if other not in positions]
        if lost:
            raise DataError(
                f"the next turn {lost[0]!r} of row {row.row_id!r} is not in this file",
                where=where,
                remedy="divide the rows by conversation, whole conversations only",
            )
        known.append(extra)
        following.append([positions[other] for other in extra.next_rows])
    return HeadRows(rows, known, following)


def _parsed(record: type[_Found], text: str, path: Path, number: int, what: str) -> _Found:
    try:
        return record.model_validate_json(text)
    except ValueError as error:
        raise DataError(
            f"not {what}: {error}",
            where=f"{path}, line {number}",
            remedy="correct the line, or run the stage that wrote it again",
        ) from error


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"there is no {path.name}", where=str(path.parent), remedy=_AGAIN)
    return path


def style_groups(rows: Sequence[HeadRows]) -> list[list[int]]:
    """The style group of each row as a number, the same number in all parts.

    Args:
        rows: Parts, such as training and validation.
    """
    names = sorted({extra.style_group for part in rows for extra in part.extras})
    number = {name: position for position, name in enumerate(names)}
    return [[number[extra.style_group] for extra in part.extras] for part in rows]
