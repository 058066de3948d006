"""How far synthetic rows are from real ones: length, labels, variety, nearest real message.

Every figure stands beside the same figure of the real rows, which is its yardstick, and says on
how many rows it rests. None of them says whether a message is one that people would really send.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.baselines import completion_text, user_text
from tracetune.evaluation.figures import make_figure, nothing, plain_text
from tracetune.evaluation.names import COLOURS, percent
from tracetune.evaluation.statistics import quantile
from tracetune.evaluation.targets import parse_answer
from tracetune.near import shingles, similarity
from tracetune.outputs import OutputSpec
from tracetune.records import Example

if TYPE_CHECKING:
    import plotly.graph_objects as go

_WORD = re.compile(r"\w+")
_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
_RESAMPLES = 1_000
_SHOWN_LABELS = 20
MOST_ROWS = 1_000
"""Rows of each kind that are compared: every row is held against every other one."""

NOT_SHOWN = (
    "Likeness of words and labels says nothing about whether people would send such messages, nor "
    "whether the answers are right: that is what the review is for."
)


def compare(
    real: Sequence[Example], synthetic: Sequence[Example], output: OutputSpec, *, seed: int
) -> dict[str, Any]:
    """The figures of both kinds of rows, as JSON values.

    Args:
        real: Real rows for training; of more than :data:`MOST_ROWS` a seeded draw is compared.
        synthetic: Approved synthetic rows; likewise.
        output: What the answers name.
        seed: Seed of the resampling and of the equal stretches of words.

    Returns:
        ``status`` ``compared`` or ``none`` (there is no synthetic row); by kind of row the number
        (``n``, of ``rows``), words per
        message (``words``), variety (``distinct_1``, ``distinct_2``: different
        words and pairs of words over all, in equally long stretches), likeness to the nearest real
        message (``nearest_real``; of real rows to the nearest other one) and to the nearest other
        row of its kind (``nearest_own``); the shares of ``labels`` and their ``label_distance``
        (total variation, 0 to 1) with what chance alone gives (``by_chance``, 95 % quantile).
    """
    if not synthetic:
        return {"status": "none", "reason": "no synthetic row is among the training rows"}
    everything = {"real": real, "synthetic": synthetic}
    rows = {kind: _drawn(found, seed) for kind, found in everything.items()}
    texts = {kind: [user_text(row.prompt) for row in found] for kind, found in rows.items()}
    words = {
        kind: [_WORD.findall(text.casefold()) for text in found] for kind, found in texts.items()
    }
    shortest = min(sum(map(len, found)) for found in words.values() if found)
    named = {kind: [_names(row, output) for row in found] for kind, found in rows.items()}
    nearest = {kind: _nearest(texts[kind], texts["real"], kind == "real") for kind in rows}
    own = {"real": nearest["real"]}
    own["synthetic"] = _nearest(texts["synthetic"], texts["synthetic"], True)
    found = {
        kind: {
            "n": len(rows[kind]),
            "rows": len(everything[kind]),
            "words": _quantiles([len(text) for text in words[kind]]),
            **_variety(words[kind], shortest, seed),
            "nearest_real": _quantiles(nearest[kind]),
            "nearest_own": _quantiles(own[kind]),
            "labels": _shares(named[kind]),
        }
        for kind in rows
    }
    distance = _distance(named["real"], named["synthetic"])
    return {
        "status": "compared",
        **found,
        "label_distance": distance,
        "by_chance": _by_chance(named["real"], named["synthetic"], seed),
        "nearest": nearest,
        "not_shown": NOT_SHOWN,
    }


def _drawn(rows: Sequence[Example], seed: int) -> list[Example]:
    """All rows, or a seeded draw of them in their order."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    chosen = random.Random(seed).sample(range(len(rows)), MOST_ROWS)
    return [rows[place] for place in sorted(chosen)]


def _names(row: Example, output: OutputSpec) -> list[str]:
    target = parse_answer(completion_text(row), output).target
    return [] if target is None else target.slices(output)


def _quantiles(values: Sequence[float]) -> dict[str, float | None]:
    return {name: quantile(values, share) for name, share in _QUANTILES.items()}


def _variety(words: Sequence[Sequence[str]], length: int, seed: int) -> dict[str, float | None]:
    """Different words and pairs over all of them, in the first ``length`` words after a shuffle.

    Longer texts repeat more, so both kinds of rows are measured on stretches of equal length.
    """
    shuffled = random.Random(seed).sample(list(words), len(words))
    singles: list[str] = []
    pairs: list[tuple[str, str]] = []
    for text in shuffled:
        kept = text[: length - len(singles)]
        singles += kept
        pairs += itertools.pairwise(kept)
    return {
        "distinct_1": round(len(set(singles)) / len(singles), 4) if singles else None,
        "distinct_2": round(len(set(pairs)) / len(pairs), 4) if pairs else None,
    }


def _nearest(texts: Sequence[str], others: Sequence[str], same: bool) -> list[float]:
    """Jaccard similarity of words to the nearest other text; without itself if ``same``."""
    sets = [shingles(text, 1) for text in texts]
    held = [shingles(text, 1) for text in others]
    found = []
    for place, current in enumerate(sets):
        rest = (
            similarity(current, other) for at, other in enumerate(held) if not same or at != place
        )
        best = max(rest, default=None)
        if best is not None:
            found.append(round(best, 4))
    return found


def _shares(named: Sequence[Sequence[str]]) -> dict[str, float]:
    counts = Counter(name for names in named for name in names)
    total = counts.total()
    return {name: round(count / total, 4) for name, count in sorted(counts.items())}


def _distance(one: Sequence[Sequence[str]], other: Sequence[Sequence[str]]) -> float | None:
    """Total variation between the labels of two sets of rows."""
    if not one or not other:
        return None
    first, second = _shares(one), _shares(other)
    names = {*first, *second}
    return round(sum(abs(first.get(n, 0.0) - second.get(n, 0.0)) for n in names) / 2, 4)


def _by_chance(
    one: Sequence[Sequence[str]], other: Sequence[Sequence[str]], seed: int
) -> float | None:
    """The distance that sets of these sizes exceed in 5 % of the draws from one common pool."""
    if not one or not other:
        return None
    draw, pool = random.Random(seed), [*one, *other]
    found = []
    for _ in range(_RESAMPLES):
        shuffled = draw.sample(pool, len(pool))
        found.append(_distance(shuffled[: len(one)], shuffled[len(one) :]) or 0.0)
    return quantile(found, 0.95)


def figure(found: Mapping[str, Any]) -> go.Figure:
    """Shares of labels and likeness to the nearest real message, real rows beside synthetic ones.

    Args:
        found: What :func:`compare` gave.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    title = "Synthetic and real rows for training"
    if found["status"] != "compared":
        return nothing(title, found["reason"])
    note = (
        f"{found['real']['n']} real, {found['synthetic']['n']} synthetic rows; label distance "
        f"{percent(found['label_distance'])}, by chance up to {percent(found['by_chance'])}"
    )
    shares = {
        name: sum(found[kind]["labels"].get(name, 0.0) for kind in ("real", "synthetic"))
        for name in {*found["real"]["labels"], *found["synthetic"]["labels"]}
    }
    names = sorted(shares, key=lambda name: (-shares[name], name))
    if len(names) > _SHOWN_LABELS:
        note += f"; the {_SHOWN_LABELS} most frequent of {len(names)} labels"
        names = names[:_SHOWN_LABELS]
    drawn = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=("labels, share of all labels", "likeness to nearest real message"),
    )
    drawn.update_layout(make_figure(title, note, height=460).layout)
    for kind, shade in (("real", COLOURS["base"]), ("synthetic", COLOURS["dpo"])):
        shares = found[kind]["labels"]
        drawn.add_trace(
            go.Bar(
                y=[plain_text(name) for name in names],
                x=[shares.get(name, 0.0) for name in names],
                orientation="h",
                name=kind,
                legendgroup=kind,
                marker_color=shade,
            ),
            row=1,
            col=1,
        )
        drawn.add_trace(
            go.Histogram(
                x=found["nearest"][kind],
                xbins={"start": 0, "end": 1.0001, "size": 0.1},
                histnorm="probability",
                name=kind,
                legendgroup=kind,
                showlegend=False,
                marker_color=shade,
            ),
            row=1,
            col=2,
        )
    drawn.update_xaxes(tickformat=".0%", row=1, col=1)
    drawn.update_xaxes(range=[0, 1], row=1, col=2, title_text="Jaccard similarity of words")
    drawn.update_yaxes(automargin=True, row=1, col=1)
    drawn.update_yaxes(tickformat=".0%", row=1, col=2, title_text="share of rows")
    drawn.update_layout(margin={"l": 140, "r": 30, "t": 100, "b": 90})
    return drawn
