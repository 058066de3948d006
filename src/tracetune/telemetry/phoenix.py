"""Reads one project of an Arize Phoenix server into a snapshot.

The reading follows ``reference/phoenix.md`` section 4: the project is resolved first, spans come by
REST in pages over explicit UTC windows, annotations by the ids of every span, and what was read is
compared with what the server counts, once more when everything was read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tracetune.errors import ConfigurationError, DataError, ServerError
from tracetune.phoenix_rest import PhoenixServer
from tracetune.telemetry import snapshot
from tracetune.telemetry.phoenix_counts import count_annotations, count_spans, full_hour, gone, iso
from tracetune.telemetry.phoenix_documents import DocumentReader
from tracetune.telemetry.phoenix_parallel import Item, Result, batches, in_order
from tracetune.telemetry.phoenix_rows import (
    Row,
    annotation_order,
    annotation_row,
    bare_session,
    may_hold_documents,
    span_row,
    utc_time,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ATTEMPTS_PER_WINDOW = 3


@dataclass(frozen=True)
class Window:
    """A half-open time window and the number of spans the server counts in it."""

    start: datetime
    end: datetime
    expected: int


@dataclass
class _Reading:
    """What is gathered while one snapshot is read."""

    server: PhoenixServer
    project_id: str
    start: datetime
    end: datetime
    documents: DocumentReader
    span_ids: list[str] = field(default_factory=list)
    with_documents: list[str] = field(default_factory=list)
    spans_by_hour: Counter[datetime] = field(default_factory=Counter)
    annotations_before: Counter[tuple[str, str]] = field(default_factory=Counter)
    repaired: int = 0

    def count_spans(
        self, start: datetime, end: datetime, scale: Literal["HOUR", "MINUTE"] = "HOUR"
    ) -> list[tuple[datetime, int]]:
        """Spans per hour or minute as the server counts them at this moment."""
        return count_spans(self.server, self.project_id, start, end, scale)


class PhoenixProject:
    """A project of a live Phoenix server; nothing is asked before :meth:`save_snapshot`.

    Args:
        url: Base address of the server.
        project: Exact name of the project.
        api_key: Bearer key, if the server wants one; never shown.
        timeout: Seconds that one request may take.
        page_size: Spans per page, at most 1000 (the server's limit).
        concurrency: Pages that are asked for at the same time.
    """

    def __init__(
        self,
        url: str,
        project: str,
        api_key: str | None = None,
        timeout: float = 60.0,
        page_size: int = 1000,
        concurrency: int = 4,
    ) -> None:
        """Creates the handle."""
        if not 1 <= page_size <= 1000:
            raise ConfigurationError("page_size must be between 1 and 1000", where="page_size")
        self.url = url
        self.project = project
        self._api_key = api_key
        self._timeout = timeout
        self._page_size = page_size
        self._concurrency = concurrency

    def __repr__(self) -> str:
        """Without the key."""
        return f"PhoenixProject({self.project!r})"

    def save_snapshot(
        self, folder: Path, anchor: str | None = None, read_days: int = 40
    ) -> snapshot.SnapshotManifest:
        """Reads [anchor - read_days, anchor) and keeps it in ``folder``.

        Args:
            folder: Where the snapshot appears, as a whole or not at all.
            anchor: ISO time with zone; by default the first UTC midnight after the newest span.
            read_days: Length of the window in days.

        Returns:
            The manifest of the snapshot.

        Raises:
            ConfigurationError: If the project does not exist or the anchor has no time zone.
            ServerError: If the server is down, refuses, holds another number of spans than its
                pages gave, or something was deleted there meanwhile.
            DataError: If the project holds no spans in the window.
        """
        server = PhoenixServer(self.url, self._api_key, self._timeout)
        try:
            project_id = self._resolve(server)
            end = _moment(anchor) if anchor else self._midnight_after_newest(server, project_id)
            documents = DocumentReader(server, project_id, self._page_size, self._concurrency)
            reading = _Reading(server, project_id, end - timedelta(days=read_days), end, documents)
            windows = self._windows(reading)
            total = sum(window.expected for window in windows)
            if not total:
                raise DataError(
                    f"project {self.project!r} holds no spans from {iso(reading.start)} "
                    f"to {iso(end)}",
                    where=server.address,
                    remedy="set telemetry.anchor and telemetry.read_days to a time with spans",
                )
            with _progress() as progress:
                task = progress.add_task("spans", total=total)
                return snapshot.write(
                    folder,
                    spans=self._spans(reading, windows, progress, task),
                    annotations=self._annotations(reading, progress, task),
                    sessions=self._sessions(reading),
                    document_annotations=self._documents(reading, progress, task),
                    fields=lambda: self._fields(reading),
                )
        finally:
            server.close()

    def _resolve(self, server: PhoenixServer) -> str:
        """The id of the project. An unknown project is an error, never an empty result."""
        names: list[str] = []
        listing = server.pages(
            "/v1/projects", {"limit": 1000, "include_experiment_projects": "true"}
        )
        for projects, _ in listing:
            for project in projects:
                if project["name"] == self.project:
                    return str(project["id"])
                names.append(project["name"])
        shown = ", ".join(sorted(names)[:20]) + (" …" if len(names) > 20 else "")
        raise ConfigurationError(
            f"the server has no project {self.project!r}; it has: {shown or 'none'}",
            where=server.address,
            remedy="set telemetry.project to one of them",
        )

    def _midnight_after_newest(self, server: PhoenixServer, project_id: str) -> datetime:
        answer, _ = server.get(
            f"/v1/projects/{project_id}/spans",
            {"limit": 1, "sort": "start_time", "order": "desc"},
        )
        if not answer["data"]:
            raise DataError(
                f"project {self.project!r} holds no spans",
                where=server.address,
                remedy="send traces to it first, or set telemetry.project",
            )
        newest = utc_time(answer["data"][0]["start_time"])
        return newest.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)

    def _windows(self, reading: _Reading) -> list[Window]:
        """Consecutive windows that cover everything and hold about one page each."""
        windows: list[Window] = []
        start, expected = reading.start, 0
        for moment, count in reading.count_spans(reading.start, reading.end):
            bins = [(moment, count)]
            if count > self._page_size:
                end = min(full_hour(moment) + timedelta(hours=1), reading.end)
                bins = reading.count_spans(moment, end, "MINUTE")
            for begin, number in bins:
                if expected and expected + number > self._page_size:
                    windows.append(Window(start, begin, expected))
                    start, expected = begin, 0
                expected += number
        return [*windows, Window(start, reading.end, expected)]

    def _spans(
        self, reading: _Reading, windows: list[Window], progress: Progress, task: TaskID
    ) -> Iterator[list[Row]]:
        """Rows of ``spans.parquet``, window by window."""
        for rows, repaired in self._in_order(
            reading, lambda window: self._window(reading, window), windows
        ):
            reading.repaired += repaired
            reading.span_ids.extend(row["span_id"] for row in rows)
            reading.with_documents.extend(row["span_id"] for row in rows if may_hold_documents(row))
            hours = (full_hour(row["start_time"]) for row in rows)
            reading.spans_by_hour.update(max(hour, reading.start) for hour in hours)
            progress.advance(task, len(rows))
            yield rows
        reading.span_ids.sort()
        reading.with_documents.sort()
        for first, second in zip(reading.span_ids, reading.span_ids[1:], strict=False):
            if first == second:
                raise ServerError(f"span {first} came twice", where=self.url, remedy="run again")

    def _window(self, reading: _Reading, window: Window) -> tuple[list[Row], int]:
        """All spans of a window; read again when more arrived meanwhile."""
        expected = window.expected
        for _ in range(ATTEMPTS_PER_WINDOW):
            rows: list[Row] = []
            repaired = 0
            if expected:
                params = {
                    "limit": self._page_size,
                    "sort": "start_time",
                    "order": "asc",
                    "start_time": iso(window.start),
                    "end_time": iso(window.end),
                }
                path = f"/v1/projects/{reading.project_id}/spans"
                for page, found in reading.server.pages(path, params):
                    rows.extend(span_row(span) for span in page)
                    repaired += found
            if len(rows) == expected:
                rows.sort(key=lambda row: (row["start_time"], row["span_id"]))
                return rows, repaired
            bins = reading.count_spans(window.start, window.end)
            expected = sum(count for _, count in bins)
        raise ServerError(
            f"the pages from {iso(window.start)} to {iso(window.end)} held {len(rows)} spans, "
            f"the server counts {expected}",
            where=reading.server.address,
            remedy="spans still arrive there: set telemetry.anchor to a moment in the past",
        )

    def _annotations(
        self, reading: _Reading, progress: Progress, task: TaskID
    ) -> Iterator[list[Row]]:
        """Rows of ``annotations.parquet``: those of every span, notes included."""
        progress.reset(task, description="annotations", total=len(reading.span_ids))
        reading.annotations_before = count_annotations(reading.server, reading.project_id)
        groups = list(batches(reading.span_ids, self._page_size))
        path = f"/v1/projects/{reading.project_id}/span_annotations"

        def read(batch: list[str]) -> tuple[list[Row], int]:
            return self._annotations_of(reading, path, "span", batch)

        for (rows, repaired), batch in zip(
            self._in_order(reading, read, groups), groups, strict=True
        ):
            reading.repaired += repaired
            progress.advance(task, len(batch))
            yield rows

    def _sessions(self, reading: _Reading) -> Iterator[list[Row]]:
        """Rows of ``sessions.parquet``: sessions that reach into the window, annotated or not."""
        times: dict[str, tuple[datetime, datetime]] = {}
        listing = reading.server.pages(
            f"/v1/projects/{reading.project_id}/sessions", {"limit": self._page_size}
        )
        for page, repaired in listing:
            reading.repaired += repaired
            for session in page:
                start, end = utc_time(session["start_time"]), utc_time(session["end_time"])
                if start < reading.end and end >= reading.start:
                    times[session["session_id"]] = (start, end)
        path = f"/v1/projects/{reading.project_id}/session_annotations"
        for batch in batches(sorted(times), self._page_size):
            found, repaired = self._annotations_of(reading, path, "session", batch)
            reading.repaired += repaired
            annotated = {row["session_id"] for row in found}
            bare = [bare_session(session) for session in batch if session not in annotated]
            rows = sorted(found + bare, key=lambda row: annotation_order(row, "session_id"))
            for row in rows:
                row["start_time"], row["end_time"] = times[row["session_id"]]
            yield rows

    def _documents(
        self, reading: _Reading, progress: Progress, task: TaskID
    ) -> Iterator[list[Row]]:
        """Rows of ``document_annotations.parquet``: those of every span that lists documents."""

        def begin(total: int) -> None:
            progress.reset(task, description="documents", total=total)

        for rows, repaired in reading.documents.rows(reading.with_documents, begin):
            reading.repaired += repaired
            progress.advance(task, len(rows))
            yield rows

    def _annotations_of(
        self, reading: _Reading, path: str, kind: str, owners: list[str]
    ) -> tuple[list[Row], int]:
        """All annotations of the given spans or sessions, in the order of the snapshot."""
        rows: list[Row] = []
        repaired = 0
        params = {f"{kind}_ids": owners, "limit": self._page_size * 10}
        for page, found in reading.server.pages(path, params):
            rows.extend(annotation_row(annotation, f"{kind}_id") for annotation in page)
            repaired += found
        if len({row["annotation_id"] for row in rows}) != len(rows):
            raise ServerError(
                f"an annotation of a {kind} came twice",
                where=reading.server.address,
                remedy="run again",
            )
        rows.sort(key=lambda row: annotation_order(row, f"{kind}_id"))
        return rows, repaired

    def _in_order(
        self, reading: _Reading, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        return in_order(reading.server, self._concurrency, function, items)

    def _fields(self, reading: _Reading) -> dict[str, Any]:
        """What the manifest says, after a last look at the server."""
        self._check_nothing_gone(reading)
        return {
            "project": self.project,
            "window": {"start": reading.start, "end": reading.end},
            "anchor": reading.end,
            "repaired_surrogates": reading.repaired,
            "server": {"version": reading.server.version, "host": reading.server.host},
        }

    def _check_nothing_gone(self, reading: _Reading) -> None:
        """Stops if something was deleted meanwhile: rows read before and after do not fit together.

        A span would stand in the snapshot without its verdicts, or a verdict without the one that
        contradicts it. What arrived meanwhile does no harm.
        """
        spans = gone(reading.spans_by_hour, dict(reading.count_spans(reading.start, reading.end)))
        now = count_annotations(reading.server, reading.project_id)
        annotations = gone(reading.annotations_before, now) + reading.documents.gone()
        if spans or annotations:
            raise ServerError(
                f"{spans} spans and {annotations} annotations were deleted on the server while it "
                "was read; nothing of this reading is kept",
                where=reading.server.address,
                remedy="run again when nothing is being deleted there",
            )


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("Phoenix: {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
    )


def _moment(text: str) -> datetime:
    """The anchor as an aware time in UTC."""
    remedy = "write it with its zone, such as 2026-10-01T00:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is not an ISO time", where="telemetry.anchor", remedy=remedy
        ) from error
    if moment.tzinfo is None:
        raise ConfigurationError(
            f"{text!r} has no time zone", where="telemetry.anchor", remedy=remedy
        )
    return moment.astimezone(UTC)
