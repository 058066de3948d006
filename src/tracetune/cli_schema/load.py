"""Reads a schema from YAML; errors name file, line and path."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from tracetune.cli_schema.schema import CliSchema, Path, SchemaProblem, SchemaProblems, dotted
from tracetune.errors import DataError
from tracetune.files import sha256_json

MAX_BYTES = 5_000_000
_MAX_DEPTH = 40
_MAX_NODES = 500_000
"""Values in one file; anchors that multiply each other would pass any memory."""
_SHOWN = 10
_REMEDY = "correct the file; docs/cli-schema.json lets an editor check it while you type"


def load_schema(path: FilePath) -> CliSchema:
    """The schema in a YAML file.

    Raises:
        DataError: The file cannot be read or is no valid schema. The message names every problem
            with its line and path (the first ten).
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise DataError(
            f"the schema cannot be read: {error.strerror}",
            where=str(path),
            remedy="`kedro schemas list` shows the schemas there are",
        ) from None
    if size > MAX_BYTES:
        raise DataError(f"{size} bytes are too much for a schema", where=str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError("the file is not UTF-8", where=f"{path}:{line}", remedy=_REMEDY) from None
    return parse_schema(text, source=str(path))


def schema_hash(schema: CliSchema) -> str:
    """Hex SHA-256 of what a schema says, however its file is laid out."""
    return sha256_json(schema.model_dump(mode="json"))


def parse_schema(text: str, *, source: str = "schema") -> CliSchema:
    """The schema in a YAML text.

    Args:
        text: YAML.
        source: Its name in messages.

    Raises:
        DataError: It is no valid schema.
    """
    reader = _Reader(source)
    value = reader.read(text)
    try:
        return CliSchema.model_validate(value)
    except ValidationError as error:
        found = list(_found(error, value))
    raise reader.refused(found)


class _Reader:
    """YAML as plain values, with the line of each path."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: dict[Path, int] = {}
        self._problems: list[SchemaProblem] = []
        self._nodes = 0

    def read(self, text: str) -> Any:
        # Without type stubs in the environment; everything it gives is checked afterwards.
        yaml: Any = importlib.import_module("yaml")
        base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            loader = base(text)
            try:
                node = loader.get_single_node()
                self._scalar = loader.construct_object
                value = None if node is None else self._value(node, ())
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark is not None else ""
            reason = getattr(error, "problem", None) or getattr(error, "reason", None) or error
            raise DataError(
                f"this is not YAML: {reason}", where=f"{self._source}{line}", remedy=_REMEDY
            ) from None
        except (ValueError, RecursionError) as error:
            # Dates and numbers that do not exist; nesting without end.
            raise DataError(
                f"this cannot be read: {error}", where=self._source, remedy=_REMEDY
            ) from None
        if not isinstance(value, dict):
            raise DataError(
                "a schema is a mapping with cli_name, description and commands",
                where=f"{self._source}:1",
                remedy=_REMEDY,
            )
        if self._problems:
            raise self.refused(self._problems)
        return value

    def _value(self, node: Any, path: Path) -> Any:
        self._nodes += 1
        if len(path) > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise ValueError("nested or repeated too often")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if node.id == "sequence":
            return [self._value(inner, (*path, i)) for i, inner in enumerate(node.value)]
        if node.id == "mapping":
            return self._mapping(node, path)
        return self._scalar(node)

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, inner in node.value:
            key = key_node.value if key_node.id == "scalar" else None
            line = key_node.start_mark.line + 1
            if key is None:
                self._lines.setdefault((*path, "?"), line)
                self._problems.append(SchemaProblem((*path, "?"), "a key is a name"))
                continue
            if key in found:
                first = self._lines[(*path, key)]
                self._lines[(*path, key)] = line
                message = f"the key stands there twice, first in line {first}"
                self._problems.append(SchemaProblem((*path, key), message))
                continue
            found[key] = self._value(inner, (*path, key))
            self._lines[(*path, key)] = line
        return found

    def refused(self, found: Iterable[SchemaProblem]) -> DataError:
        """The error that names all problems, in the order of the lines."""
        placed = sorted({(self._line(p.path), dotted(p.path), p.message) for p in found})
        line, path, message = placed[0]
        what = f"{path}: {message}"
        for line_, path_, message_ in placed[1:_SHOWN]:
            what += f"\n{self._source}:{line_}: {path_}: {message_}"
        if len(placed) > _SHOWN:
            what += f"\nand {len(placed) - _SHOWN} more"
        return DataError(what, where=f"{self._source}:{line}", remedy=_REMEDY)

    def _line(self, path: Path) -> int:
        """The line of a path, or of the nearest part around it that stands in the file."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]


def _found(error: ValidationError, value: Any) -> Iterator[SchemaProblem]:
    """The problems in pydantic's error, in words."""
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, SchemaProblems):
            for found in cause.found:
                yield SchemaProblem(_within(found.path, value), found.message)
        else:
            yield SchemaProblem(_within(item["loc"], value), _words(item))


def _within(loc: Path, value: Any) -> Path:
    """``loc`` without the steps that name a variant of a type and not a place in the file.

    The last step may name something that is missing; ``values`` may stand under ``type.enum``.
    """
    path: list[str | int] = []
    for step in loc:
        if isinstance(value, dict) and isinstance(value.get("type"), dict) and step == "values":
            path += ["type", "enum"]
            value = value["type"].get("enum")
            continue
        path.append(step)
        if isinstance(value, dict):
            value = value.get(str(step))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            path.pop()
            break
    return tuple(path)


def _words(item: Any) -> str:
    kind, given = item["type"], item.get("input")
    if item["loc"] and item["loc"][-1] in ("bool", "int", "float", "str"):
        return f"is {given!r}, expected text, a number, true or false"
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "literal_error":
        return f"{given!r} is no type; there are string, integer, float, boolean, path, enum"
    if kind == "string_type":
        hint = "; put it in quotes" if isinstance(given, bool | int | float) else ""
        return f"is {given!r}, expected text{hint}"
    if kind == "bool_type":
        return f"is {given!r}, expected true or false"
    if kind in ("tuple_type", "list_type"):
        return "expected a list"
    if kind == "model_type":
        return "expected a mapping"
    return str(item["msg"])
