"""The snapshot: what was read from a server, kept as Parquet so that a run can be repeated.

A snapshot is a folder with ``spans.parquet``, ``annotations.parquet``, ``sessions.parquet``,
``document_annotations.parquet`` and ``snapshot.json``. It appears as a whole or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tracetune.errors import DataError
from tracetune.files import atomic_folder, read_json, sha256_file, sha256_json, write_json
from tracetune.records import UtcTime

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2
TABLES = ("spans", "annotations", "sessions", "document_annotations")
TABLES_OF = {1: TABLES[:3], 2: TABLES}
"""The tables by format. A snapshot of format 1 is read as one without annotations of documents."""
REMEDY = "read the server again (telemetry.source=phoenix), or restore the folder"
ROW_GROUP = 10_000
ROW_GROUP_CHARACTERS = 16_000_000
# Ids of the server and its clock differ between servers that hold the same; what they say about
# the order of annotations does not, so the order is hashed in their place.
NOT_HASHED = frozenset({"annotation_id", "created_at", "updated_at"})

Row = dict[str, Any]

_COLUMNS = {
    "spans": (
        "span_id! trace_id! parent_id name span_kind start_time!@ end_time@ status_code session_id "
        "input_json output_json attributes_json"
    ),
    "annotations": (
        "annotation_id! span_id! name! annotator_kind identifier label score# explanation "
        "metadata_json created_at@ updated_at@"
    ),
    "sessions": (
        "session_id! start_time@ end_time@ annotation_id name annotator_kind identifier label "
        "score# explanation metadata_json updated_at@"
    ),
    "document_annotations": (
        "annotation_id! span_id! position!% name! annotator_kind identifier label score# "
        "explanation metadata_json created_at@ updated_at@"
    ),
}
"""Columns by table: ``!`` is never null, ``@`` a UTC time in microseconds, ``#`` a number, ``%`` a
whole number."""


class Window(BaseModel):
    """The half-open time window [start, end) that was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: UtcTime
    end: UtcTime


class SnapshotManifest(BaseModel):
    """What ``snapshot.json`` says about the snapshot beside it.

    Attributes:
        format: Version of the layout of the files.
        project: Name of the Phoenix project.
        window: The spans that were read, by start time.
        anchor: The moment on which the windows of training and test hang.
        counts: Rows per table.
        repaired_surrogates: Texts in which half characters were replaced by U+FFFD.
        files: SHA-256 of each Parquet file.
        content_hash: SHA-256 of the rows, without ids and times that only the server knows.
        server: Version and host of the server it was read from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    project: str
    window: Window
    anchor: UtcTime
    counts: dict[str, int]
    repaired_surrogates: int = Field(ge=0)
    files: dict[str, str]
    content_hash: str
    server: dict[str, str]


def table_schema(table: str) -> pa.Schema:
    """The Arrow schema of one of :data:`TABLES`."""
    import pyarrow as pa

    fields = []
    for column in _COLUMNS[table].split():
        kind = pa.string()
        if "@" in column:
            kind = pa.timestamp("us", tz="UTC")
        elif "#" in column:
            kind = pa.float64()
        elif "%" in column:
            kind = pa.int64()
        fields.append(pa.field(column.rstrip("!@#%"), kind, nullable="!" not in column))
    return pa.schema(fields)


def read_manifest(folder: Path) -> SnapshotManifest:
    """The manifest of a snapshot, after its files were verified.

    Raises:
        DataError: If a file is missing, was changed, is broken or has other columns.
    """
    manifest = _manifest(folder / "snapshot.json")
    for table in TABLES_OF[manifest.format]:
        _verify(folder / f"{table}.parquet", table, manifest)
    return manifest


def is_older_than(table: str, folder: Path) -> bool:
    """Whether the snapshot was written before there was this table.

    Raises:
        DataError: If ``snapshot.json`` is missing, broken or of an unknown format.
    """
    return table not in TABLES_OF[_manifest(folder / "snapshot.json").format]


def _manifest(path: Path) -> SnapshotManifest:
    """What ``snapshot.json`` says; the files beside it are not looked at."""
    if not path.is_file():
        raise DataError("there is no snapshot of telemetry", where=str(path), remedy=REMEDY)
    try:
        manifest = SnapshotManifest.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{place}: {first['msg']}", where=str(path), remedy=REMEDY) from error
    except ValueError as error:
        raise DataError(f"not JSON: {error}", where=str(path), remedy=REMEDY) from error
    if manifest.format not in TABLES_OF:
        raise DataError(
            f"format {manifest.format} is unknown; this version reads "
            f"{' and '.join(map(str, TABLES_OF))}",
            where=str(path),
            remedy=f"{REMEDY}; a newer format needs a newer tracetune",
        )
    return manifest


def _verify(path: Path, table: str, manifest: SnapshotManifest) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError("the file is missing", where=str(path), remedy=REMEDY)
    if sha256_file(path) != manifest.files.get(path.name):
        raise DataError(
            "the file is not the one that snapshot.json describes (other SHA-256): "
            "it is broken or was changed",
            where=str(path),
            remedy=REMEDY,
        )
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}", where=str(path), remedy=REMEDY) from error
    if not schema.equals(table_schema(table)):
        raise DataError(
            f"its columns are not those of table {table!r}", where=str(path), remedy=REMEDY
        )
    if rows != manifest.counts.get(table):
        raise DataError(
            f"{rows} rows, but snapshot.json counts {manifest.counts.get(table)}",
            where=str(path),
            remedy=REMEDY,
        )


def write(
    folder: Path,
    *,
    spans: Iterable[list[Row]],
    annotations: Iterable[list[Row]],
    sessions: Iterable[list[Row]],
    document_annotations: Iterable[list[Row]],
    fields: Callable[[], dict[str, Any]],
) -> SnapshotManifest:
    """Writes a snapshot; the folder appears when everything is in it.

    If a valid snapshot of the same content, project and window is there, it stays untouched. The
    rows are consumed in the order of :data:`TABLES` and never held all at once.

    Args:
        folder: The folder of the snapshot.
        spans: Lists of rows, sorted by (start_time, span_id).
        annotations: Lists of rows, sorted by (span_id, name, identifier, annotation_id); all
            annotations of a span stand in one list.
        sessions: Lists of rows, sorted by (session_id, name, identifier); all rows of a session
            stand in one list.
        document_annotations: Lists of rows, sorted by (span_id, position, name, identifier).
        fields: Called when all rows are written; gives project, window, anchor, server and
            repaired_surrogates of the manifest.

    Returns:
        The manifest that now lies in the folder.
    """
    tables = {
        "spans": (spans, ""),
        "annotations": (annotations, "span_id"),
        "sessions": (sessions, "session_id"),
        # No rule asks which of two opinions on a document came last.
        "document_annotations": (document_annotations, ""),
    }
    try:
        with atomic_folder(folder) as temporary:
            counts, digests, files = {}, {}, {}
            for table, (batches, ranked_by) in tables.items():
                path = temporary / f"{table}.parquet"
                counts[table], digests[table] = _write_table(path, table, batches, ranked_by)
                files[path.name] = sha256_file(path)
            manifest = SnapshotManifest.model_validate(
                {
                    "format": FORMAT,
                    "counts": counts,
                    "files": files,
                    "content_hash": _content_hash(counts, digests),
                    **fields(),
                }
            )
            present = _present(folder)
            if present is not None and _same(present, manifest):
                raise _UnchangedError(present)
            write_json(temporary / "snapshot.json", manifest.model_dump(mode="json"))
    except _UnchangedError as unchanged:
        return unchanged.manifest
    return manifest


def _content_hash(counts: dict[str, int], digests: dict[str, str]) -> str:
    """One hash of all tables, which is that of format 1 where that could hold everything."""
    kept = {table: digests[table] for table in TABLES if table in TABLES_OF[1] or counts[table]}
    return sha256_json(kept)


class _UnchangedError(Exception):
    """Leaves the block that would replace the folder: what is there is the same."""

    def __init__(self, manifest: SnapshotManifest) -> None:
        self.manifest = manifest
        super().__init__("unchanged")


def _present(folder: Path) -> SnapshotManifest | None:
    try:
        return read_manifest(folder)
    except DataError:
        return None


def _same(first: SnapshotManifest, second: SnapshotManifest) -> bool:
    names = ("format", "project", "window", "anchor", "counts", "content_hash")
    return all(getattr(first, name) == getattr(second, name) for name in names)


def _write_table(
    path: Path, table: str, batches: Iterable[list[Row]], ranked_by: str
) -> tuple[int, str]:
    """Writes one Parquet file and returns its number of rows and the hash of its content."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = table_schema(table)
    digest = hashlib.sha256()
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=9) as writer:
        for rows in _row_groups(batches, digest, schema.names, ranked_by):
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            count += len(rows)
    return count, digest.hexdigest()


def _row_groups(
    batches: Iterable[list[Row]], digest: Any, columns: list[str], ranked_by: str
) -> Iterator[list[Row]]:
    """Joins small batches to row groups of a bounded size, hashing each row on the way."""
    import orjson

    hashed = [column for column in columns if column not in NOT_HASHED]
    group: list[Row] = []
    characters = 0
    for rows in batches:
        ranks = _ranks(rows, ranked_by) if ranked_by else [0] * len(rows)
        for row, rank in zip(rows, ranks, strict=True):
            line = orjson.dumps([rank, *(row[column] for column in hashed)])
            digest.update(line + b"\n")
            group.append(row)
            characters += len(line)
            if len(group) >= ROW_GROUP or characters >= ROW_GROUP_CHARACTERS:
                yield group
                group, characters = [], 0
    if group:
        yield group


def _ranks(rows: list[Row], owner: str) -> list[int]:
    """The place of each annotation in time among those of the same span or session."""
    order = sorted(
        range(len(rows)),
        key=lambda index: (
            rows[index][owner],
            str(rows[index]["updated_at"] or ""),
            rows[index]["annotation_id"] or "",
        ),
    )
    ranks = [0] * len(rows)
    place = 0
    for before, index in zip([None, *order], order, strict=False):
        same = before is not None and rows[before][owner] == rows[index][owner]
        place = place + 1 if same else 0
        ranks[index] = place
    return ranks
