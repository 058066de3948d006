"""Requests to the writer: what it is told, the form of its answer, and what it writes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracetune.cli_schema.answer_schema import writing_schema
from tracetune.cli_schema.phrasing import Phrases
from tracetune.cli_schema.plan import STYLES, Cell, places_of
from tracetune.cli_schema.schema import Argument, CliSchema, Hint, Place
from tracetune.files import sha256_json
from tracetune.llm import TextRequest

_SYSTEM = """\
You write training data for a small model that turns what people type into commands of {name} \
({description}).

Its commands:
{commands}

Rules:
- A request reads as a person types it. Lengths, tones and wordings differ; some are three words.
- Everything in "args" and "flags" is said in the request, or stands in the context and is meant \
by it ("this pull request"). What is said stands there, also if it is the default; nothing else.
- A value is given exactly as the program takes it: a value of an enum as it is listed, a number \
as a number.
- Values are believable and all different: names of people, branches, titles, numbers. Nobody's \
real data.
- "context" is what is known of the user's repository: repo_owner, repo_name, current_branch, \
current_pr, has_uncommitted_changes, has_staged_changes. Give the fields that are known. null: \
nothing is known.
- No request repeats or merely rewords another one."""

_COMMAND = (
    'Write {count} requests whose right answer is the command "{target}". Style: {style}.\n'
    "{context}\n\n{usage}"
)
_MISSING = (
    'Write {count} requests for the command "{label}" that cannot be carried out, because '
    '"{missing}" is required and is neither said nor known. Everything else is clear. {context}'
    "\n\n{usage}"
)
_AMBIGUOUS = (
    "Write {count} requests that are ambiguous: {about}. A careful reader would have to ask back; "
    "the likeliest meanings are: {labels}. {context}"
)
_CONTEXT = "Each request comes with a context; its fields differ from request to request."
_USED = "The request refers to it (this, my, the current …) instead of saying the value."
_HIDDEN = "Nothing in the context may give what is missing."
_NO_CONTEXT = "There is no context: null."


def requests_for(
    schema: CliSchema,
    cells: Sequence[Cell],
    *,
    phrases: Phrases,
    per_request: int,
    mark: str,
    seed: int,
) -> list[tuple[TextRequest, Cell]]:
    """Requests for examples, each for one cell and at most ``per_request`` in each.

    Args:
        schema: The program.
        cells: What is wanted.
        phrases: What the offline generator writes from.
        per_request: Examples per request.
        mark: Makes the ids of this round unlike those of others.
        seed: Seed of the forms.
    """
    system, found = _system(schema), []
    for cell in cells:
        sizes = [per_request] * (cell.count // per_request)
        sizes += [rest] if (rest := cell.count % per_request) else []
        for number, size in enumerate(sizes):
            asked = cell.model_copy(update={"count": size})
            name = f"{mark}:{sha256_json([schema.cli_name, cell.id, number])[:16]}"
            request = TextRequest(
                id=name,
                system=system,
                prompt=_prompt(schema, asked),
                answer_schema=writing_schema(answers=not cell.asks_back),
                cell=cell.id,
                grammar=phrases.grammar(asked, [seed, name]),
            )
            found.append((request, asked))
    return found


def _system(schema: CliSchema) -> str:
    commands = "\n".join(f"- {place.label}: {place.spec.description}" for place in schema.places())
    return _SYSTEM.format(name=schema.cli_name, description=schema.description, commands=commands)


def _prompt(schema: CliSchema, cell: Cell) -> str:
    places = places_of(schema, cell)
    context = _CONTEXT if cell.context else _NO_CONTEXT
    if cell.style == "ambiguous":
        kind, _, name = cell.about.partition(" ")
        about = {
            "verb": f'they say what to do ("{name}"), but not with what',
            "group": f'they say that it is about "{name}", but not what to do',
        }.get(kind, "they do not say what to do")
        labels = ", ".join(place.label for place in places)
        return _AMBIGUOUS.format(count=cell.count, about=about, labels=labels, context=context)
    usage = usage_text(places[0])
    if cell.style == "missing":
        context = f"{context} {_HIDDEN}" if cell.context else context
        return _MISSING.format(
            count=cell.count,
            label=places[0].label,
            missing=cell.missing,
            context=context,
            usage=usage,
        )
    if cell.style == "context":
        context = f"{context} {_USED}"
    return _COMMAND.format(
        count=cell.count, target=cell.target, style=STYLES[cell.style], context=context, usage=usage
    )


def usage_text(place: Place) -> str:
    """Everything that the schema says of a place, for a large model."""
    lines = [f"{place.label}: {place.spec.description}"]
    lines += [_argument(argument) for argument in place.spec.args] or ["args: none"]
    for flag in place.spec.flags:
        said = f"; people say: {', '.join(flag.natural_language)}" if flag.natural_language else ""
        lines.append(f'flag "{flag.name}": {flag.description or flag.name}{said}')
    return "\n".join(lines)


def _argument(argument: Argument) -> str:
    kind: Any = argument.type
    if argument.type == "enum":
        kind = "one of " + ", ".join(argument.values)
    facts = [kind, "required" if argument.required else "optional"]
    if argument.default is not None:
        facts.append(f"default {argument.default}")
    text = f'arg "{argument.name}" ({", ".join(facts)})'
    if argument.description:
        text += f": {argument.description}"
    hints = [_hint(hint) for hint in argument.natural_language]
    return f"{text}; people say: {', '.join(hints)}" if hints else text


def _hint(hint: Hint) -> str:
    if hint.pattern is not None:
        return hint.pattern
    return f"{' / '.join(hint.alternatives)} for {hint.value}"
