"""JSON values of a file one after the other, so that a large export is never in memory as a whole.

The file is a JSON array (both exports), or values on their own (JSONL, or one conversation). Only
brackets and strings are looked at to find where a value ends; the value itself is read by ``json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tracetune.errors import DataError

_BLOCK = 1 << 18
_BOM = b"\xef\xbb\xbf"
_MARK = re.compile(rb'["\[\]{}]')
_IN_STRING = re.compile(rb'["\\]')
_END_OF_PLAIN = re.compile(rb"[\s,\]}]")


@dataclass(frozen=True)
class Item:
    """One value of a file.

    Attributes:
        number: Its number in the file, from 1.
        line: Line on which it starts, from 1.
        value: The value.
    """

    number: int
    line: int
    value: Any


def items(path: Path) -> Iterator[Item]:
    """The values of a file, in order.

    Raises:
        DataError: The file is missing, empty, cut off or not JSON; the message names the place.
    """
    if not path.is_file():
        raise DataError(
            "there is no such file", where=str(path), remedy="check the path of the export"
        )
    with path.open("rb") as handle:
        yield from _Reader(path, handle).items()


class _Reader:
    """A window on the file that grows to one value and is then emptied."""

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        self._path, self._handle = path, handle
        self._buffer, self._at, self._line = bytearray(), 0, 1

    def items(self) -> Iterator[Item]:
        self._more()
        if self._buffer.startswith(_BOM):
            self._at = len(_BOM)
        if self._buffer.startswith(b"PK\x03\x04"):
            raise DataError(
                "this is a ZIP archive",
                where=str(self._path),
                remedy="unpack it and give the conversations.json inside",
            )
        first = self._peek()
        if first == b"":
            raise DataError("the file is empty", where=str(self._path), remedy="export it again")
        array = first == b"["
        if array:
            self._skip(1)
        number = 0
        while True:
            mark = self._peek()
            if array and mark == b"]":
                self._skip(1)
                if self._peek() != b"":
                    raise self._broken("something stands after the end of the list", number)
                return
            if mark == b"":
                if array:
                    raise self._cut(number)
                return
            if array and number:
                if mark != b",":
                    raise self._broken("a comma is missing between two conversations", number)
                self._skip(1)
                if self._peek() == b"":
                    raise self._cut(number)
            number += 1
            yield self._item(number)

    def _item(self, number: int) -> Item:
        start_line = self._line
        end = self._end_of_value(number)
        text = self._buffer[self._at : end]
        try:
            value = json.loads(text)
        except UnicodeDecodeError as error:
            raise DataError(
                f"it is not UTF-8 ({error.reason} at byte {error.start} of the conversation)",
                where=self._where(number, start_line),
                remedy="save the file as UTF-8",
            ) from None
        except json.JSONDecodeError as error:
            raise DataError(
                f"it is not JSON ({error.msg})",
                where=self._where(number, start_line + error.lineno - 1),
                remedy="export it again, or correct the line",
            ) from None
        except RecursionError:
            raise DataError(
                "it is nested too deeply", where=self._where(number, start_line)
            ) from None
        self._skip(end - self._at)
        return Item(number, start_line, value)

    def _end_of_value(self, number: int) -> int:
        """Index in the buffer after the value that starts here; the value is read in whole."""
        opened = self._buffer[self._at : self._at + 1]
        if bytes(opened) not in (b"{", b"["):
            return self._end_of_plain()
        depth, at = 0, self._at
        while True:
            mark = _MARK.search(self._buffer, at)
            if mark is None:
                at = len(self._buffer)
                if not self._more():
                    raise self._cut(number - 1)
                continue
            at = mark.end()
            if mark[0] == b'"':
                at = self._end_of_string(at, number)
                continue
            depth += 1 if mark[0] in (b"{", b"[") else -1
            if depth == 0:
                return at

    def _end_of_string(self, at: int, number: int) -> int:
        while True:
            mark = _IN_STRING.search(self._buffer, at)
            if mark is None or (mark[0] == b"\\" and mark.end() == len(self._buffer)):
                at = mark.start() if mark else len(self._buffer)
                if not self._more():
                    raise self._cut(number - 1)
            elif mark[0] == b"\\":
                at = mark.end() + 1
            else:
                return mark.end()

    def _end_of_plain(self) -> int:
        at = self._at + 1
        while True:
            mark = _END_OF_PLAIN.search(self._buffer, at)
            if mark is not None:
                return mark.start()
            at = len(self._buffer)
            if not self._more():
                return at

    def _more(self) -> bool:
        """Reads a block more; indices from ``_at`` on stay valid."""
        block = self._handle.read(_BLOCK)
        self._buffer += block
        return bool(block)

    def _peek(self) -> bytes:
        """The next byte that is no space; empty at the end of the file."""
        while True:
            while self._at < len(self._buffer):
                byte = self._buffer[self._at : self._at + 1]
                if not byte.isspace():
                    return bytes(byte)
                self._skip(1)
            if not self._more():
                return b""

    def _skip(self, count: int) -> None:
        self._line += self._buffer.count(b"\n", self._at, self._at + count)
        self._at += count
        if self._at > _BLOCK:
            del self._buffer[: self._at]
            self._at = 0

    def _where(self, number: int, line: int) -> str:
        return f"{self._path}, conversation {number}, line {line}"

    def _cut(self, whole: int) -> DataError:
        return DataError(
            f"the file ends in the middle, after {whole} whole conversations",
            where=f"{self._path}, line {self._line}",
            remedy="the download or the copy was cut; export it again",
        )

    def _broken(self, what: str, number: int) -> DataError:
        return DataError(
            what,
            where=f"{self._path}, after conversation {number}, line {self._line}",
            remedy="export it again",
        )
