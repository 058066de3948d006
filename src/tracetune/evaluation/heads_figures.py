"""Plotly figures of the judgement of heads; the style is that of the other figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.figures import make_figure, nothing, plain_text
from tracetune.evaluation.heads_held import FULL, HEADS, OFF, SHUFFLED
from tracetune.evaluation.heads_judge import (
    HEAD_NAMES,
    LABELS,
    measure_of,
    measure_words,
)
from tracetune.evaluation.heads_patterns import CONSTANT, COORDINATES, EMBEDDING
from tracetune.evaluation.heads_planning import COPY, MEAN
from tracetune.evaluation.heads_style import CHANCE
from tracetune.records.heads import PATTERNS, PHASES

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = {
    HEADS: "#0072b2",
    FULL: "#56b4e9",
    OFF: "#009e73",
    SHUFFLED: "#e69f00",
    EMBEDDING: "#6b6b6b",
    COORDINATES: "#999933",
    CONSTANT: "#c9c9c9",
    CHANCE: "#c9c9c9",
    MEAN: "#c9c9c9",
    COPY: "#6b6b6b",
}
_SYMBOLS = {"system": "square", "user": "circle", "assistant": "diamond"}
_GROUP_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933"),
    *("#44aa99", "#332288", "#117733", "#ddcc77", "#aa4499", "#6b6b6b", "#000000"),
)


def heads(metrics: Mapping[str, Any]) -> go.Figure:
    """The deciding figure of each head, beside its baselines, with intervals."""
    title = "Heads against baselines"
    if metrics["status"] != "judged":
        return nothing(title, _why(metrics))
    judged = [head for head in HEAD_NAMES if metrics[head].get("status") != "unjudged"]
    figure = make_figure(
        title,
        f"{metrics['n']} held-out turns of {metrics['conversations']} conversations; bars: 95 % "
        "interval over conversations; recall and F1 are not comparable with a cosine",
        height=520,
    )
    for model, colour in COLOURS.items():
        found = {
            head: metrics[head]["models"][model][measure_of(metrics, head)]
            for head in judged
            if model in metrics[head]["models"]
        }
        if found:
            figure.add_bar(
                x=[measure_words(metrics, head) for head in found],
                y=[value["mean"] for value in found.values()],
                name=LABELS[model],
                marker_color=colour,
                error_y=_error(list(found.values())),
            )
    figure.update_layout(barmode="group", bargap=0.2)
    figure.update_yaxes(range=[0, 1.02], title_text="score")
    return figure


def confusion(metrics: Mapping[str, Any]) -> go.Figure:
    """Per pattern: how many turns the head got right, named wrongly or missed."""
    title = "Patterns: what the head says and what the rules say"
    if metrics["status"] != "judged":
        return nothing(title, _why(metrics))
    each = metrics["patterns"]["models"][HEADS]["per_pattern"]
    columns = {
        "hits": "both say yes",
        "missed": "only the rules",
        "false": "only the head",
        "rest": "both say no",
    }
    counts = [[each[name][key] for key in columns] for name in PATTERNS]
    figure = make_figure(
        title,
        f"{metrics['n']} held-out turns, four cells of each pattern; colour: share of the turns",
        height=560,
    )
    figure.add_heatmap(
        z=[[count / max(metrics["n"], 1) for count in row] for row in counts],
        x=list(columns.values()),
        y=[_pattern(name) for name in PATTERNS],
        text=counts,
        texttemplate="%{text}",
        colorscale=[[0, "#f7fbff"], [1, "#4292c6"]],
        showscale=False,
        zmin=0,
        zmax=1,
        hovertemplate="%{y}, %{x}: %{text} turns<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(margin={"l": 190, "r": 30, "t": 80, "b": 40})
    return figure


def style_map(metrics: Mapping[str, Any]) -> go.Figure:
    """Signatures of the held-out turns in the two directions in which they differ most."""
    title = "Style signatures of held-out turns"
    if metrics["status"] != "judged" or metrics["style"]["status"] != "judged":
        return nothing(title, _why(metrics if "reason" in metrics else metrics["style"]))
    found = metrics["style"]
    shares, groups = found["map"]["shares"], found["conversations"]
    figure = make_figure(
        title,
        f"principal components with {100 * sum(shares):.0f} % of the spread; colour: conversation "
        "(colours recur), circle: user, diamond: assistant, square: system",
        height=520,
    )
    colours = {
        name: _GROUP_COLOURS[number % len(_GROUP_COLOURS)]
        for number, name in enumerate(dict.fromkeys(groups))
    }
    figure.add_scatter(
        x=found["map"]["x"],
        y=found["map"]["y"],
        mode="markers",
        marker={
            "size": 9,
            "opacity": 0.8,
            "color": [colours[name] for name in groups],
            "symbol": [_SYMBOLS[role] for role in found["roles"]],
        },
        text=[
            f"{plain_text(name)}<br>{role}"
            for name, role in zip(groups, found["roles"], strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(title_text=f"first component ({100 * shares[0]:.0f} %)")
    figure.update_yaxes(title_text=f"second component ({100 * sum(shares[1:]):.0f} %)")
    return figure


def gates(metrics: Mapping[str, Any]) -> go.Figure:
    """Mean gate of the adapter by phase of the conversation."""
    title = "Gate of the adapter by phase"
    if metrics["status"] != "judged":
        return nothing(title, _why(metrics))
    figure = make_figure(
        title,
        "mean over held-out turns, 95 % interval over conversations; near 0 the base is left as it "
        "is; at the start of training the gate is about 0.12",
    )
    found = {name: metrics["gates"][name] for name in PHASES if metrics["gates"][name]["n"]}
    figure.add_bar(
        x=[f"{name}<br>(n={each['n']})" for name, each in found.items()],
        y=[each["gate"]["mean"] for each in found.values()],
        marker_color=COLOURS[HEADS],
        error_y=_error([each["gate"] for each in found.values()]),
        showlegend=False,
    )
    figure.update_yaxes(title_text="mean gate", rangemode="tozero")
    return figure


def calibration(metrics: Mapping[str, Any]) -> go.Figure:
    """How often a pattern is there against how likely the head found it; area: turns."""
    title = "Probability of a pattern and truth"
    if metrics["status"] != "judged":
        return nothing(title, _why(metrics))
    figure = make_figure(
        title, "turns and patterns together in ten bins; on the dotted line probability is honest"
    )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"dash": "dot", "color": "#888888"},
        name="honest",
        hoverinfo="skip",
    )
    for model in (HEADS, FULL, CONSTANT):
        found = metrics["patterns"]["calibration"][model]
        figure.add_scatter(
            x=[part["confidence"] for part in found["bins"]],
            y=[part["accuracy"] for part in found["bins"]],
            mode="markers",
            name=f"{_calibrated(model)} (ECE {found['ece']:.3f})",
            marker={
                "color": COLOURS[model],
                "size": [6 + 34 * (part["n"] / found["n"]) ** 0.5 for part in found["bins"]],
                "opacity": 0.75,
            },
            customdata=[part["n"] for part in found["bins"]],
            hovertemplate="probability %{x:.2f}, there in %{y:.0%}, %{customdata} cases",
        )
    figure.update_xaxes(title_text="mean probability", range=[-0.03, 1.05])
    figure.update_yaxes(title_text="share with the pattern", tickformat=".0%", range=[-0.05, 1.08])
    return figure


def losses(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> go.Figure:
    """Training and validation loss of both variants over the optimiser steps."""
    title = "Loss during training of the heads"
    figure = make_figure(title, "sum of the weighted losses; dashed: validation turns")
    drawn = False
    for variant, history in histories.items():
        for key, words, dash in (
            ("loss", "training", "solid"),
            ("eval_loss", "validation", "dash"),
        ):
            points = [(e["step"], e[key]) for e in history if isinstance(e.get(key), int | float)]
            if points:
                drawn = True
                figure.add_scatter(
                    x=[step for step, _ in points],
                    y=[value for _, value in points],
                    name=f"{variant}, {words}",
                    mode="lines+markers",
                    line={"color": COLOURS[variant], "dash": dash, "width": 2},
                    marker={"size": 5},
                )
    if not drawn:
        return nothing(title, "No heads were trained.")
    figure.update_xaxes(title_text="optimiser step", rangemode="tozero")
    figure.update_yaxes(title_text="loss")
    return figure


def _calibrated(model: str) -> str:
    return "frequency in training" if model == CONSTANT else LABELS[model]


def _pattern(name: str) -> str:
    return name.replace("_", " ")


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


def _why(metrics: Mapping[str, Any]) -> str:
    return f"Not judged: {metrics.get('reason', 'nothing to judge')}."
