"""Trajectories as Parquet: the same rows as their JSONL, for engines that read columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import VersionNotFoundError
from pydantic import ValidationError

from tracetune.errors import DataError
from tracetune.files import atomic_path
from tracetune.records import Trajectory

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 1_000


def trajectory_schema() -> pa.Schema:
    """The Arrow schema: the fields of the contract by their names, turns as a list of structs."""
    import pyarrow as pa

    text, moment = pa.string(), pa.timestamp("us", tz="UTC")
    facts = pa.map_(text, text)
    turn = pa.struct(
        [
            pa.field("turn_id", pa.int32(), nullable=False),
            pa.field("query", text, nullable=False),
            pa.field("response", text, nullable=False),
            pa.field("timestamp", moment, nullable=False),
            pa.field("span_id", text, nullable=False),
            pa.field("metadata", facts, nullable=False),
        ]
    )
    provenance = pa.struct(
        [
            pa.field("source", text, nullable=False),
            pa.field("tenant", text, nullable=False),
            pa.field("ids", facts, nullable=False),
            pa.field("group", text, nullable=False),
            pa.field("created_at", moment),
            pa.field("content_hash", text, nullable=False),
            pa.field("weight", pa.float64(), nullable=False),
        ]
    )
    return pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("session_id", text, nullable=False),
            pa.field("turns", pa.list_(turn), nullable=False),
            pa.field("session_outcome", text),
            pa.field("session_score", pa.float64()),
            pa.field("tags", facts, nullable=False),
            pa.field("provenance", provenance, nullable=False),
        ]
    )


class TrajectoryDataset(AbstractVersionedDataset[Iterable[Trajectory], list[Trajectory]]):
    """Trajectories, one Parquet row each; validated on save and on load, saved atomically.

    What is loaded equals what the JSONL of the same rows gives. Times without a zone, other columns
    and rows that break the contract are errors that name file, row and field.

    Example:
        ```yaml
        "{pipeline}.trajectories_table":
          type: tracetune.datasets.trajectory_dataset.TrajectoryDataset
          filepath: data/04_feature/trajectories.parquet
          versioned: true
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Creates the dataset.

        Args:
            filepath: Local path of the file.
            version: Version to load and save, as Kedro gives it.
            metadata: Ignored here; read by kedro-viz.
        """
        self.metadata = metadata
        super().__init__(filepath=PurePosixPath(filepath), version=version)

    def load(self) -> list[Trajectory]:
        """All trajectories of the file, validated."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(self._get_load_path())
        try:
            with pq.ParquetFile(path) as file:
                _check_schema(file.schema_arrow, path)
                rows = [row for batch in file.iter_batches(ROW_GROUP) for row in batch.to_pylist()]
        except pa.ArrowException as error:
            raise DataError(
                f"not a Parquet file: {error}",
                where=str(path),
                remedy="run the pipeline that makes it",
            ) from error
        return [
            _validated(_from_arrow(row), f"{path}, row {number}")
            for number, row in enumerate(rows, start=1)
        ]

    def save(self, data: Iterable[Trajectory]) -> None:
        """Writes the trajectories in their order, validated, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path, schema = Path(self._get_save_path()), trajectory_schema()
        numbered = enumerate(data, start=1)
        with (
            atomic_path(path) as temporary,
            pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
        ):
            while rows := list(islice(_plain(numbered, path), ROW_GROUP)):
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_file()
        except VersionNotFoundError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def _plain(numbered: Iterator[tuple[int, Trajectory]], path: Path) -> Iterator[dict[str, Any]]:
    """Rows for Arrow, each validated: rows made by model_construct have not been."""
    for number, row in numbered:
        where = f"{path}, row {number}"
        if type(row) is not Trajectory:
            raise DataError(f"a {type(row).__name__} where trajectories are expected", where=where)
        plain = row.model_dump()
        _validated(plain, where)
        # Sorted, so that equal rows are equal bytes.
        plain["tags"] = sorted(plain["tags"].items())
        plain["provenance"]["ids"] = sorted(plain["provenance"]["ids"].items())
        for turn in plain["turns"]:
            turn["metadata"] = sorted(turn["metadata"].items())
        yield plain


def _from_arrow(row: dict[str, Any]) -> dict[str, Any]:
    """Maps come as lists of pairs."""
    provenance = {**row["provenance"], "ids": dict(row["provenance"]["ids"])}
    turns = [{**turn, "metadata": dict(turn["metadata"])} for turn in row["turns"]]
    return {**row, "turns": turns, "tags": dict(row["tags"]), "provenance": provenance}


def _validated(row: dict[str, Any], where: str) -> Trajectory:
    try:
        return Trajectory.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        raise DataError(
            f"field '{field}': {first['msg']}",
            where=where,
            remedy="correct the row; the contract is tracetune.records.Trajectory",
        ) from None


def _check_schema(found: pa.Schema, path: Path) -> None:
    """The file must have the columns of the contract.

    Raises:
        DataError: Names the column; for a time without a zone it says so.
    """
    expected = trajectory_schema()
    if found.equals(expected):
        return
    names = [name for name in expected.names if name not in found.names]
    names += [name for name in found.names if name not in expected.names]
    for name in names or [n for n in expected.names if found.field(n) != expected.field(n)]:
        here = found.field(name).type if name in found.names else None
        naive = here is not None and "timestamp[" in str(here) and "tz=" not in str(here)
        raise DataError(
            f"column {name!r} holds times without a zone"
            if naive
            else f"column {name!r} is {here or 'missing'}, expected "
            f"{expected.field(name).type if name in expected.names else 'no such column'}",
            where=str(path),
            remedy="write the times in UTC with their zone" if naive else "run the pipeline again",
        )
    raise DataError(f"the columns stand in another order than {expected.names}", where=str(path))
