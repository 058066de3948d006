"""CTv3.1 as files: one record per line, of one kind or mixed; reading loses nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from tracetune.errors import DataError
from tracetune.files import atomic_path, canonical_json
from tracetune.records.ctv3 import CTV3, DpoPair, EvalCase, RepoTaskTurn, SftTurn

AnyRecord = SftTurn | RepoTaskTurn | DpoPair | EvalCase


def write_records(path: Path, records: Iterable[AnyRecord]) -> int:
    """Writes records in their order, checked, whole or not at all.

    Returns:
        How many were written.

    Raises:
        DataError: A record breaks the schema.
    """
    number = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for number, record in enumerate(records, start=1):
            line = canonical_json(record.model_dump(mode="json"))
            _parse(line, f"{path}, record {number}")  # copies made without checks are caught
            handle.write(line + "\n")
    return number


def read_records(path: Path) -> Iterator[AnyRecord]:
    """The records of a file, one after the other.

    Raises:
        DataError: A line breaks the schema; the message names line and field.
    """
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), remedy="check the path")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parse(line, f"{path}, line {number}")


def _parse(line: str, where: str) -> AnyRecord:
    try:
        return CTV3.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "record"
        raise DataError(
            f"field '{field}': {first['msg']}",
            where=where,
            remedy="correct the line; the contract is in tracetune.records.ctv3",
        ) from None
