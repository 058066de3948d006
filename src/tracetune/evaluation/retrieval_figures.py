"""Plotly figures of the judgement of an encoder; the style is that of the other figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.figures import make_figure, nothing
from tracetune.evaluation.retrieval_judge import LABELS, SCORE_LABELS

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = {
    "trained": "#0072b2",
    "previous": "#56b4e9",
    "base": "#6b6b6b",
    "bm25": "#e69f00",
    "random": "#c9c9c9",
}
_QUALITY = ("recall_1", "recall_5", "recall_10", "ndcg_10", "reciprocal_rank")


def losses(history: Sequence[Mapping[str, Any]], loss: str) -> go.Figure:
    """Training and validation loss over the optimiser steps.

    Args:
        history: Log of the training, as in ``history.json``.
        loss: Name of the loss.
    """
    title = "Loss during training"
    found = {
        key: [(e["step"], e[key]) for e in history if isinstance(e.get(key), int | float)]
        for key in ("loss", "eval_loss")
    }
    if not found["loss"]:
        return nothing(title, "No encoder was trained.")
    figure = make_figure(title, f"{loss.replace('_', ' ')} loss; dashed: validation triplets")
    for key, words, dash in (("loss", "training", "solid"), ("eval_loss", "validation", "dash")):
        if found[key]:
            figure.add_scatter(
                x=[step for step, _ in found[key]],
                y=[value for _, value in found[key]],
                name=words,
                mode="lines+markers",
                line={"color": COLOURS["trained"], "dash": dash, "width": 2},
                marker={"size": 5},
            )
    figure.update_xaxes(title_text="optimiser step", rangemode="tozero")
    figure.update_yaxes(title_text="loss", rangemode="tozero")
    return figure


def quality(metrics: Mapping[str, Any]) -> go.Figure:
    """All scores of all models on the held-out queries, with 95 % intervals."""
    title = "Quality of the ranking"
    if metrics["status"] != "judged":
        return nothing(title, _why(metrics))
    figure = make_figure(
        title,
        f"{metrics['n']} held-out queries against {metrics['documents']:,} documents; "
        "bars: 95 % interval",
        height=460,
    )
    for model in _models(metrics):
        found = metrics["models"][model]
        means = [found[score]["mean"] for score in _QUALITY]
        figure.add_bar(
            x=[SCORE_LABELS[score] for score in _QUALITY],
            y=means,
            name=LABELS[model],
            marker_color=COLOURS[model],
            error_y=_error([found[score] for score in _QUALITY]),
        )
    figure.add_bar(
        x=[SCORE_LABELS[score] for score in _QUALITY],
        y=[metrics["random"][score] for score in _QUALITY],
        name=LABELS["random"],
        marker_color=COLOURS["random"],
    )
    figure.update_layout(barmode="group", bargap=0.22)
    figure.update_yaxes(range=[0, 1], title_text="score")
    return figure


def differences(metrics: Mapping[str, Any]) -> go.Figure:
    """Trained encoder minus each other model in nDCG@10, with its paired interval."""
    title = "Difference in nDCG@10"
    if metrics["status"] != "judged":
        return nothing(title, _why(metrics))
    others = [model for model in _models(metrics) if model != "trained"]
    figure = make_figure(
        title,
        "trained encoder minus the other, same queries; bars: 95 % interval over sessions",
        height=150 + 50 * len(others),
    )
    for model in reversed(others):
        found = metrics["comparisons"][model]["ndcg_10"]
        figure.add_scatter(
            x=[found["mean"]],
            y=[LABELS[model]],
            mode="markers",
            marker={"size": 11, "color": COLOURS[model]},
            error_x=_error([found]),
            showlegend=False,
        )
    figure.add_vline(x=0, line={"color": "#888888", "dash": "dot"})
    figure.update_xaxes(title_text="nDCG@10, right of 0 the trained encoder is better")
    figure.update_layout(margin={"l": 140, "r": 30, "t": 80, "b": 60})
    return figure


def slices(metrics: Mapping[str, Any]) -> go.Figure:
    """nDCG@10 by whether the wanted documents were positives in training."""
    title = "Documents known from training"
    if metrics["status"] != "judged":
        return nothing(title, _why(metrics))
    parts = metrics["slices"]
    figure = make_figure(
        title,
        "nDCG@10; seen: all wanted documents were positives in training, partly: some, "
        "unseen: none; * fewer than 10 queries",
    )
    names = [f"{p['slice']}<br>(n={p['n']}){'*' if p['small'] else ''}" for p in parts]
    for model in _models(metrics):
        figure.add_bar(
            x=names,
            y=[part["models"][model]["ndcg_10"] for part in parts],
            name=LABELS[model],
            marker_color=COLOURS[model],
        )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_yaxes(range=[0, 1], title_text="nDCG@10")
    return figure


def _error(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [part["high"] - part["mean"] for part in found],
        "arrayminus": [part["mean"] - part["low"] for part in found],
        "color": "#222222",
        "thickness": 1.2,
        "width": 3,
    }


def _models(metrics: Mapping[str, Any]) -> list[str]:
    return [model for model in LABELS if model in metrics["models"]]


def _why(metrics: Mapping[str, Any]) -> str:
    return f"Not judged: {metrics['reason']}."
