"""Drafts a schema from the ``--help`` output of a program.

Nothing is ever run but ``<program> [command] [subcommand] --help``: a list of words without a
shell, without input, with a time limit, and at most a given number of calls. Help texts have no
standard form, so the result is a draft: what could not be understood stands there as a comment, and
a person reads it before anything is generated from it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracetune.cli_schema.help_text import NAME, HelpAsker
from tracetune.cli_schema.load import parse_schema
from tracetune.cli_schema.schema import TYPES
from tracetune.errors import ConfigurationError

_TIMEOUT = 20.0
_HEADING = re.compile(r"^(\S[^\n]{0,60}?):?$")
_COMMAND_HEADING = re.compile(r"\b(sub)?commands?\b", re.IGNORECASE)
_COMMAND_LINE = re.compile(
    r"^\s{1,12}([a-z0-9][\w-]*)(?:[*:])?(?:,\s*[\w-]+)*(?:\s{2,}|:\s+|\s+-\s+)(\S.*)$"
)
_OPTION_LINE = re.compile(
    r"^\s{1,12}(?:-(?P<short>[^\s,-])(?:,?\s+|/|\|))?--(?P<name>[A-Za-z0-9][\w-]*)"
    r"(?:(?P<join>[ =]|\[=?)(?P<value>[<\[{]?[^\s\]>}]+(?:[^\S\n][^\s\]>}]+)*?[\]>}]*))?"
    r"(?:\s{2,}(?P<text>\S.*))?$"
)
_SHORT_ONLY = re.compile(r"^\s{1,12}-\w(?:\s|$)")
_CHOICES = re.compile(r"\{([^{}]+?[|,][^{}]+?)\}|\(((?:[\w-]+\|)+[\w-]+)\)|<((?:[\w-]+\|)+[\w-]+)>")
_DEFAULT = re.compile(r"\(default:?\s+\"?([^\")]+)\"?\)|\[default:\s*([^\]]+)\]", re.IGNORECASE)
_USAGE = re.compile(r"^\s*(?:usage:)?\s*", re.IGNORECASE)
_POSITIONAL = re.compile(r"(\[)?<([A-Za-z][\w-]*)>|(\[)([A-Za-z][\w-]*)\]")
_SKIPPED = ("help", "version", "completion")
_INTEGERS = ("int", "integer", "n", "num", "number", "count", "uint", "seconds", "port")
_FLOATS = ("float", "decimal", "double")
_PATHS = ("path", "file", "dir", "directory", "filename", "folder")


@dataclass
class _Part:
    """A command as its help tells it."""

    name: str
    description: str
    args: list[dict[str, object]] = field(default_factory=list)
    flags: list[dict[str, object]] = field(default_factory=list)
    subcommands: list[_Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def draft_schema(program: str, *, most_calls: int = 60, timeout: float = _TIMEOUT) -> str:
    """YAML of a schema for a program, as far as its help texts can be understood.

    Args:
        program: Name of a program on the path, or its path.
        most_calls: Most calls of ``--help``.
        timeout: Seconds for each of them.

    Returns:
        YAML that :func:`~tracetune.cli_schema.load.parse_schema` reads.

    Raises:
        ConfigurationError: There is no such program, or its help names no command and no option.
    """
    found = shutil.which(program)
    if found is None:
        raise ConfigurationError(
            f"there is no program {program!r}",
            where="PROGRAM",
            remedy="install it, or give its path",
        )
    asker = HelpAsker(found, most_calls, timeout)
    text = asker.help_of([])
    if text is None:
        raise ConfigurationError(
            f"{program} --help says nothing, or not within {timeout:g} seconds", where="PROGRAM"
        )
    name = Path(found).stem
    root = _Part(name, _description(text, name))
    commands = _commands(text)
    if commands:
        root.subcommands = [_ask(asker, [sub], about) for sub, about in commands]
    else:
        # No commands: the program itself is the only one, under its own name.
        root.subcommands = [_Part(name, root.description)]
        _read_options(text, root.subcommands[0])
        root.notes.append(
            f"{name} has no commands. Its options stand under a command of its own name, which is "
            "no word of its command line."
        )
    _unique([root])
    if not commands and not root.subcommands[0].args and not root.subcommands[0].flags:
        raise ConfigurationError(
            f"nothing in {program} --help looks like a command or an option",
            where="PROGRAM",
            remedy="write the schema by hand; data/01_raw/demo/cli has examples",
        )
    yaml = _yaml(root, most_calls - asker.left, asker.left <= 0)
    parse_schema(yaml, source=f"draft of {name}")
    return yaml


def _ask(asker: HelpAsker, words: list[str], about: str) -> _Part:
    part = _Part(words[-1], about)
    text = asker.help_of(words)
    if text is None:
        part.notes.append("its help could not be read; arguments and flags are missing")
        return part
    below = _commands(text) if len(words) == 1 else []
    if below:
        part.subcommands = [_ask(asker, [*words, sub], said) for sub, said in below]
    else:
        _read_positional(text, words, part)
        _read_options(text, part)
    return part


def _description(text: str, name: str) -> str:
    for line in text.splitlines():
        said = line.strip()
        listed = "    " in said or _OPTION_LINE.match(line)
        usage = listed or said.lower().startswith(("usage", "[", "-", "<", f"{name.lower()} "))
        if not usage and len(said.split()) > 1:
            return said.rstrip(".")[:200]
    return f"The program {name}"


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Headings without indentation, and the lines below them."""
    heading, lines = "", list[str]()
    for line in text.splitlines():
        found = _HEADING.match(line)
        if found and (line.rstrip().endswith(":") or line.isupper()):
            yield heading, lines
            heading, lines = found[1], []
        else:
            lines.append(line)
    yield heading, lines


def _commands(text: str) -> list[tuple[str, str]]:
    """Names and descriptions under every heading that speaks of commands."""
    found: dict[str, str] = {}
    for heading, lines in _sections(text):
        if not _COMMAND_HEADING.search(heading):
            continue
        for line in lines:
            match = _COMMAND_LINE.match(line)
            if match and match[1] not in _SKIPPED and NAME.fullmatch(match[1]):
                found.setdefault(match[1], match[2].strip().rstrip("."))
    return list(found.items())


def _read_options(text: str, part: _Part) -> None:
    lines = text.splitlines()
    for number, line in enumerate(lines):
        # "--[no-]sync" is the flag "sync"; "-b <name>, --branch <name>" says its value twice.
        plain = re.sub(r"(-\S) <[^>]+>(?=, --)", r"\1", line.rstrip().replace("--[no-]", "--"))
        match = _OPTION_LINE.match(plain)
        if match is None:
            if line.strip().startswith("--") or _SHORT_ONLY.match(line):
                part.notes.append(f"not understood: {' '.join(line.split())[:120]}")
            continue
        if match["name"] in _SKIPPED:
            continue
        said = " ".join((match["text"] or _below(lines, number)).split())
        value = match["value"]
        if value is None:
            flag: dict[str, object] = {"name": match["name"]}
            if match["short"]:
                flag["short"] = match["short"]
            part.flags.append(flag | ({"description": said[:200]} if said else {}))
        else:
            part.args.append(_argument(match["name"], value, said))


def _below(lines: Sequence[str], number: int) -> str:
    """The line below an option, if it stands further in and is no option itself."""
    if number + 1 >= len(lines):
        return ""
    here, below = lines[number], lines[number + 1]
    deeper = len(below) - len(below.lstrip()) > len(here) - len(here.lstrip())
    return below.strip() if deeper and not below.lstrip().startswith("-") else ""


def _argument(name: str, value: str, said: str) -> dict[str, object]:
    """An option with a value: its type from the value's name, its choices and default if said."""
    argument: dict[str, object] = {"name": name}
    choices = _CHOICES.search(value) or _CHOICES.search(said)
    word = value.strip("<>[]{}=").lower()
    if choices:
        inner = next(group for group in choices.groups() if group)
        values = [text.strip() for text in re.split(r"[|,]", inner) if text.strip()]
        argument["type"] = {"enum": list(dict.fromkeys(values))}
    elif word in _INTEGERS:
        argument["type"] = "integer"
    elif word in _FLOATS:
        argument["type"] = "float"
    elif word in _PATHS:
        argument["type"] = "path"
    else:
        argument["type"] = "string"
    default = _DEFAULT.search(said)
    if default:
        given = _default(argument["type"], (default[1] or default[2]).strip())
        if given is not None:
            argument["default"] = given
    return argument | ({"description": said[:200]} if said else {})


def _default(kind: object, text: str) -> object:
    """A default in the type of its argument; None if it is none."""
    if kind == "integer":
        return int(text) if re.fullmatch(r"-?\d{1,15}", text) else None
    if kind == "float":
        return float(text) if re.fullmatch(r"-?\d{1,12}(\.\d{1,12})?", text) else None
    if isinstance(kind, dict):
        return text if text in kind["enum"] else None
    return text or None


def _read_positional(text: str, words: Sequence[str], part: _Part) -> None:
    """Arguments without a name in the first usage line: ``<number>`` needed, ``[path]`` not."""
    start = next((i for i, line in enumerate(text.splitlines()) if "usage" in line.lower()), None)
    if start is None:
        return
    lines = text.splitlines()[start : start + 2]
    usage = next((line for line in lines if words[-1] in line.split()), "")
    rest = usage.partition(f" {words[-1]} ")[2]
    # Values of options are not positional: "[--depth <n>]", "-b <name>".
    rest = re.sub(r"\[?-{1,2}[\w-]+(?:[ =]<[^>]*>)?\]?", " ", rest)
    optional = False
    for match in _POSITIONAL.finditer(rest):
        name = (match[2] or match[4]).lower()
        if name in ("flags", "options", "command", "subcommand", "args"):
            continue
        optional = optional or bool(match[1] or match[3])
        kind = "path" if name in _PATHS else "integer" if name in _INTEGERS else "string"
        argument: dict[str, object] = {"name": name, "type": kind, "positional": True}
        part.args.append(argument if optional else {**argument, "required": True})


def _unique(parts: Sequence[_Part]) -> None:
    """Keeps the first of what stands twice, with a note."""
    for part in parts:
        seen: set[str] = set()
        shorts: set[object] = set()
        for key in ("args", "flags"):
            kept = []
            for item in getattr(part, key):
                if item["name"] in seen:
                    part.notes.append(f"{item['name']} stands there twice; the first was kept")
                    continue
                seen.add(str(item["name"]))
                if item.get("short") in shorts:
                    item.pop("short", None)
                elif "short" in item:
                    shorts.add(item["short"])
                kept.append(item)
            setattr(part, key, kept)
        _unique(part.subcommands)


def _yaml(root: _Part, calls: int, cut: bool) -> str:
    lines = [
        f"# Drafted from {calls} help texts of {root.name}. Read it before you use it: types and",
        "# required arguments are guesses, and enums are often only in the documentation.",
        f"# Types: {', '.join(TYPES)}.",
    ]
    if cut:
        lines.append("# The number of calls was used up; some commands have no arguments here.")
    lines += [f"# {_comment(note)}" for note in root.notes]
    lines += [f"cli_name: {_quoted(root.name)}", f"description: {_quoted(root.description)}"]
    lines.append("commands:")
    for command in root.subcommands:
        lines += _part_lines(command, 2)
    return "\n".join(lines) + "\n"


def _part_lines(part: _Part, indent: int) -> list[str]:
    pad = " " * indent
    lines = [f"{pad}- name: {_quoted(part.name)}"]
    lines.append(f"{pad}  description: {_quoted(part.description or part.name)}")
    lines += [f"{pad}  # {_comment(note)}" for note in part.notes]
    for key in ("args", "flags"):
        items = getattr(part, key)
        if items:
            lines.append(f"{pad}  {key}:")
            lines += [f"{pad}    - {_flow(item)}" for item in items]
    if part.subcommands:
        lines.append(f"{pad}  subcommands:")
        for sub in part.subcommands:
            lines += _part_lines(sub, indent + 4)
    return lines


def _flow(value: object) -> str:
    """A value in YAML's flow style; texts are always quoted."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    """A double-quoted scalar: JSON strings of printable characters are YAML."""
    return json.dumps(_printable(text), ensure_ascii=False)


def _comment(text: str) -> str:
    return " ".join(_printable(text).split())


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())
