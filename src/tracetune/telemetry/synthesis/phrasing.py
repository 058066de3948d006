"""What the offline generator writes from: real requests of the agent, recombined.

A candidate keeps the answer of the real request it was made from, so that it is right as far as
that one was. Requests are said in other words (:mod:`tracetune.llm.recombine`); selections of
several names join requests; entities are exchanged for others of their type in request and answer
alike. Answers without any real request get requests that name them.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tracetune.files import sha256_json
from tracetune.llm import Grammar
from tracetune.llm.recombine import (
    FRAMES,
    JOINTS,
    TOPIC_WAYS,
    Parts,
    frames,
    requests_of,
    take_apart,
)
from tracetune.outputs import OutputSpec, parse_json
from tracetune.records import Example
from tracetune.telemetry.synthesis.plan import Cell, cell_names, target_of

_FORMS = 60
"""Most forms of items in one grammar."""


class Material:
    """Real rows for training, ready to be recombined.

    Args:
        rows: Examples for training; never held-out ones.
        output: Schema of the agent's output.
    """

    def __init__(self, rows: Sequence[Example], output: OutputSpec) -> None:
        self._output = output
        self._field = output.target[0]
        self._parts: dict[str, list[tuple[Parts, dict[str, Any]]]] = defaultdict(list)
        self._entities: dict[str, list[str]] = defaultdict(list)
        everything = []
        for row in sorted(rows, key=lambda row: row.id):
            text = row.completion[0].content
            target = target_of(text, output)
            if target is None or any(mark in row.prompt[-1].content for mark in "{}"):
                continue
            value = parse_json(text)
            part = take_apart(row.prompt[-1].content)
            everything.append(part)
            for name in cell_names(target, output):
                self._parts[name].append((part, value))
            if output.compare == "entities":
                self._remember(value)
        self._frames = frames(everything)

    def _remember(self, value: dict[str, Any]) -> None:
        for entity in _entities(value, self._output):
            known = self._entities[entity["type"].strip().upper()]
            if entity["text"] not in known:
                known.append(entity["text"])

    def grammar(self, cell: Cell, seed: list[Any]) -> Grammar | None:
        """The grammar of one request for candidates.

        Args:
            cell: What is wanted.
            seed: Of the choice of real requests, if there are many.

        Returns:
            None if nothing is known about the answers: no real row and no name that exists.
        """
        if not self._parts and cell.target not in self._output.known:
            return None
        draw = random.Random(sha256_json([*seed, "grammar"]))
        values: dict[str, list[str]] = {}
        if self._output.compare == "entities":
            asked, values = self._with_entities(cell, draw)
        else:
            answer = self._value(cell)
            asked = [(text, answer) for text in self._requests(cell, draw)]
        forms: list[dict[str, Any]] = [
            {"request": frame.replace("{request}", request), "output": value}
            for request, value in asked
            for frame in FRAMES
        ]
        if len(forms) > _FORMS:
            forms = draw.sample(forms, _FORMS)
        if cell.kind == "preference":
            forms = [{**form, **self._wrong(cell, form["output"], draw)} for form in forms]
        return Grammar(items=forms, values={**self._frames, **values}, count=cell.count)

    def _value(self, cell: Cell) -> dict[str, Any]:
        """The answer of a cell: its judged field and nothing else."""
        for _, value in self._parts.get(cell.target, []):
            return {self._field: next(value[n] for n in self._output.target if value.get(n))}
        names = cell.target.split(", ")
        return {self._field: names if self._output.compare == "set" else cell.target}

    def _requests(self, cell: Cell, draw: random.Random) -> list[str]:
        """Ways of asking for what a cell names."""
        own = [part for part, _ in self._parts.get(cell.target, [])]
        asked = requests_of(own)
        names = cell.target.split(", ")
        if self._output.compare == "set" and len(names) > 1:
            asked += self._joined(names, draw)
        if not asked:
            asked = [way.replace("{topic}", _topic(cell.target)) for way in TOPIC_WAYS]
        if cell.against:
            other = _topic(cell.against)
            asked = [f"this is not about {other}: {text}" for text in asked] + [
                f"{text} (I do not mean {other})" for text in asked
            ]
        return asked

    def _joined(self, names: list[str], draw: random.Random) -> list[str]:
        """One request made of one for each name."""
        single = [[part.core for part, _ in self._parts.get(name, [])] for name in names]
        if not all(single):
            return []
        return [
            f" {draw.choice(JOINTS)} ".join(draw.choice(cores) for cores in single)
            for _ in range(2 * max(map(len, single)))
        ]

    def _with_entities(
        self, cell: Cell, draw: random.Random
    ) -> tuple[list[tuple[str, dict[str, Any]]], dict[str, list[str]]]:
        """Requests and answers with slots in place of the entities, and the values of the slots."""
        found = []
        for part, value in self._parts.get(cell.target, []):
            for request in requests_of([part]):
                slotted = _slotted(request, value, self._output)
                if slotted is not None:
                    found.append(slotted)
        if not found:
            # No real request with such an entity: a request that names nothing, and says so.
            nothing: dict[str, Any] = {self._field: []}
            found = [(way.replace("{topic}", "the archive"), nothing) for way in TOPIC_WAYS]
        if len(found) > _FORMS:
            found = draw.sample(found, _FORMS)
        values = {f"entity_{kind.lower()}": texts for kind, texts in self._entities.items()}
        return found, values

    def _wrong(self, cell: Cell, value: dict[str, Any], draw: random.Random) -> dict[str, Any]:
        """A wrong output for a request, and why it is wrong."""
        if self._output.compare == "entities":
            return self._wrong_entities(value, draw)
        others = [name for name in self._output.known if name not in cell.target.split(", ")]
        others = [cell.against] if cell.against else others
        others = others or [name for name in self._parts if name != cell.target]
        other = draw.choice(others) if others else "something else"
        right = cell.target
        if self._output.compare == "set":
            names = other.split(", ")
            return {
                "rejected": {self._field: names},
                "rejected_why": f"the request is for {right}, not for {other}",
            }
        return {
            "rejected": {self._field: other},
            "rejected_why": f"the request is for {right}, not for {other}",
        }

    def _wrong_entities(self, value: dict[str, Any], draw: random.Random) -> dict[str, Any]:
        found = list(value.get(self._field, []))
        if not found:
            kind = draw.choice(sorted(self._output.known) or ["NAME"])
            invented = {"text": "the archive", "type": kind}
            return {
                "rejected": {self._field: [invented]},
                "rejected_why": "the request names no entity",
            }
        left_out = draw.randrange(len(found))
        return {
            "rejected": {self._field: found[:left_out] + found[left_out + 1 :]},
            "rejected_why": f"an entity of the type {found[left_out]['type']} is missing",
        }


def _topic(label: str) -> str:
    """A label as words: ``billing_agent`` is about billing."""
    words = label.replace("_", " ").replace("-", " ").lower()
    return words.removesuffix(" agent").removesuffix(" service").strip() or words


def _entities(value: dict[str, Any], output: OutputSpec) -> list[dict[str, str]]:
    for name in output.target:
        if isinstance(value.get(name), list):
            return [
                {"text": entity["text"], "type": entity["type"]}
                for entity in value[name]
                if isinstance(entity, dict)
            ]
    return []


def _slotted(
    request: str, value: dict[str, Any], output: OutputSpec
) -> tuple[str, dict[str, Any]] | None:
    """A request with a slot for each entity of its answer; None if one is not in the request.

    Entities are found in the request as it is, whole words, the longest first, so that neither a
    part of a word nor a slot is taken for one.
    """
    entities = _entities(value, output)
    slots: dict[str, str] = {}
    for entity in entities:
        kind = f"entity_{entity['type'].strip().lower()}"
        if not kind.replace("_", "").isalpha() or not kind.isascii():
            return None
        slots.setdefault(entity["text"], f"{{{kind}#{len(slots) + 1}}}")
    if not slots:
        return request, {output.target[0]: []}
    longest = sorted(slots, key=lambda text: (-len(text), text))
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in longest))
    if set(pattern.findall(request)) != set(slots):
        return None
    said = pattern.sub(lambda found: slots[found[0]], request)
    answer = [{"text": slots[entity["text"]], "type": entity["type"]} for entity in entities]
    return said, {output.target[0]: answer}
