"""Plotly figures of a run: what was kept, how training went, who answers how well.

Each function takes plain JSON values and always gives a figure: where there is nothing to show it
says so in words, so that a dry run has the same outputs as a full one. Models keep their colour
from figure to figure.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.names import COLOURS, MEASURES, colour, label

if TYPE_CHECKING:
    import plotly.graph_objects as go

History = Sequence[Mapping[str, Any]]

_INK = "#222222"
_GRID = "#e3e3e3"
_STAGES = {"real": "SFT on real rows", "sft": "SFT", "dpo": "DPO", "kto": "KTO"}


def make_figure(title: str, note: str = "", *, height: int = 420) -> go.Figure:
    """An empty figure in the style of the reports, with a title and a line of small print."""
    import plotly.graph_objects as go

    text = f"{title}<br><span style='font-size:12px;color:#555555'>{note}</span>" if note else title
    figure = go.Figure()
    figure.update_layout(
        title={
            "text": text,
            "font": {"size": 17},
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 14},
        },
        template="plotly_white",
        font={"family": "Helvetica, Arial, sans-serif", "size": 13, "color": _INK},
        height=height,
        margin={"l": 70, "r": 30, "t": 80, "b": 60},
        legend={"orientation": "h", "y": -0.2, "x": 0, "traceorder": "normal"},
        hovermode="closest",
    )
    return _gridded(figure)


def nothing(title: str, reason: str) -> go.Figure:
    """A figure that says why there is nothing to draw."""
    figure = make_figure(title, height=180)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text=plain_text(reason), x=0, y=0.5, xref="paper", yref="paper", showarrow=False
    )
    return figure


def plain_text(text: str) -> str:
    """Text for a figure: Plotly reads a part of HTML, and names may come from data."""
    return html.escape(text, quote=False)


def _series(history: History, key: str) -> tuple[list[int], list[float]]:
    found = [
        (int(entry["step"]), float(entry[key]))
        for entry in history
        if isinstance(entry.get(key), int | float) and entry.get("step") is not None
    ]
    return [step for step, _ in found], [value for _, value in found]


def loss_curves(histories: Mapping[str, History]) -> go.Figure:
    """Training and validation loss of each stage over its optimiser steps.

    Args:
        histories: Log of each trained stage (``sft``, ``dpo``), as in ``history.json``.
    """
    from plotly.subplots import make_subplots

    title = "Loss during training"
    stages = [stage for stage, history in histories.items() if _series(history, "loss")[0]]
    if not stages:
        return nothing(title, "No stage was trained.")
    figure = make_figure(
        title, "cross-entropy for SFT, preference loss for DPO and KTO; dashed: validation"
    )
    grid = make_subplots(
        rows=1,
        horizontal_spacing=0.14,
        cols=len(stages),
        subplot_titles=[_STAGES.get(name, name) for name in stages],
    )
    figure = grid.update_layout(figure.layout).update_layout(margin_t=105, height=440)
    for column, stage in enumerate(stages, start=1):
        for key, words, dash in (
            ("loss", "training", "solid"),
            ("eval_loss", "validation", "dash"),
        ):
            steps, values = _series(histories[stage], key)
            if steps:
                name = f"{_STAGES.get(stage, stage)} {words}"
                _line(figure, steps, values, name, stage, dash, column)
        figure.update_xaxes(title_text="optimiser step", rangemode="tozero", col=column)
        figure.update_yaxes(title_text="loss (nats)", rangemode="tozero", col=column)
    return _gridded(figure)


def reward_curves(history: History) -> go.Figure:
    """Reward margins and accuracies of DPO over its optimiser steps."""
    from plotly.subplots import make_subplots

    title = "Rewards during DPO"
    if not _series(history, "rewards/margins")[0]:
        return nothing(title, "DPO was not trained.")
    layout = make_figure(
        title,
        "reward = beta × log-probability ratio to the reference; dashed: validation pairs",
    ).layout
    figure = make_subplots(
        rows=1, horizontal_spacing=0.14, cols=2, subplot_titles=["Margin", "Accuracy"]
    )
    figure.update_layout(layout).update_layout(margin_t=105, height=440)
    for column, key in ((1, "rewards/margins"), (2, "rewards/accuracies")):
        for prefix, words, dash in (("", "training", "solid"), ("eval_", "validation", "dash")):
            steps, values = _series(history, prefix + key)
            if steps:
                _line(figure, steps, values, words, "dpo", dash, column, legend=column == 1)
        figure.update_xaxes(title_text="optimiser step", rangemode="tozero", col=column)
    figure.update_yaxes(title_text="chosen − rejected (nats × beta)", col=1)
    figure.update_yaxes(
        title_text="pairs with chosen ahead", tickformat=".0%", range=[-0.02, 1.04], col=2
    )
    return _gridded(figure)


def _line(
    figure: go.Figure,
    steps: list[int],
    values: list[float],
    name: str,
    model: str,
    dash: str,
    column: int,
    *,
    legend: bool = True,
) -> None:
    figure.add_scatter(
        x=steps,
        y=values,
        name=name,
        mode="lines+markers" if len(steps) < 40 else "lines",
        line={"color": colour(model), "dash": dash, "width": 2},
        marker={"size": 5},
        legendgroup=name,
        showlegend=legend,
        row=1,
        col=column,
    )


def _gridded(figure: go.Figure) -> go.Figure:
    figure.update_xaxes(gridcolor=_GRID, zerolinecolor=_GRID)
    figure.update_yaxes(gridcolor=_GRID, zerolinecolor=_GRID, ticklabelstandoff=6)
    return figure


def accuracy(metrics: Mapping[str, Any]) -> go.Figure:
    """The figure that decides, of each model on all held-out rows; accuracy with 95 % Wilson."""
    measure = metrics.get("measure", "accuracy")
    title = f"{MEASURES[measure][:1].upper()}{MEASURES[measure][1:]} on held-out rows"
    if metrics.get("status") != "judged":
        return nothing(title, _why(metrics))
    bars = "; bars: 95 % interval" if measure == "accuracy" else ""
    figure = make_figure(
        title,
        f"{metrics['n']} rows of {metrics['groups']} {metrics['units']}{bars}",
        height=120 + 52 * len(metrics["models"]),
    )
    for model, found in reversed(_ordered(metrics["models"])):
        value = found[measure]
        interval = (found["accuracy_low"], found["accuracy_high"])
        figure.add_bar(
            x=[value],
            y=[label(model)],
            orientation="h",
            marker_color=colour(model),
            error_x=_interval([value], [interval], _INK, 1.2) if measure == "accuracy" else None,
            text=[f"{value:.1%}"],
            textposition="inside",
            insidetextanchor="start",
            insidetextfont={"color": "white" if model in ("base", "dpo") else _INK},
            showlegend=False,
        )
    figure.update_xaxes(title_text=_AXIS[measure], tickformat=".0%", range=[0, 1])
    figure.update_layout(margin={"l": 140, "r": 30, "t": 80, "b": 60})
    return figure


def accuracy_by_target(metrics: Mapping[str, Any]) -> go.Figure:
    """The same per slice (target, entity type, turn), with the number of rows."""
    measure = metrics.get("measure", "accuracy")
    title = "Accuracy per slice" if measure == "accuracy" else "Word F1 per slice"
    if metrics.get("status") != "judged":
        return nothing(title, _why(metrics))
    slices = metrics["slices"]
    models = [model for model, _ in _ordered(metrics["models"])]
    bars = "bars: 95 % interval; " if measure == "accuracy" else ""
    figure = make_figure(
        title,
        f"n rows per slice; {bars}* fewer than 10 rows",
        height=150 + (16 * len(models) + 14) * len(slices),
    )
    names = [
        f"{plain_text(part['target'])} (n={part['n']}){'*' if part['small'] else ''}"
        for part in slices
    ]
    for model in models:
        figure.add_bar(
            x=[part[measure][model] for part in slices],
            y=names,
            orientation="h",
            name=label(model),
            marker_color=colour(model),
            error_x=_slice_intervals(slices, model) if measure == "accuracy" else None,
        )
    figure.update_layout(
        barmode="group",
        bargap=0.25,
        legend={
            "orientation": "h",
            "y": 1,
            "yanchor": "bottom",
            "x": 0,
        },
        margin={"l": 170, "r": 30, "t": 110, "b": 60},
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text=_AXIS[measure], tickformat=".0%", range=[0, 1])
    return figure


_AXIS = {"accuracy": "share of right answers", "score": "mean F1 of words"}


def _slice_intervals(slices: Sequence[Mapping[str, Any]], model: str) -> dict[str, Any]:
    from tracetune.evaluation.statistics import wilson_interval

    return _interval(
        [part["accuracy"][model] for part in slices],
        [wilson_interval(part["correct"][model], part["n"]) or (0.0, 1.0) for part in slices],
        "#888888",
        1,
    ) | {"width": 2}


def _interval(
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    ink: str,
    thickness: float,
) -> dict[str, Any]:
    """Error bars of Plotly from values and their intervals."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, (_, high) in zip(values, intervals, strict=True)],
        "arrayminus": [value - low for value, (low, _) in zip(values, intervals, strict=True)],
        "color": ink,
        "thickness": thickness,
    }


def reliability(metrics: Mapping[str, Any]) -> go.Figure:
    """How often answers are right against how sure the model was; area of a dot: answers."""
    title = "Confidence and truth"
    if metrics.get("status") != "judged":
        return nothing(title, _why(metrics))
    figure = make_figure(
        title, "answers in ten bins of confidence; on the dotted line confidence is honest"
    )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"dash": "dot", "color": "#888888"},
        name="honest",
        hoverinfo="skip",
    )
    for model, found in _ordered(metrics["models"]):
        parts = found["reliability"]
        # The majority class states one confidence for all rows: a single dot tells nothing here.
        if not parts or model == "majority":
            continue
        figure.add_scatter(
            x=[part["confidence"] for part in parts],
            y=[part["accuracy"] for part in parts],
            mode="markers",
            name=f"{label(model)} (ECE {found['ece']:.3f})",
            marker={
                "color": colour(model),
                "size": [6 + 34 * (part["n"] / found["n"]) ** 0.5 for part in parts],
                "opacity": 0.75,
            },
            customdata=[part["n"] for part in parts],
            hovertemplate="confidence %{x:.2f}, right %{y:.0%}, %{customdata} answers",
        )
    figure.update_xaxes(title_text="mean confidence of the answers", range=[-0.03, 1.05])
    figure.update_yaxes(title_text="share of right targets", tickformat=".0%", range=[-0.05, 1.08])
    return figure


def _ordered(models: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Models in the order of the palette; unknown ones last."""
    order = list(COLOURS)
    return sorted(
        models.items(),
        key=lambda item: order.index(item[0]) if item[0] in order else len(order),
    )


def _why(metrics: Mapping[str, Any]) -> str:
    return f"Not judged: {metrics.get('reason', 'nothing to judge')}."
