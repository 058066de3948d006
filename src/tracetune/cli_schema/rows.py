"""Examples as training rows, grouped so that no two sides of a split know the same request."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from tracetune.cli_schema import words
from tracetune.cli_schema.context import Context
from tracetune.cli_schema.objects import Object, canonical, parse_answer
from tracetune.cli_schema.prompt import PromptOptions, answer_messages, prompt_messages
from tracetune.cli_schema.schema import CliSchema
from tracetune.cli_schema.screen import Written, normal
from tracetune.files import sha256_text
from tracetune.near import near_pairs, shingles
from tracetune.records import Example, make_example

SOURCE = "cli"
_SHINGLE, _NEAR = 3, 0.8
_OPENINGS = tuple(
    sorted(
        {
            text.strip(" ,").casefold() + " "
            for text in (
                *words.CASUAL_OPENINGS,
                *words.POLITE_OPENINGS,
                *words.PRECISE_OPENINGS,
                "hey ",
                "please ",
                "ok ",
                "hi ",
                "now ",
                "i'd like to ",
            )
            if text.strip(" ,")
        },
        key=lambda text: (-len(text), text),
    )
)
_ENDINGS = tuple(
    sorted(
        {" " + text.strip(" ?").casefold() for text in words.CASUAL_ENDINGS if text.strip(" ?")}
        | {" thanks", " thank you"},
        key=lambda text: (-len(text), text),
    )
)
_CONTEXT_LINE = re.compile(r"(?:repo|branch|pr|uncommitted|staged): ")


def make_rows(
    schema: CliSchema,
    written: Sequence[Written],
    *,
    name: str,
    tenant: str,
    prompt: PromptOptions | None = None,
) -> list[Example]:
    """Training rows, in the order given.

    Args:
        schema: The program.
        written: Examples that passed.
        name: Name of the schema.
        tenant: Whose it is.
        prompt: How much the system turn tells.
    """
    groups = group_of_each(written)
    return [
        make_example(
            prompt=prompt_messages(schema, row.request, _context(row), prompt),
            # Kept examples have sorted keys; a model learns the command before its arguments.
            completion=answer_messages(canonical(schema, row.output)),
            tags={
                "target": row.target,
                "type": row.output["type"],
                "style": row.style,
                "context": "yes" if row.context else "no",
            },
            source=SOURCE,
            tenant=tenant,
            ids={"schema": name, "cell": row.cell, "request": row.request_id},
            group=group,
            created_at=None,
        )
        for row, group in zip(written, groups, strict=True)
    ]


def _context(row: Written) -> Context | None:
    return Context.model_validate(row.context) if row.context is not None else None


def structure(row: Written) -> str:
    """A request without the values that its answer takes from it, and without politeness.

    ``Hey, show open PRs by bob please`` is ``show <state> prs by <author>``: what differs in
    nothing else was made in the same way and must stand on the same side.
    """
    text = " ".join(row.request.casefold().split())
    args = row.output.get("args", {})
    said: dict[str, str] = {}
    for name, given in args.items():
        shown = str(given).casefold()
        said |= {shown: name, shown.replace("_", " "): name}
    for value in sorted(said, key=lambda value: (-len(value), value)):
        if value.strip():
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", f"<{said[value]}>", text)
    return normal(_unframed(text))


def _unframed(text: str) -> str:
    """Without the words around a request that ask for nothing: "hey can you", "please"."""
    before = ""
    while before != text:
        before = text
        text = text.strip(" .,!?")
        for word in _OPENINGS:
            rest = text.removeprefix(word)
            if rest != text and rest.strip():
                text = rest.strip()
        for word in _ENDINGS:
            rest = text.removesuffix(word)
            if rest != text and rest.strip():
                text = rest.strip()
    return text


def group_of_each(written: Sequence[Written]) -> list[str]:
    """The group of every example: a cluster of requests that must never be divided.

    Examples are joined if their requests are equal without numbers, have the same structure, or
    have nearly the same structure (word 3-shingles, Jaccard 0.8). The name of a group hangs on its
    requests only, not on their order.
    """
    parent = list(range(len(written)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    structures = [structure(row) for row in written]
    for i, row in enumerate(written):
        for key in (f"request {normal(row.request)}", f"structure {structures[i]}"):
            parent[root(i)] = root(first.setdefault(key, i))
    by_shape: dict[frozenset[str], int] = {}
    for i, text in enumerate(structures):
        parent[root(i)] = root(by_shape.setdefault(shingles(text, _SHINGLE), i))
    at = list(by_shape.values())

    def apart(i: int, j: int) -> bool:
        return root(at[i]) != root(at[j])

    for i, j in near_pairs(list(by_shape), _NEAR, apart):
        parent[root(at[i])] = root(at[j])
    members: dict[int, set[str]] = defaultdict(set)
    for i, text in enumerate(structures):
        members[root(i)].add(text)
    names = {i: f"cluster:{sha256_text(min(texts))[:16]}" for i, texts in members.items()}
    return [names[root(i)] for i in range(len(written))]


def request_of(row: Example) -> str:
    """What the user said in a row, without the lines of the context."""
    text = row.prompt[-1].content
    block, gap, request = text.partition("\n\n")
    if gap and all(_CONTEXT_LINE.match(line) for line in block.split("\n")):
        return request
    return text


def object_of(row: Example) -> Object:
    """The right answer of a row."""
    return parse_answer(row.completion[0].content)
