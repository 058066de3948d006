"""The words of EISV-Lumen: shapes, tokens, primitives, affinities, bridge and patterns.

Tables as in the source document 004 and the repository behind it. Order matters: it is the order of
the classification rules, of the random draws and of every table in a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tracetune.errors import DataError

SHAPES: tuple[str, ...] = (
    "basin_transition_down",
    "basin_transition_up",
    "entropy_spike_recovery",
    "drift_dissonance",
    "void_rising",
    "rising_entropy",
    "falling_energy",
    "convergence",
    "settled_presence",
)
"""The nine shapes in the order of their rules: the first that matches wins."""

GENERATION_ORDER: tuple[str, ...] = (
    "settled_presence",
    "rising_entropy",
    "falling_energy",
    "basin_transition_down",
    "basin_transition_up",
    "entropy_spike_recovery",
    "drift_dissonance",
    "void_rising",
    "convergence",
)
"""The nine shapes in the order in which synthetic trajectories are made."""

EISV_TOKENS: tuple[str, ...] = (
    "~warmth~",
    "~curiosity~",
    "~resonance~",
    "~stillness~",
    "~boundary~",
    "~reaching~",
    "~reflection~",
    "~ripple~",
    "~deep_listening~",
    "~emergence~",
    "~questioning~",
    "~holding~",
    "~releasing~",
    "~threshold~",
    "~return~",
)

INQUIRY_TOKENS: tuple[str, ...] = ("~questioning~", "~curiosity~")

LUMEN_CATEGORIES: dict[str, tuple[str, ...]] = {
    "STATE": ("warm", "cold", "bright", "dim", "quiet", "busy"),
    "PRESENCE": ("here", "feel", "sense"),
    "RELATIONAL": ("you", "with"),
    "INQUIRY": ("why", "what", "wonder"),
    "CHANGE": ("more", "less"),
}

LUMEN_PRIMITIVES: tuple[str, ...] = tuple(
    primitive for members in LUMEN_CATEGORIES.values() for primitive in members
)


def _marked(*names: str) -> tuple[str, ...]:
    return tuple(f"~{name}~" for name in names)


AFFINITY: dict[str, tuple[str, ...]] = {
    "settled_presence": _marked("stillness", "holding", "resonance", "deep_listening"),
    "rising_entropy": _marked("ripple", "emergence", "questioning", "curiosity"),
    "falling_energy": _marked("releasing", "stillness", "boundary", "reflection"),
    "basin_transition_down": _marked("releasing", "threshold", "boundary"),
    "basin_transition_up": _marked("emergence", "reaching", "warmth", "return"),
    "entropy_spike_recovery": _marked("ripple", "return", "holding", "reflection"),
    "drift_dissonance": _marked("boundary", "questioning", "reflection"),
    "void_rising": _marked("reaching", "curiosity", "questioning", "threshold"),
    "convergence": _marked("stillness", "resonance", "return", "deep_listening"),
}
"""The tokens that fit a shape; coherence counts them."""

BRIDGE: dict[str, tuple[str, str]] = {
    "~warmth~": ("warm", "feel"),
    "~curiosity~": ("why", "wonder"),
    "~resonance~": ("with", "here"),
    "~stillness~": ("quiet", "here"),
    "~boundary~": ("less", "sense"),
    "~reaching~": ("more", "you"),
    "~reflection~": ("what", "feel"),
    "~ripple~": ("busy", "sense"),
    "~deep_listening~": ("quiet", "sense"),
    "~emergence~": ("more", "bright"),
    "~questioning~": ("why", "what"),
    "~holding~": ("here", "with"),
    "~releasing~": ("less", "dim"),
    "~threshold~": ("sense", "more"),
    "~return~": ("here", "warm"),
}
"""EISV token → its first and second Lumen primitive."""

PATTERNS: tuple[str, ...] = ("SINGLE", "PAIR", "TRIPLE", "REPETITION", "QUESTION")

PATTERN_COUNT: dict[str, int] = {
    "SINGLE": 1,
    "PAIR": 2,
    "TRIPLE": 3,
    "REPETITION": 2,
    "QUESTION": 2,
}
"""How many EISV tokens an expression of a pattern has."""


def _shares(*values: float) -> dict[str, float]:
    return dict(zip(PATTERNS, values, strict=True))


PATTERN_WEIGHTS: dict[str, dict[str, float]] = {
    "settled_presence": _shares(0.40, 0.30, 0.10, 0.15, 0.05),
    "rising_entropy": _shares(0.10, 0.20, 0.30, 0.10, 0.30),
    "falling_energy": _shares(0.30, 0.30, 0.10, 0.20, 0.10),
    "basin_transition_down": _shares(0.20, 0.30, 0.30, 0.10, 0.10),
    "basin_transition_up": _shares(0.15, 0.30, 0.35, 0.10, 0.10),
    "entropy_spike_recovery": _shares(0.10, 0.30, 0.30, 0.20, 0.10),
    "drift_dissonance": _shares(0.10, 0.20, 0.20, 0.10, 0.40),
    "void_rising": _shares(0.20, 0.20, 0.20, 0.10, 0.30),
    "convergence": _shares(0.40, 0.30, 0.10, 0.15, 0.05),
}
"""Shape → share of each pattern among its expressions."""

SUGGESTED_COUNT: dict[str, int] = {
    "basin_transition_down": 3,
    "basin_transition_up": 3,
    "entropy_spike_recovery": 2,
    "drift_dissonance": 3,
    "void_rising": 2,
    "rising_entropy": 3,
    "falling_energy": 2,
    "convergence": 2,
    "settled_presence": 1,
}
"""How many tokens the trigger of a shape suggests."""

MAX_PRIMITIVES = 3
"""A translation into Lumen primitives is cut to this many."""

SHAPE_INDEX: dict[str, int] = {name: i for i, name in enumerate(SHAPES)}
TOKEN_INDEX: dict[str, int] = {name: i for i, name in enumerate(EISV_TOKENS)}
PATTERN_INDEX: dict[str, int] = {name: i for i, name in enumerate(PATTERNS)}


def shape_index(shape: str, *, where: str | None = None) -> int:
    """The place of a shape in ``SHAPES``.

    Raises:
        DataError: There is no such shape.
    """
    found = SHAPE_INDEX.get(shape)
    if found is None:
        raise DataError(
            f"there is no shape {shape!r}",
            where=where,
            remedy=f"use one of {', '.join(SHAPES)}",
        )
    return found


def translate(tokens: Iterable[str]) -> list[str]:
    """The Lumen primitives of EISV tokens.

    Each token gives the first of its primitives that is not yet used, or nothing if both are;
    unknown tokens are skipped, and the result is cut to three.
    """
    found: list[str] = []
    for token in tokens:
        free = next((one for one in BRIDGE.get(token, ()) if one not in found), None)
        if free is not None:
            found.append(free)
    return found[:MAX_PRIMITIVES]


def infer_pattern(tokens: Sequence[str]) -> str:
    """The pattern that a list of one to three tokens looks like.

    Only for expressions whose pattern nobody recorded. The rule is that of source document 004,
    which is wrong for one drawn label in twenty: a PAIR that ends in an inquiry token reads as a
    QUESTION, and a QUESTION that repeats itself as a REPETITION.

    Raises:
        DataError: No tokens, or more than three.
    """
    if len(tokens) == 1:
        return "SINGLE"
    if len(tokens) == 2:
        if tokens[0] == tokens[1]:
            return "REPETITION"
        return "QUESTION" if tokens[1] in INQUIRY_TOKENS else "PAIR"
    if len(tokens) == 3:
        return "TRIPLE"
    raise DataError(
        f"an expression of {len(tokens)} tokens has no pattern",
        remedy="give one to three tokens",
    )
