"""How models are called and coloured wherever people see them."""

from __future__ import annotations

LABELS = {
    "base": "base model",
    "real": "SFT on real rows only",
    "sft": "SFT adapter",
    "dpo": "DPO adapter",
    "kto": "KTO adapter",
    "previous": "previous adapter",
    "majority": "majority class",
    "nearest": "nearest neighbour",
    "keyword": "keyword matcher",
}

COLOURS = {
    "base": "#6b6b6b",
    "real": "#999933",
    "sft": "#56b4e9",
    "dpo": "#0072b2",
    "kto": "#d55e00",
    "previous": "#009e73",
    "majority": "#e69f00",
    "nearest": "#cc79a7",
    "keyword": "#882255",
}
"""Okabe-Ito palette: told apart under the common forms of colour blindness, and in grey print."""

OTHER_COLOUR = "#f0e442"


MEASURES = {"accuracy": "accuracy", "score": "word F1"}
"""What the figure that decides is called: share of right answers, or their mean score."""


def label(model: str) -> str:
    """The name of a model for people; an unknown one keeps its own."""
    return LABELS.get(model, model)


def colour(model: str) -> str:
    """The colour of a model, the same in every figure."""
    return COLOURS.get(model, OTHER_COLOUR)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent; a dash where there is none."""
    return "–" if share is None else f"{share * 100:.{digits}f} %"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return "–" if difference is None else f"{difference * 100:+.1f} points"


def span(low: float | None, high: float | None, digits: int = 1) -> str:
    """An interval of shares or of their differences, in per cent or points."""
    if low is None or high is None:
        return "–"
    sign = "+" if low < 0 else ""
    return f"[{low * 100:{sign}.{digits}f} to {high * 100:{sign}.{digits}f}]"


def p_value(p: float | None) -> str:
    """A p-value as it stands in a sentence; a dash where there is none."""
    if p is None:
        return "–"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"
