"""An append-only file of records that survives ``kill -9`` at any moment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from tracetune.errors import DataError
from tracetune.files import append_bytes, canonical_json, end_of_lines, sync
from tracetune.records import Record

R = TypeVar("R", bound=Record)


class Journal(Generic[R]):
    """Records, one line of JSON each. Whoever reads or appends holds the lock of the folder.

    A last line that was cut while it was written is not there: reading passes over it, and the next
    append removes it. Any other line that cannot be read is an error.

    Args:
        path: The file.
        record: The contract of its lines.
    """

    def __init__(self, path: Path, record: type[R]) -> None:
        self.path = path
        self._record = record
        self._inode: int | None = None
        self._offset = 0
        self._lines = 0

    def is_replaced(self) -> bool:
        """Whether what was read before is no longer what the file begins with."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return self._inode is not None
        return self._inode is not None and (
            found.st_ino != self._inode or found.st_size < self._offset
        )

    def read_new(self) -> list[R]:
        """Records that were appended since the last call.

        Raises:
            DataError: If a line is broken; names file, line and field.
        """
        try:
            handle = self.path.open("rb")
        except FileNotFoundError:
            return []
        with handle:
            self._inode = os.fstat(handle.fileno()).st_ino
            handle.seek(self._offset)
            whole, _, _ = handle.read().rpartition(b"\n")
        if not whole:
            return []
        found: list[R] = []
        for line in whole.split(b"\n"):
            found.append(self._parse(line, self._lines + len(found) + 1))
        self._offset += len(whole) + 1
        self._lines += len(found)
        return found

    def append(self, records: Sequence[R]) -> None:
        """Adds records to the end; when it returns they are on the disk."""
        if not records:
            return
        lines = "".join(canonical_json(record.model_dump(mode="json")) + "\n" for record in records)
        try:
            with self.path.open("a+b", buffering=0) as handle:
                end = end_of_lines(handle.fileno())
                handle.truncate(end)
                append_bytes(handle.fileno(), lines.encode("utf-8"))
        except OSError as error:
            raise DataError(
                f"the decision cannot be written: {error.strerror}",
                where=str(self.path),
                remedy="make room on the disk; nothing of it was kept",
            ) from None
        if end == 0:
            sync(self.path.parent)

    def _parse(self, line: bytes, number: int) -> R:
        try:
            return self._record.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "line"
            raise DataError(
                f"field '{field}': {first['msg']}",
                where=f"{self.path}, line {number}",
                remedy="restore the file from a copy; it is only ever appended to",
            ) from None
