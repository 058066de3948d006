"""Requests to the writer: what it is told, the form of its answer, and what it writes from."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from tracetune.files import sha256_json
from tracetune.llm import TextRequest
from tracetune.outputs import OutputSpec
from tracetune.records import Example
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.synthesis.options import SynthesisOptions
from tracetune.telemetry.synthesis.phrasing import Material
from tracetune.telemetry.synthesis.plan import Cell, Rewrite, cell_names, target_of

_SYSTEM = """\
You write realistic messages of people to a software agent, and the output the agent should give. \
They become training rows of a smaller model after a person has checked each of them.

The agent was told:
<instruction>
{instruction}
</instruction>

Rules:
- A message reads as a person types it: different lengths, tones and wordings, some short, some \
with a typo or a detail that does not matter.
- Its output follows the agent's instruction and is right beyond doubt.
- Nobody's real data: no e-mail addresses, phone numbers, card numbers, keys or passwords.
- No message repeats or merely rewords another one or one of the examples."""

_PLAIN = "Write {count} messages whose right output {names}."
_HARD = (
    "Write {count} messages whose right output {names}, and which come near {against}: a careless "
    "reader would confuse the two, a careful one would not."
)
_WRONG = (
    ' To each give "rejected": a wrong output that a careless agent could give{hint}, and '
    '"rejected_why": why it is wrong, in one short sentence.'
)
_AGAIN = (
    "A reviewer rejected this message and output:\n{shown}\n"
    "The reviewer's words: {words}\n"
    "Write 1 new message with its output that does justice to these words.{wrong}"
)


def requests_for(
    cells: Sequence[Cell],
    *,
    style: Sequence[Example],
    material: Material,
    telemetry: TelemetryOptions,
    options: SynthesisOptions,
    mark: str,
    seed: int,
) -> list[tuple[TextRequest, Cell]]:
    """Requests for candidates, at most ``per_request`` in each.

    Args:
        cells: What is wanted.
        style: Real rows for training; some are shown to the writer as style.
        material: What the offline generator writes from.
        telemetry: Instruction and schema of the agent.
        options: Sizes.
        mark: Makes the ids of this round unlike those of others.
        seed: Seed of the choice of style rows.
    """
    found = []
    for cell in cells:
        sizes = [options.per_request] * (cell.count // options.per_request)
        sizes += [rest] if (rest := cell.count % options.per_request) else []
        for number, size in enumerate(sizes):
            asked = cell.model_copy(update={"count": size})
            name = f"{mark}:{sha256_json([cell.id, number])[:12]}"
            shown = _style(style, cell, telemetry.output, options.style_rows, [seed, name])
            request = TextRequest(
                id=name,
                system=_SYSTEM.format(instruction=telemetry.instruction),
                prompt=_prompt(asked, telemetry.output, shown),
                answer_schema=answer_schema(cell.kind, telemetry.output),
                cell=cell.id,
                grammar=material.grammar(asked, [seed, name]),
            )
            found.append((request, asked))
    return found


def rewrites_for(
    rewrites: Sequence[Rewrite],
    *,
    material: Material,
    telemetry: TelemetryOptions,
    mark: str,
    seed: int,
) -> list[tuple[TextRequest, Cell, Rewrite]]:
    """Requests that write rejected candidates anew, with the reviewer's words."""
    found = []
    for rewrite in rewrites:
        item = rewrite.item
        target = target_of(item.answer[0].content, telemetry.output)
        names = cell_names(target, telemetry.output) if target else ["answer"]
        # Any of the cells an item of several entity types belongs to; the answer may be corrected.
        cell = Cell(kind=item.kind, target=names[0], count=1)
        name = f"{mark}:again:{item.root}:{rewrite.attempt}"
        shown = {"request": item.prompt[-1].content, "output": json.loads(item.answer[0].content)}
        wrong = _WRONG.format(hint="") if item.kind == "preference" else ""
        request = TextRequest(
            id=name,
            system=_SYSTEM.format(instruction=telemetry.instruction),
            prompt=_AGAIN.format(
                shown=json.dumps(shown, ensure_ascii=False), words=rewrite.words, wrong=wrong
            ),
            answer_schema=answer_schema(item.kind, telemetry.output),
            cell=item.cell,
            grammar=material.grammar(cell.model_copy(update={"count": 5}), [seed, name]),
        )
        found.append((request, cell, rewrite))
    return found


def answer_schema(kind: str, output: OutputSpec) -> dict[str, Any]:
    """JSON Schema of an answer: a list of messages with outputs, for pairs with a wrong one."""
    fields: dict[str, Any] = {
        "request": {"type": "string", "minLength": 1, "description": "What the person writes."},
        "output": output_schema(output),
    }
    if kind == "preference":
        fields["rejected"] = output_schema(output)
        fields["rejected_why"] = {"type": "string"}
    return _object({"items": {"type": "array", "items": _object(fields)}})


def output_schema(output: OutputSpec) -> dict[str, Any]:
    """JSON Schema of an output of the agent: its judged field with the names that exist."""
    name: dict[str, Any] = {"type": "string"}
    known = {**name, "enum": list(output.known)} if output.known else name
    value = {
        "exact": known,
        "set": {"type": "array", "items": known, "minItems": 1},
        "entities": {"type": "array", "items": _object({"text": name, "type": known})},
    }[output.compare]
    return _object({output.target[0]: value})


def _object(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }


def _prompt(cell: Cell, output: OutputSpec, shown: Sequence[Example]) -> str:
    names = "names " + cell.target
    if output.compare == "entities":
        names = f"holds at least one entity of the type {cell.target}"
    elif cell.target == "answer":
        names = "follows the instruction"
    text = (_HARD if cell.against else _PLAIN).format(
        count=cell.count, names=names, against=cell.against
    )
    if cell.kind == "preference":
        hint = f" (for example {cell.against})" if cell.against else ""
        text += _WRONG.format(hint=hint)
    if shown:
        rows = [
            {"request": row.prompt[-1].content, "output": json.loads(row.completion[0].content)}
            for row in shown
        ]
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        text += f"\n\nReal messages and outputs, for style only:\n{lines}"
    return text


def _style(
    rows: Sequence[Example], cell: Cell, output: OutputSpec, count: int, seed: list[Any]
) -> list[Example]:
    """Some real rows: those of the cell first, then others."""
    draw = random.Random(sha256_json(seed))
    shuffled = draw.sample(list(rows), len(rows))

    def is_other(row: Example) -> bool:
        target = target_of(row.completion[0].content, output)
        return target is None or cell.target not in cell_names(target, output)

    return sorted(shuffled, key=is_other)[:count]
