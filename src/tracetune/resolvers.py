"""Resolvers of the configuration: path segments, overrides by name, kinds of agents."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

_SLUG = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def slug(name: object) -> str:
    """``name`` itself, once it is known to be a plain path segment.

    Args:
        name: What the command line gave. ``--params`` converts values, so ``007`` arrives as the
            integer 7 and is refused instead of silently becoming another name.

    Raises:
        ValueError: If it is not a string of a-z, 0-9, - and _ that starts with a letter.
    """
    if not isinstance(name, str) or not _SLUG.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a tenant or name: start with a letter a-z, then at most 62 of "
            "a-z, 0-9, '-' and '_'"
        )
    return name


def overlay(defaults: DictConfig, by_name: DictConfig | None, name: str) -> Any:
    """``defaults`` with the overrides of one name merged over them.

    Args:
        defaults: The parameters everybody gets.
        by_name: Overrides: name → partial parameters.
        name: The name of this run.
    """
    return OmegaConf.merge(defaults, dict(by_name or {}).get(name) or {})


def agent_type(name: str, types: DictConfig, by_name: DictConfig | None, given: str | None) -> str:
    """The kind of agent of a run.

    Args:
        name: The name of the run; a kind of that name is taken.
        types: The kinds there are.
        by_name: Name → kind.
        given: What the command line says; it wins.

    Raises:
        ValueError: If there is no such kind.
    """
    chosen = given or dict(by_name or {}).get(name) or (name if name in types else "routing")
    if chosen not in types:
        raise ValueError(
            f"telemetry.agent_type: there is no kind of agent {chosen!r}; choose one of "
            f"{', '.join(types)}, or describe it under _agent_types in parameters_telemetry.yml"
        )
    return chosen
