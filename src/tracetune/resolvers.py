"""Resolvers of the configuration: ``slug`` for path segments, ``overlay`` for overrides by name."""

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
