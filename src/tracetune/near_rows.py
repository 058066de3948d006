"""Near-duplicates among rows: whose prompts are nearly the same, and who must stay together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from tracetune.near import Shingles, near_pairs, shingles
from tracetune.records import Example, Preference, Rating, SearchQuery, Triplet

PromptRow = Example | Preference | Rating | Triplet | SearchQuery


class NearOptions(BaseModel):
    """When two prompts are nearly the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    near_duplicate: float = Field(
        0.8, gt=0, le=1, description="Jaccard similarity from which two prompts are the same."
    )
    shingle: int = Field(3, ge=1, description="Words per shingle.")


def _shingles(row: PromptRow, options: NearOptions) -> Shingles:
    """Of what the user said; the instruction is the same in every row."""
    if isinstance(row, Triplet):
        text = row.anchor
    elif isinstance(row, SearchQuery):
        text = row.text
    else:
        text = "\n".join(message.content for message in row.prompt if message.role == "user")
    return shingles(text, options.shingle)


def near_between(
    rows: Sequence[PromptRow], held: Sequence[PromptRow], options: NearOptions
) -> set[str]:
    """Ids of those ``rows`` whose prompt is nearly that of one of ``held``."""
    held_sets = {_shingles(row, options) for row in held}
    ids: dict[Shingles, list[str]] = defaultdict(list)
    for row in rows:
        ids[_shingles(row, options)].append(row.id)
    found = set(ids) & held_sets
    sets = [*(ids.keys() - held_sets), *held_sets]
    cut = len(sets) - len(held_sets)

    def wanted(i: int, j: int) -> bool:
        return i < cut <= j and sets[i] not in found

    for i, _ in near_pairs(sets, options.near_duplicate, wanted):
        found.add(sets[i])
    return {row_id for near in found for row_id in ids[near]}


def clusters(rows: Sequence[PromptRow], options: NearOptions) -> list[list[str]]:
    """Row ids that must stay together: by group, and by near-duplicates, joined."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        parent[root(i)] = root(first.setdefault(row.provenance.group, i))
    same: dict[Shingles, int] = {}
    for i, row in enumerate(rows):
        parent[root(i)] = root(same.setdefault(_shingles(row, options), i))
    at = list(same.values())

    def apart(i: int, j: int) -> bool:
        return root(at[i]) != root(at[j])

    for i, j in near_pairs(list(same), options.near_duplicate, apart):
        parent[root(at[i])] = root(at[j])
    clusters: dict[int, list[str]] = defaultdict(list)
    for i, row in enumerate(rows):
        clusters[root(i)].append(row.id)
    return [sorted(ids) for ids in clusters.values()]
