"""The messages that a model gets: one function for training, preferences, judgement and asking."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracetune.cli_schema.context import Context
from tracetune.cli_schema.objects import Object, answer_text
from tracetune.cli_schema.schema import Argument, CliSchema, Place
from tracetune.options import Options
from tracetune.records import Message

Detail = Literal["arguments", "commands", "name"]
DETAILS: tuple[Detail, ...] = ("arguments", "commands", "name")

_SENTENCE = (
    "You turn requests into commands of {name} ({description}). "
    "Answer with one JSON object and nothing else."
)
_MARKS = {"string": "text", "path": "path", "integer": "int", "float": "num", "boolean": "bool"}


class PromptOptions(Options):
    """How much of the program the system turn tells."""

    detail: Literal["auto", "arguments", "commands", "name"] = Field(
        "auto",
        description="arguments: commands with arguments and flags. commands: their names. name: "
        "only the program. auto: the first of these that fits max_chars.",
    )
    max_chars: int = Field(
        600, ge=200, description="Longest system turn of auto; about four characters per token."
    )


def system_text(schema: CliSchema, options: PromptOptions) -> str:
    """The system turn: what the model is, and what the program can do.

    The same for every request of a schema, so that a server can keep its state.
    """
    if options.detail != "auto":
        return _system(schema, options.detail)
    for detail in DETAILS:
        text = _system(schema, detail)
        if len(text) <= options.max_chars:
            break
    return text


def _system(schema: CliSchema, detail: Detail) -> str:
    text = _SENTENCE.format(
        name=schema.cli_name, description=" ".join(schema.description.split()).rstrip(".")
    )
    if detail == "arguments":
        return "\n".join([text, *map(_usage, schema.places())])
    if detail == "commands":
        return "\n".join([text, *_names(schema)])
    return text


def _names(schema: CliSchema) -> list[str]:
    """One line per command: ``pr: list view create``; commands without subcommands together."""
    lines = [
        f"{command.name}: {' '.join(sub.name for sub in command.subcommands)}"
        for command in schema.commands
        if command.subcommands
    ]
    alone = [command.name for command in schema.commands if not command.subcommands]
    return [*lines, " ".join(alone)] if alone else lines


def _usage(place: Place) -> str:
    """``pr list [state=open|closed] [limit=int] -web``; what is optional stands in brackets."""
    args = [_argument(argument) for argument in place.spec.args]
    return " ".join([place.label, *args, *(f"-{flag.name}" for flag in place.spec.flags)])


def _argument(argument: Argument) -> str:
    kind = "|".join(argument.values) if argument.type == "enum" else _MARKS[argument.type]
    text = f"{argument.name}={kind}"
    return text if argument.required else f"[{text}]"


def user_text(request: str, context: Context | None) -> str:
    """The user turn: the lines of the context, an empty line, the request."""
    lines = context.lines() if context is not None else []
    return "\n".join([*lines, "", request]) if lines else request


def prompt_messages(
    schema: CliSchema,
    request: str,
    context: Context | None = None,
    options: PromptOptions | None = None,
) -> list[Message]:
    """The prompt for a request: system and user turn.

    Args:
        schema: The program.
        request: What the user says.
        context: Where the user is; never dropped (B10.7).
        options: How much the system turn tells.
    """
    return [
        Message(role="system", content=system_text(schema, options or PromptOptions())),
        Message(role="user", content=user_text(request, context)),
    ]


def answer_messages(value: Object) -> list[Message]:
    """The completion that a model is taught: the object as compact JSON."""
    return [Message(role="assistant", content=answer_text(value))]
