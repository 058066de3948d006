"""The description of a command-line program: its commands, arguments and flags.

The format is that of source document 002 (domain reference B1), in which an ``enum`` is written in
one of two ways; both become one internal form. One key is new: ``positional: true`` on an argument
that stands alone on the command line, without ``--name``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

ArgType = Literal["string", "integer", "float", "boolean", "path", "enum"]
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
"""A value of an argument; a boolean is never an integer."""
TYPES: tuple[ArgType, ...] = ("string", "integer", "float", "boolean", "path", "enum")
PLACEHOLDER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_-]*\}")
"""Where the value stands in a ``pattern``."""

Path = tuple[str | int, ...]


def _word(text: str) -> str:
    if not text or re.search(r"\s", text):
        raise ValueError("a name is one word without spaces")
    if text.startswith("-"):
        raise ValueError(f"write the name without dashes: {text.lstrip('-')!r}")
    return text


def _phrase(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate)") from None
    return text


def _letter(text: str) -> str:
    if len(text) != 1 or text.isspace() or text == "-":
        raise ValueError("is one character, written without a dash")
    return text


Word = Annotated[StrictStr, AfterValidator(_phrase), AfterValidator(_word)]
Phrase = Annotated[StrictStr, AfterValidator(_phrase)]
Letter = Annotated[StrictStr, AfterValidator(_letter)]


class Part(BaseModel):
    """Base of all parts of a schema: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Hint(Part):
    """How people say a value: other words for it, or a pattern around it."""

    value: Scalar | None = Field(None, description="The value that the alternatives stand for.")
    alternatives: tuple[Phrase, ...] = Field((), description="Other words for the value.")
    pattern: Phrase | None = Field(
        None, description="A phrase with one placeholder for the value: 'the last {value}'."
    )

    @model_validator(mode="after")
    def _check(self) -> Hint:
        if (self.pattern is None) == (self.value is None):
            raise ValueError("a hint has either a value with alternatives, or a pattern")
        if self.value is not None and not self.alternatives:
            raise ValueError("a value needs alternatives")
        if self.pattern is not None and self.alternatives:
            raise ValueError("a pattern has no alternatives")
        if self.pattern is not None and len(PLACEHOLDER.findall(self.pattern)) != 1:
            raise ValueError("a pattern holds one placeholder such as {value}")
        return self


class Argument(Part):
    """An argument: something with a value. A flag that takes a value is an argument."""

    name: Word = Field(description="Name without dashes.")
    type: ArgType = Field(description="Type of the value; an enum lists its values.")
    values: tuple[Phrase, ...] = Field((), description="The values of an enum.")
    required: StrictBool = Field(False, description="Whether the command needs it.")
    default: Scalar | None = Field(None, description="Value that the program takes without it.")
    description: Phrase | None = Field(None, description="What it is.")
    natural_language: tuple[Hint, ...] = Field((), description="How people say it.")
    positional: StrictBool = Field(
        False, description="Stands alone on the command line, in the order of the schema."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_form_of_enum(cls, given: Any) -> Any:
        """Reads ``type: {enum: [...]}`` as ``type: enum`` with ``values``."""
        if not isinstance(given, Mapping) or not isinstance(given.get("type"), Mapping):
            return given
        kind = given["type"]
        if set(kind) != {"enum"}:
            raise ValueError("a type is a name or {enum: [values]}")
        if "values" in given:
            raise ValueError("values stand twice: in type.enum and beside it")
        return {**given, "type": "enum", "values": kind["enum"]}


class Flag(Part):
    """A switch without a value."""

    name: Word = Field(description="Name without dashes.")
    short: Letter | None = Field(None, description="One character.")
    description: Phrase | None = Field(None, description="What it does.")
    natural_language: tuple[Phrase, ...] = Field((), description="How people say it.")


class Subcommand(Part):
    """Something that can be run: arguments and flags."""

    name: Word = Field(description="Name as it is typed.")
    description: Phrase = Field(description="What it does, as in the help of the program.")
    aliases: tuple[Word, ...] = Field((), description="Other names that the program knows.")
    args: tuple[Argument, ...] = Field((), description="Arguments, in order.")
    flags: tuple[Flag, ...] = Field((), description="Switches.")

    def argument(self, name: str) -> Argument | None:
        """The argument of that name."""
        return next((arg for arg in self.args if arg.name == name), None)

    @property
    def required(self) -> tuple[Argument, ...]:
        """Arguments that it needs."""
        return tuple(arg for arg in self.args if arg.required)


class Command(Subcommand):
    """A command: with subcommands, or one that is run itself."""

    subcommands: tuple[Subcommand, ...] = Field((), description="Its subcommands.")


@dataclass(frozen=True)
class Place:
    """What an answer can name: a command without subcommands, or a subcommand.

    Attributes:
        command: Name of the command.
        subcommand: Name of the subcommand, or None.
        group: The command.
        spec: What is run: its arguments and flags.
    """

    command: str
    subcommand: str | None
    group: Command
    spec: Subcommand

    @property
    def label(self) -> str:
        """``pr list``; ``ps``."""
        return self.command if self.subcommand is None else f"{self.command} {self.subcommand}"

    @property
    def verb(self) -> str:
        """The last word of the label."""
        return self.subcommand or self.command


@dataclass(frozen=True)
class SchemaProblem:
    """Something wrong in a schema.

    Attributes:
        path: Keys and positions from the root.
        message: What is wrong.
    """

    path: Path
    message: str


class SchemaProblems(ValueError):
    """All problems that need more than one part of a schema to be seen.

    Args:
        found: At least one.
    """

    def __init__(self, found: Sequence[SchemaProblem]) -> None:
        super().__init__("; ".join(f"{dotted(p.path)}: {p.message}" for p in found))
        self.found = tuple(found)


class CliSchema(Part):
    """A command-line program: what it can do and how it is called."""

    cli_name: Word = Field(description="Name of the program as it is typed.")
    description: Phrase = Field(description="What the program is.")
    commands: tuple[Command, ...] = Field(
        description="Its commands.", json_schema_extra={"minItems": 1}
    )
    _commands: dict[str, Command] = PrivateAttr(default_factory=dict)
    _places: dict[tuple[str, str | None], Place] = PrivateAttr(default_factory=dict)
    _order: list[Place] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> CliSchema:
        found = list(_problems(self))
        if found:
            raise SchemaProblems(found)
        return self

    def model_post_init(self, _: Any) -> None:
        """Makes the look-up tables once."""
        for command in self.commands:
            for name in (command.name, *command.aliases):
                self._commands.setdefault(name, command)
            if not command.subcommands:
                self._add(Place(command.name, None, command, command), (None,))
            for sub in command.subcommands:
                self._add(Place(command.name, sub.name, command, sub), (sub.name, *sub.aliases))

    def _add(self, place: Place, names: Iterable[str | None]) -> None:
        self._order.append(place)
        for name in names:
            self._places.setdefault((place.command, name), place)

    def command(self, name: str) -> Command | None:
        """The command of that name or alias."""
        return self._commands.get(name)

    def place(self, command: str, subcommand: str | None) -> Place | None:
        """What these names or aliases stand for; None if it cannot be run."""
        found = self.command(command)
        return None if found is None else self._places.get((found.name, subcommand))

    def places(self) -> list[Place]:
        """Everything that can be run, in the order of the schema, each once."""
        return list(self._order)


def dotted(path: Path) -> str:
    """A path for people: ``commands[0].args[1].default``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".") or "the whole document"


def value_problem(argument: Argument, value: Any) -> str | None:
    """Why ``value`` is no value of ``argument``; None if it is one.

    An integer is no boolean; a float may be written without a point; a path is text.
    """
    kind = argument.type
    if kind == "enum":
        if isinstance(value, str) and value in argument.values:
            return None
        return f"{value!r} is not one of {', '.join(argument.values)}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = {
        "string": isinstance(value, str) and _is_text(value),
        "path": isinstance(value, str) and _is_text(value),
        "integer": number and isinstance(value, int),
        "float": number and value == value and abs(value) != float("inf"),
        "boolean": isinstance(value, bool),
    }[kind]
    return None if right else f"{value!r} is not of the type {kind}"


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _problems(schema: CliSchema) -> Iterator[SchemaProblem]:
    if not schema.commands:
        yield SchemaProblem(("commands",), "a program needs at least one command")
    yield from _doubles(schema.commands, ("commands",), "command")
    for i, command in enumerate(schema.commands):
        at: Path = ("commands", i)
        for key in ("args", "flags"):
            if command.subcommands and getattr(command, key):
                yield SchemaProblem(
                    (*at, key), "are never used: a command with subcommands is not run itself"
                )
        yield from _doubles(command.subcommands, (*at, "subcommands"), "subcommand")
        yield from _runnable_problems(command, at)
        for j, sub in enumerate(command.subcommands):
            yield from _runnable_problems(sub, (*at, "subcommands", j))


def _doubles(parts: Iterable[Subcommand], at: Path, kind: str) -> Iterator[SchemaProblem]:
    known: dict[str, str] = {}
    for i, part in enumerate(parts):
        if part.name in known:
            yield SchemaProblem((*at, i, "name"), f"{part.name!r} is {known[part.name]} already")
        known.setdefault(part.name, f"a {kind}")
    for i, part in enumerate(parts):
        for j, alias in enumerate(part.aliases):
            if alias in known:
                where = (*at, i, "aliases", j)
                yield SchemaProblem(where, f"the alias {alias!r} is {known[alias]} already")
            known.setdefault(alias, f"an alias of the {kind} {part.name!r}")


def _runnable_problems(part: Subcommand, at: Path) -> Iterator[SchemaProblem]:
    known: dict[str, str] = {}
    for key, kind, names in (
        ("args", "an argument", [arg.name for arg in part.args]),
        ("flags", "a flag", [flag.name for flag in part.flags]),
    ):
        for i, name in enumerate(names):
            if name in known:
                yield SchemaProblem((*at, key, i, "name"), f"{name!r} is {known[name]} already")
            known.setdefault(name, kind)
    shorts: dict[str, str] = {}
    for i, flag in enumerate(part.flags):
        if flag.short in shorts:
            where = (*at, "flags", i, "short")
            owner = shorts[flag.short]
            yield SchemaProblem(where, f"{flag.short!r} is the short form of {owner!r} already")
        elif flag.short is not None:
            shorts[flag.short] = flag.name
    optional = ""
    for i, arg in enumerate(part.args):
        where = (*at, "args", i)
        yield from _argument_problems(arg, where)
        if arg.positional and not arg.required:
            optional = optional or arg.name
        elif arg.positional and optional:
            yield SchemaProblem(
                where, f"a required positional argument stands after the optional {optional!r}"
            )


def _argument_problems(arg: Argument, at: Path) -> Iterator[SchemaProblem]:
    if arg.type == "enum" and not arg.values:
        yield SchemaProblem((*at, "values"), "an enum needs at least one value")
    if arg.type != "enum" and arg.values:
        yield SchemaProblem((*at, "values"), f"only an enum has values, this is a {arg.type}")
    for i, value in enumerate(arg.values):
        if value in arg.values[:i]:
            yield SchemaProblem((*at, "values", i), f"the value {value!r} stands there twice")
    if arg.default is not None:
        problem = value_problem(arg, arg.default)
        if problem:
            yield SchemaProblem((*at, "default"), problem)
    for i, hint in enumerate(arg.natural_language):
        problem = value_problem(arg, hint.value) if hint.value is not None else None
        if problem:
            yield SchemaProblem((*at, "natural_language", i, "value"), problem)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the format, for editors that check YAML while it is typed."""
    found = CliSchema.model_json_schema()
    argument = found["$defs"]["Argument"]
    values = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
    argument["properties"]["type"] = {
        "description": argument["properties"]["type"]["description"],
        "anyOf": [
            {"enum": list(TYPES)},
            {
                "type": "object",
                "properties": {"enum": values},
                "required": ["enum"],
                "additionalProperties": False,
            },
        ],
    }
    is_enum = {"properties": {"type": {"const": "enum"}}, "required": ["type"]}
    argument["if"] = is_enum
    argument["then"] = {"required": ["values"]}
    argument["else"] = {"properties": {"values": False}}
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "A command-line program, as tracetune reads it"
    return found
