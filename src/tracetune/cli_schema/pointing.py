"""What a request leaves to its context: "this pull request", and a context that fills the gap."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tracetune.cli_schema.clauses import Said, Speech, forms_of, spoken
from tracetune.cli_schema.context import resolved_by
from tracetune.cli_schema.schema import Argument, Place
from tracetune.cli_schema.values import BRANCHES, OWNERS, PROJECTS, pool

_VALUES = {
    "current_pr": "{number#90}",
    "current_branch": "{branch#90}",
    "repo_owner": "{owner#90}",
    "repo_name": "{project#90}",
}
POOLS = {
    "number": pool(Argument(name="number", type="integer"))[1],
    "branch": BRANCHES,
    "owner": OWNERS,
    "project": PROJECTS,
}
_THIS = {
    "current_pr": (
        "this {n}",
        "the current {n}",
        "the {n} I am on",
        "my current {n}",
        "the {n} of this branch",
        "the {n} here",
    ),
    "current_branch": ("this branch", "the current branch", "my branch", "the branch I am on"),
    "repository": ("this repo", "the current repository", "this repository", "the repo I am in"),
}


def hidden(place: Place, argument: Argument | None) -> tuple[str, ...]:
    """Fields of a context that would give an argument which is not said."""
    found = resolved_by(place, argument) if argument is not None else None
    if found is None:
        return ()
    return ("repo_owner", "repo_name") if found == "repository" else (found,)


def _pointed(field_name: str) -> tuple[str, tuple[str, ...]]:
    """The value behind "this", as slots of the context, and the fields that hold it."""
    if field_name == "repository":
        fields = ("repo_owner", "repo_name")
        return "/".join(_VALUES[name] for name in fields), fields
    return _VALUES[field_name], (field_name,)


def this_object(
    speech: Speech, argument: Argument, draw: random.Random
) -> tuple[Said, tuple[str, ...]]:
    """ "This pull request" as the object, and the fields that a context must have for it."""
    found = resolved_by(speech.place, argument)
    assert found is not None
    value, needs = _pointed(found)
    text = draw.choice(_THIS[found]).replace("{n}", draw.choice(speech.nouns))
    return Said(text, {argument.name: value}), needs


def this_clause(
    speech: Speech, argument: Argument, draw: random.Random
) -> tuple[Said, tuple[str, ...]]:
    """ "On this branch" beside the object."""
    found = resolved_by(speech.place, argument)
    assert found is not None
    value, needs = _pointed(found)
    forms = forms_of(argument)
    # "the branch {v}" would say the word twice.
    fitting = [form for form in forms if "branch" not in form] or list(forms)
    text = draw.choice(fitting).replace("{words}", spoken(argument.name))
    return Said(text.replace("{v}", draw.choice(_THIS[found])), {argument.name: value}), needs


def filled(needs: Sequence[str], hides: Sequence[str], draw: random.Random) -> dict[str, Any]:
    """A context that holds what the request needs and nothing that it must not."""
    chances = {
        "repo_owner": 0.85,
        "repo_name": 1.0,
        "current_branch": 0.85,
        "current_pr": 0.5,
    }
    found: dict[str, Any] = {}
    for name, chance in chances.items():
        if name == "repo_name" and name not in needs and "repo_owner" not in found:
            continue
        if name in needs or (name not in hides and draw.random() < chance):
            found[name] = _VALUES[name]
    for name in ("has_uncommitted_changes", "has_staged_changes"):
        if draw.random() < 0.5 or (not found and name == "has_uncommitted_changes"):
            found[name] = draw.random() < 0.5
    return found
