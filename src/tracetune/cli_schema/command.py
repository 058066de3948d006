"""What ``kedro schemas`` does and says."""

from __future__ import annotations

from pathlib import Path

from tracetune.cli_schema.draft import draft_schema
from tracetune.cli_schema.load import load_schema
from tracetune.cli_schema.schema import CliSchema
from tracetune.errors import DataError, TracetuneError
from tracetune.files import write_text

FOLDER = "cli"


def schema_path(raw_root: Path, tenant: str, name: str) -> Path:
    """Where the schema of a tenant and name is."""
    return raw_root / tenant / FOLDER / f"{name}.yaml"


def list_schemas(raw_root: Path, tenant: str) -> list[str]:
    """A line for each schema of a tenant: its name, its program, its size, or what is wrong."""
    folder = raw_root / tenant / FOLDER
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    if not files:
        return [
            f"There are no schemas in {folder}.",
            "Draft one from a program: kedro schemas draft PROGRAM --out FILE",
        ]
    width = max(len(path.stem) for path in files)
    lines = []
    for path in files:
        try:
            schema = load_schema(path)
        except TracetuneError as error:
            first = str(error).splitlines()[0]
            lines.append(f"{path.stem:<{width}}  not valid: {first}")
        else:
            lines.append(f"{path.stem:<{width}}  {_size(schema)}: {schema.description}")
    return lines


def check_schema(path: Path) -> list[str]:
    """Says that a schema is valid and what it has.

    Raises:
        DataError: It is not valid; the message names every problem with its line.
    """
    schema = load_schema(path)
    return [f"{path} is valid: {_size(schema)}"]


def draft(program: str, out: Path | None, *, most_calls: int) -> list[str]:
    """Drafts a schema from the help of a program, into a file or as lines.

    Raises:
        ConfigurationError: There is no such program, or its help cannot be understood.
        DataError: The file exists already or cannot be written.
    """
    if out is not None and out.exists():
        raise DataError(
            "the file exists already and is not overwritten",
            where=str(out),
            remedy="give another name with --out",
        )
    text = draft_schema(program, most_calls=most_calls)
    if out is None:
        return [text.rstrip("\n")]
    try:
        write_text(out, text)
    except OSError as error:
        raise DataError(f"the file cannot be written: {error.strerror}", where=str(out)) from None
    return [f"{out}: a draft. Read it, then: kedro schemas check {out}"]


def _size(schema: CliSchema) -> str:
    subs = sum(len(command.subcommands) for command in schema.commands)
    return f"{schema.cli_name}, {len(schema.commands)} commands, {subs} subcommands"
