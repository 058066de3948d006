"""The ledger of a tenant and name: an append-only file of what was sent, answered and paid.

A line is on disk before what it announces happens, and a reply before it is read. A process killed
in the middle of a line leaves a last line without its end; it is cut off when the ledger is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter, ValidationError

from tracetune.errors import DataError
from tracetune.files import append_bytes, sha256_json, sync
from tracetune.llm.entries import (
    Collected,
    Counted,
    Created,
    Entry,
    Gone,
    Intent,
    Lost,
    Planned,
    Price,
    Reply,
    Round,
    Unpaid,
    Void,
)
from tracetune.llm.replies import ReplyBody, read_reply
from tracetune.runs import RunLock, utc_now

FILE = "ledger.jsonl"
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


@dataclass
class Batch:
    """A round and what became of it.

    Attributes:
        id: Of its batch; empty until that is known.
        state: ``open``, or the kind of the entry that ended it.
        replied: Hashes of the requests whose replies are here.
    """

    round: Round
    id: str = ""
    state: str = "open"
    replied: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Sent:
    """A request that was sent, at which price and by which way."""

    planned: Planned
    model: str
    mode: str
    price: Price


@dataclass
class Contents:
    """The ledger in memory.

    Attributes:
        counts: Token counts by the hash of what was counted.
        sent: By request hash: how it was sent last.
        open: Direct requests without an outcome.
        lost: Requests whose reply is lost, and why.
        batches: Rounds by token.
        replies: The reply of each request; one that was paid stays.
        unpaid: The batches that gave a request back unpaid (expired, canceled).
    """

    counts: dict[str, int] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    lost: dict[str, str] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    replies: dict[str, ReplyBody] = field(default_factory=dict)
    unpaid: dict[str, set[str]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Takes in one entry.

        Raises:
            KeyError: The entry speaks of a request or round that no entry before it announced.
        """
        if isinstance(entry, Counted):
            self.counts[entry.key] = entry.tokens
        elif isinstance(entry, Intent):
            request = entry.request
            self.sent[request.hash] = Sent(request, entry.model, "direct", entry.price)
            self.open.add(request.hash)
        elif isinstance(entry, Unpaid):
            self.open.remove(entry.hash)
        elif isinstance(entry, Lost):
            self.open.discard(entry.hash)
            self.lost[self.sent[entry.hash].planned.hash] = entry.reason
        elif isinstance(entry, Reply):
            self._reply(entry)
        elif isinstance(entry, Round):
            self.batches[entry.token] = Batch(entry)
            for planned in entry.requests:
                self.sent[planned.hash] = Sent(planned, entry.model, "batch", entry.price)
        else:
            self._batch(self.batches[entry.token], entry)

    def _reply(self, entry: Reply) -> None:
        self.open.discard(entry.hash)
        for batch in self.open_batches() if entry.batch else []:
            if batch.id == entry.batch:
                batch.replied.add(entry.hash)
        known = self.replies.get(self.sent[entry.hash].planned.hash)
        if known is not None and known.paid:
            return  # the same results, collected once more after a kill
        body = read_reply(entry.text, from_batch=bool(entry.batch))
        self.replies[entry.hash] = body
        if body.kind in ("expired", "canceled"):
            self.unpaid.setdefault(entry.hash, set()).add(entry.batch)
        if body.kind == "broken":
            self.lost[entry.hash] = body.reason

    def _batch(self, batch: Batch, entry: Created | Collected | Void | Gone) -> None:
        if isinstance(entry, Created):
            batch.id = entry.batch
        else:
            batch.state = entry.kind
        if isinstance(entry, Gone):
            for planned in batch.round.requests:
                reply = self.replies.get(planned.hash)
                # An unpaid reply of an earlier batch says nothing about this one.
                if planned.hash not in batch.replied and not (reply and reply.paid):
                    self.lost[planned.hash] = entry.reason

    def open_batches(self) -> list[Batch]:
        """Rounds that were announced and not brought to an end, oldest first."""
        return [batch for batch in self.batches.values() if batch.state == "open"]


def read_contents(folder: Path) -> Contents:
    """The ledger in ``folder``; empty if there is none. A torn last line is left out.

    Raises:
        DataError: A line is broken.
    """
    contents = Contents()
    data = _whole_lines(folder / FILE)[0]
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            contents.add(_ENTRY.validate_json(line))
        except (ValidationError, KeyError) as error:
            reason = "it speaks of something that no line before it announced"
            if isinstance(error, ValidationError):
                reason = str(error.errors(include_url=False, include_input=False)[0]["msg"])
            raise DataError(
                f"the line is broken: {reason}",
                where=f"{folder / FILE}:{number}",
                remedy="restore the file from a copy; what it holds was paid for. Without a copy, "
                "move it away: everything is then asked for and paid again",
            ) from None
    return contents


def _whole_lines(path: Path) -> tuple[bytes, int]:
    """The lines of the file that have their end, and the number of bytes after them."""
    data = path.read_bytes() if path.is_file() else b""
    end = data.rfind(b"\n") + 1
    return data[:end], len(data) - end


class Ledger:
    """The ledger of one folder, held by this process alone while it is open.

    Args:
        folder: ``<data>/llm/<tenant>/<name>``; made if it is not there.

    Raises:
        TracetuneError: Another process holds it.
        DataError: A line is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = RunLock(folder / "ledger.lock")
        self._lock.acquire()
        try:
            path = folder / FILE
            self.contents = read_contents(folder)
            whole, torn = _whole_lines(path)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            if torn:
                os.ftruncate(self._file, len(whole))
                os.fsync(self._file)
            sync(folder)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Ledger:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file and gives the lock back."""
        os.close(self._file)
        self._lock.release()

    def append(self, entries: Iterable[Entry]) -> None:
        """Writes entries to disk, then takes them in. Not safe between threads."""
        batch = list(entries)
        lines = "".join(entry.model_dump_json() + "\n" for entry in batch)
        try:
            append_bytes(self._file, lines.encode("utf-8"))
        except OSError as error:
            raise DataError(
                f"the ledger cannot be written: {error.strerror}",
                where=str(self.folder / FILE),
                remedy="make room on the disk, then run again",
            ) from None
        for entry in batch:
            self.contents.add(entry)

    def close_interrupted(self) -> int:
        """Brings to an end what an interrupted run left, as far as that needs no service.

        Direct requests in flight become lost. A batch whose replies are all here is collected.

        Returns:
            How many requests were lost.
        """
        for batch in self.contents.open_batches():
            if batch.replied == {planned.hash for planned in batch.round.requests}:
                self.append([Collected(time=utc_now(), token=batch.round.token)])
        for part in self.folder.glob("batches/*.part"):
            part.unlink()  # results are always downloaded whole
        reason = "the run was interrupted before its reply came"
        found = sorted(self.contents.open)
        if found:
            self.append(Lost(time=utc_now(), hash=item, reason=reason) for item in found)
        return len(found)

    def part(self, batch: Batch) -> Path:
        """Where the results of a batch lie until they are whole."""
        return self.folder / "batches" / f"{batch.id}.jsonl.part"


def count_key(model: str, payload: object) -> str:
    """Key of a token count: the model and all that was counted."""
    return sha256_json([model, payload])
