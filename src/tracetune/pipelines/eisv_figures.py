"""Figures of ``eisv``: trajectories, confusion, coherence and words, each by shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracetune.eisv.answer import parse_answer
from tracetune.eisv.coherence import token_distribution
from tracetune.eisv.judge import TEACHER, TEMPERATURES, Answered
from tracetune.eisv.prompt import VARIANTS
from tracetune.eisv.states import DIMENSIONS
from tracetune.eisv.vocabulary import AFFINITY, EISV_TOKENS, SHAPES
from tracetune.evaluation.figures import make_figure, nothing
from tracetune.records import EisvTrajectory

if TYPE_CHECKING:
    import plotly.graph_objects as go

Document = dict[str, Any]

WORDS = {
    "full": "with the shape",
    "no_shape": "without the shape",
    "no_shape_no_duration": "without shape and duration",
}
"""What the prompt of a variant shows, in words."""
TEACHER_COLOUR = "#0072b2"
_LINES = {"E": "#d55e00", "I": "#0072b2", "S": "#cc79a7", "V": "#6b6b6b"}
_HEAT = {1.0: "#0072b2", 0.3: "#56b4e9", 0.0: "#e69f00"}
_SCALE = [[0, "#ffffff"], [1, "#0072b2"]]


def shape_name(shape: str) -> str:
    """A shape as people read it."""
    return shape.replace("_", " ")


def temperature_name(temperature: float) -> str:
    """A temperature as people read it."""
    return "greedy" if temperature == 0 else f"T = {temperature:g}"


def example_shapes(rows: Sequence[EisvTrajectory]) -> go.Figure:
    """One trajectory of each shape, a measured one if there is any."""
    from plotly.subplots import make_subplots

    chosen = {
        shape: next(
            (
                row
                for origin in ("lumen_real", "synthetic")
                for row in rows
                if (row.shape, row.origin) == (shape, origin)
            ),
            None,
        )
        for shape in SHAPES
    }
    titles = [
        f"{shape_name(shape)} ({'none' if row is None else _origin(row)})"
        for shape, row in chosen.items()
    ]
    layout = make_figure("One trajectory of each shape", "the first measured one, else generated")
    figure = make_subplots(
        rows=3, cols=3, subplot_titles=titles, vertical_spacing=0.11, horizontal_spacing=0.06
    )
    figure.update_layout(layout.layout).update_layout(
        height=760, margin_t=100, legend={"orientation": "h", "y": -0.07, "x": 0}
    )
    for place, row in enumerate(chosen.values()):
        if row is None:
            continue
        times = [state.t - row.t_start for state in row.states]
        for number, name in enumerate(DIMENSIONS):
            figure.add_scatter(
                x=times,
                y=[float(state.plain()[1 + number] or 0.0) for state in row.states],
                name=name,
                mode="lines",
                line={"color": _LINES[name], "width": 2},
                legendgroup=name,
                showlegend=place == 0,
                row=place // 3 + 1,
                col=place % 3 + 1,
            )
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_xaxes(title_text="seconds", row=3)
    figure.update_annotations(font_size=13)
    return figure


def _origin(row: EisvTrajectory) -> str:
    return "measured" if row.origin == "lumen_real" else "generated"


def confusion(metrics: Document) -> go.Figure:
    """Which shapes a classifier takes for which, on the numbers of prompts without the shape."""
    from plotly.subplots import make_subplots

    title = "What the numbers of a prompt tell: a classifier on held-out windows"
    bars = metrics["classified"]
    if not bars:
        return nothing(title, "There are too few windows to train a classifier and to ask it.")
    layout = make_figure(title, "share of the windows of a shape; their number in the cell")
    shown = VARIANTS[1:]
    figure = make_subplots(
        rows=1,
        cols=len(shown),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[
            f"{WORDS[name]}: balanced accuracy {bars[name]['balanced_accuracy']:.0%}"
            for name in shown
        ],
    )
    figure.update_layout(layout.layout).update_layout(height=520, margin_t=105, margin_l=170)
    for column, variant in enumerate(shown, start=1):
        table = [[bars[variant]["confusion"][true][said] for said in SHAPES] for true in SHAPES]
        figure.add_heatmap(
            x=[shape_name(shape) for shape in SHAPES],
            y=[shape_name(shape) for shape in SHAPES],
            z=[[n / max(1, sum(row)) for n in row] for row in table],
            text=[[str(n) if n else "" for n in row] for row in table],
            texttemplate="%{text}",
            colorscale=_SCALE,
            zmin=0,
            zmax=1,
            showscale=False,
            row=1,
            col=column,
        )
    figure.update_xaxes(title_text="said", tickangle=-45)
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(title_text="true shape", col=1)
    figure.update_annotations(font_size=13)
    return figure


def coherence_by_shape(metrics: Document) -> go.Figure:
    """Coherence of the teachers by shape and temperature."""
    from plotly.subplots import make_subplots

    title = "Coherence of the teachers by shape and temperature"
    found = {
        (one["variant"], one["temperature"]): one["per_shape"]
        for one in metrics["scores"]
        if one["model"] == TEACHER
    }
    variants = [name for name in VARIANTS if any(variant == name for variant, _ in found)]
    if not variants:
        return nothing(title, "No teacher was trained.")
    layout = make_figure(title, "answers in vocabulary; dotted: random words (.25)")
    figure = make_subplots(
        rows=len(variants),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.09,
        subplot_titles=[WORDS[name] for name in variants],
    )
    figure.update_layout(layout.layout).update_layout(
        height=160 + 200 * len(variants),
        margin_t=100,
        margin_b=130,
        barmode="group",
        legend={"orientation": "h", "y": 1.12, "x": 0.72, "yanchor": "bottom"},
    )
    for row, variant in enumerate(variants, start=1):
        for temperature in TEMPERATURES:
            shapes = found.get((variant, temperature), {})
            figure.add_bar(
                x=[shape_name(shape) for shape in SHAPES],
                y=[shapes.get(shape, {}).get("coherence") for shape in SHAPES],
                name=temperature_name(temperature),
                marker_color=_HEAT[temperature],
                legendgroup=str(temperature),
                showlegend=row == 1,
                row=row,
                col=1,
            )
        figure.add_hline(y=0.25, line_dash="dot", line_color="#555555", row=row, col=1)
    figure.update_yaxes(range=[0, 1.02])
    figure.update_xaxes(tickangle=-30)
    figure.update_annotations(font_size=13)
    return figure


def token_usage(predictions: Sequence[Answered]) -> go.Figure:
    """Which words are said of which shape: in the labels, and by the released teacher."""
    from plotly.subplots import make_subplots

    title = "Words by shape"
    rows = [
        row
        for row in predictions
        if (row.model, row.variant, row.temperature) == (TEACHER, VARIANTS[0], 1.0)
    ]
    if not rows:
        return nothing(title, "No teacher was trained.")
    known = [(row.shape, parse_answer(row.answer)) for row in rows]
    known = [(shape, answer) for shape, answer in known if answer.in_vocabulary]
    tables = {
        "labels": token_distribution([row.shape for row in rows], [row.label for row in rows]),
        "teacher with the shape, T = 1": token_distribution(
            [shape for shape, _ in known], [list(answer.eisv_tokens) for _, answer in known]
        ),
    }
    layout = make_figure(title, "share of a shape's words; a dot: a word that fits the shape")
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=list(tables)
    )
    figure.update_layout(layout.layout).update_layout(height=480, margin_t=105, margin_l=170)
    words = [token.strip("~").replace("_", " ") for token in EISV_TOKENS]
    names = [shape_name(shape) for shape in SHAPES]
    fitting = [(shape, token) for shape in SHAPES for token in AFFINITY[shape]]
    for column, table in enumerate(tables.values(), start=1):
        figure.add_heatmap(
            x=words,
            y=names,
            z=[[table.get(shape, {}).get(token, 0.0) for token in EISV_TOKENS] for shape in SHAPES],
            colorscale=_SCALE,
            zmin=0,
            zmax=0.4,
            colorbar={"tickformat": ".0%"},
            showscale=column == 2,
            row=1,
            col=column,
        )
        figure.add_scatter(
            x=[token.strip("~").replace("_", " ") for _, token in fitting],
            y=[shape_name(shape) for shape, _ in fitting],
            mode="markers",
            marker={"size": 5, "color": "#d55e00"},
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=column,
        )
    figure.update_xaxes(tickangle=-45)
    figure.update_yaxes(autorange="reversed")
    figure.update_annotations(font_size=13)
    return figure
