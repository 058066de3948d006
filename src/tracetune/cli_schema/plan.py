"""What is written: so many examples for each cell, so that coverage is planned, not hoped for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tracetune.cli_schema.context import resolved_by
from tracetune.cli_schema.objects import Object, clarification_object
from tracetune.cli_schema.options import CliGenerationOptions
from tracetune.cli_schema.schema import CliSchema, Place
from tracetune.files import sha256_json
from tracetune.records import Record

Style = Literal[
    "casual",
    "precise",
    "synonyms",
    "word_order",
    "minimal",
    "options",
    "context",
    "missing",
    "ambiguous",
]
STYLES: dict[Style, str] = {
    "casual": "casual and short-handed, as one types to a colleague, with fillers or abbreviations",
    "precise": "precise and complete, with exact terms",
    "synonyms": "in other words: neither the name of the subcommand nor its usual verb is used",
    "word_order": "in an unusual word order: details first, a question, or the thing before the "
    "verb",
    "minimal": "as short as can be understood, only what is required, defaults implied",
    "options": "with two or more optional arguments or flags (one, if there is only one)",
    "context": "refers to where the user is (this pull request, my branch, this repository); the "
    "value stands in the context only",
    "missing": "a required argument is left out and cannot be known",
    "ambiguous": "several commands could be meant and nothing says which",
}
"""Styles of requests, in words for a large model."""
COMMAND_STYLES: tuple[Style, ...] = (
    "casual",
    "precise",
    "synonyms",
    "word_order",
    "minimal",
    "options",
)
SUGGESTED = 3
"""Most suggestions of a clarification."""


class Cell(Record):
    """A part of the plan.

    Attributes:
        style: How the request is said.
        context: Whether a context comes with it.
        places: What is asked for; several of an ambiguous request.
        missing: The required argument that a request of the style ``missing`` leaves out.
        about: What an ambiguous request says: a verb or a command; empty: nothing.
        count: Examples that are wanted.
    """

    style: Style
    context: bool
    places: tuple[tuple[str, str | None], ...] = Field(min_length=1)
    missing: str = ""
    about: str = ""
    count: int = Field(default=0, ge=0)

    @property
    def target(self) -> str:
        """What the answer names: ``pr list``; ``pr checkout without number``; ``list of what``."""
        if self.style == "ambiguous":
            return f"ambiguous {self.about}".strip()
        command, sub = self.places[0]
        label = command if sub is None else f"{command} {sub}"
        return f"{label} without {self.missing}" if self.missing else label

    @property
    def id(self) -> str:
        """The cell in one line: ``pr list/casual/context``."""
        return f"{self.target}/{self.style}/{'context' if self.context else 'plain'}"

    @property
    def asks_back(self) -> bool:
        """Whether the answer is a clarification."""
        return self.style in ("missing", "ambiguous")


def places_of(schema: CliSchema, cell: Cell) -> list[Place]:
    """The places of a cell."""
    found = [schema.place(command, sub) for command, sub in cell.places]
    return [place for place in found if place is not None]


def clarification(schema: CliSchema, cell: Cell) -> Object:
    """The one answer to all requests of a cell that asks back.

    The message is the same for the same question, so that an exact answer can be learned and
    judged.
    """
    places = places_of(schema, cell)
    if cell.missing:
        return clarification_object(f"{places[0].label}: which {cell.missing}?", places)
    return clarification_object("Which of these?", places)


def make_plan(schema: CliSchema, options: CliGenerationOptions, *, seed: int = 0) -> list[Cell]:
    """The cells with their counts; together ``num_examples``.

    Each kind has its share, divided evenly over its cells. Where there are fewer examples than
    cells, every place has one before a place has two.

    Args:
        schema: The program.
        options: Number and shares.
        seed: Which styles come first where not every cell gets one.
    """
    shares = options.shares
    kinds = [
        (shares.with_context, _command_cells(schema, context=True)),
        (shares.without_context, _command_cells(schema, context=False)),
        (shares.clarification, _clarification_cells(schema)),
    ]
    left, total, found = options.num_examples, sum(share for share, _ in kinds), []
    first = 0
    for share, cells in kinds:
        count = round(left * share / total) if total > 1e-9 else 0
        left, total = left - count, total - share
        found += _spread(cells, count, seed, first)
        # The next kind begins with the targets that this one did not reach.
        first += count
    return [cell for cell in found if cell.count]


def _spread(cells: Sequence[Cell], count: int, seed: int, first: int) -> list[Cell]:
    """``count`` over the cells: evenly by target, then evenly by style within a target.

    Args:
        cells: Cells of one kind.
        count: Examples.
        seed: Order of the targets.
        first: Position of the target that gets the first example.
    """
    by_target: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_target[cell.target].append(cell)
    found = []
    targets = sorted(by_target, key=lambda target: sha256_json([seed, target]))
    for number, target in enumerate(targets):
        mine = by_target[target]
        turn = (number - first) % len(targets)
        share = count // len(targets) + (turn < count % len(targets))
        # Another style comes first for each target, or rare styles would be of few targets.
        start = int(sha256_json([seed, "style", target])[:8], 16) % len(mine)
        for place, cell in enumerate([*mine[start:], *mine[:start]]):
            size = share // len(mine) + (place < share % len(mine))
            found.append(cell.model_copy(update={"count": size}))
    return found


def _command_cells(schema: CliSchema, *, context: bool) -> list[Cell]:
    found = []
    for place in schema.places():
        named = ((place.command, place.subcommand),)
        optional = [arg for arg in place.spec.args if not arg.required]
        for style in COMMAND_STYLES:
            if style == "options" and not optional and not place.spec.flags:
                continue
            found.append(Cell(style=style, context=context, places=named))
        if context and any(resolved_by(place, arg) for arg in place.spec.args):
            found.append(Cell(style="context", context=True, places=named))
    return found


def _clarification_cells(schema: CliSchema) -> list[Cell]:
    """Cells that ask back, with and without a context."""
    found = []
    for context in (False, True):
        for place in schema.places():
            named = ((place.command, place.subcommand),)
            found += [
                Cell(style="missing", context=context, places=named, missing=argument.name)
                for argument in place.spec.required
            ]
        for about, places in _ambiguities(schema):
            several = tuple((place.command, place.subcommand) for place in places[:SUGGESTED])
            found.append(Cell(style="ambiguous", context=context, places=several, about=about))
    return found


def _ambiguities(schema: CliSchema) -> list[tuple[str, list[Place]]]:
    """Verbs that several commands have, commands with several subcommands, or nothing at all."""
    by_verb: dict[str, list[Place]] = defaultdict(list)
    by_command: dict[str, list[Place]] = defaultdict(list)
    for place in schema.places():
        if place.subcommand is not None:
            by_verb[place.subcommand].append(place)
            by_command[place.command].append(place)
    found = [(f"verb {verb}", places) for verb, places in by_verb.items() if len(places) > 1]
    found += [(f"group {name}", places) for name, places in by_command.items() if len(places) > 1]
    return found or [("", schema.places())]
