"""Figures of ``twin``: pass rates by priority, scores by model, the A/B comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.figures import make_figure, nothing, plain_text
from tracetune.evaluation.names import colour
from tracetune.pipelines.twin_answers import CANNED
from tracetune.pipelines.twin_verdict import WORDS

if TYPE_CHECKING:
    import plotly.graph_objects as go

Document = dict[str, Any]

SHOWN_SETS = {
    "all": "all cases",
    "critical": "critical",
    "high": "high",
    "medium": "medium",
    "suite": "named cases",
    "corpus": "cases of the corpus",
}
SHOWN_SCORES = {
    "policy": "policy",
    "format": "format",
    "content": "content (form only)",
    "agreement": "words shared with the own answer",
}
_CANNED_COLOUR = "#e69f00"
_OUTCOMES = {"wins": "won", "ties": "tie", "losses": "lost"}
_OUTCOME_COLOURS = {"wins": "#0072b2", "ties": "#c9c9c9", "losses": "#d55e00"}


def pass_rates(scores: Mapping[str, Any], metrics: Mapping[str, Any]) -> go.Figure:
    """Share of passed cases by priority and origin, for every model."""
    title = "Regression suite: cases passed"
    models = scores["models"]
    if not models:
        return nothing(title, f"Not judged: {metrics['reason']}.")
    n = {name: next(iter(models.values()))["rates"][name]["n"] for name in SHOWN_SETS}
    rows = {f"{words} (n={n[name]})": name for name, words in SHOWN_SETS.items() if n[name]}
    return _bars(
        title,
        "bars: 95 % Wilson interval",
        {
            model: [
                models[model]["rates"][name] | {"mean": models[model]["rates"][name]["rate"]}
                for name in rows.values()
            ]
            for model in WORDS
            if model in models
        },
        list(rows),
        "share of cases passed",
    )


def mean_scores(metrics: Mapping[str, Any]) -> go.Figure:
    """Mean scores on held-out prompts, for every model."""
    title = "Scores on held-out prompts"
    models = metrics["models"]
    if metrics["status"] != "judged":
        return nothing(title, f"Not judged: {metrics['reason']}.")
    first = next(iter(models.values()))
    rows = {f"{words} (n={first[name]['n']})": name for name, words in SHOWN_SCORES.items()}
    return _bars(
        title,
        f"{metrics['n']} prompts of {metrics['groups']} conversations; bars: 95 % bootstrap "
        "interval over conversations",
        {
            model: [models[model][name] for name in rows.values()]
            for model in WORDS
            if model in models
        },
        list(rows),
        "mean score",
    )


def comparison(metrics: Mapping[str, Any]) -> go.Figure:
    """Won, tied and lost pairs, by the judge and by the heuristic."""
    title = "A/B comparison"
    found = metrics["ab"]
    judges = {
        f"judge: {found['judge']['writer']}": found["judge"]["figures"],
        "heuristic of document 000": found["heuristic"],
    }
    shown = {words: one for words, one in judges.items() if one is not None and one["n"]}
    if not shown:
        return nothing(title, f"Not compared: {found['reason'] or 'no pair of answers'}.")
    figure = make_figure(
        f"{title}: {WORDS[metrics['adapter']]} against {WORDS[found['against']]}",
        "pairs of answers to held-out prompts; the judge was asked in both orders",
        height=190 + 60 * len(shown),
    )
    for kind, words in _OUTCOMES.items():
        figure.add_bar(
            x=[one[kind] for one in shown.values()],
            y=[f"{plain_text(name)} (n={one['n']})" for name, one in shown.items()],
            orientation="h",
            name=words,
            marker_color=_OUTCOME_COLOURS[kind],
            text=[one[kind] or "" for one in shown.values()],
            textposition="inside",
            insidetextanchor="middle",
        )
    figure.update_layout(
        barmode="stack", margin={"l": 230, "r": 30, "t": 80, "b": 80}, legend={"y": -0.55}
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text="held-out prompts")
    return figure


def _bars(
    title: str,
    note: str,
    models: Mapping[str, Sequence[Mapping[str, Any]]],
    names: Sequence[str],
    axis: str,
) -> go.Figure:
    """Horizontal bars with intervals, a group per name and a bar per model."""
    figure = make_figure(title, note, height=170 + (17 * len(models) + 14) * len(names))
    for model, found in models.items():
        means = [one["mean"] for one in found]
        figure.add_bar(
            x=means,
            y=list(names),
            orientation="h",
            name=WORDS[model],
            marker_color=_CANNED_COLOUR if model == CANNED else colour(model),
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [_span(one, "high") for one in found],
                "arrayminus": [_span(one, "low") for one in found],
                "color": "#888888",
                "thickness": 1,
                "width": 2,
            },
        )
    figure.update_layout(
        barmode="group",
        bargap=0.25,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        margin={"l": 230, "r": 30, "t": 110, "b": 60},
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text=axis, tickformat=".0%", range=[0, 1.02])
    return figure


def _span(one: Mapping[str, Any], end: str) -> float:
    """How far an end of the interval lies from the value."""
    return 0.0 if one["mean"] is None else abs(one[end] - one["mean"])
