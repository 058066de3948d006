"""The funnel of a run as a figure: from what was read to what was kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.figures import make_figure, nothing, plain_text
from tracetune.evaluation.names import COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go


def funnel(steps: Sequence[Mapping[str, Any]]) -> go.Figure:
    """From spans read to rows kept: what is left after each step, and what went there.

    Args:
        steps: In order; each with ``step``, ``count`` (what is left), ``dropped`` (what went) and
            ``reason`` (why, in words; empty for the first).
    """
    import plotly.graph_objects as go

    title = "From spans to rows"
    if not steps:
        return nothing(title, "Nothing was read.")
    layout = make_figure(
        title,
        "spans left after each step; grey: left out there, with the reason's name",
        height=130 + 40 * len(steps),
    ).layout
    names = [plain_text(str(step["step"])) for step in steps]
    words = [plain_text(str(step["reason"])) for step in steps]
    left = go.Bar(
        x=[step["count"] for step in steps],
        y=names,
        orientation="h",
        name="left",
        marker_color=COLOURS["dpo"],
        customdata=words,
        hovertemplate="%{y}: %{x:,} left<extra></extra>",
    )
    gone = go.Bar(
        x=[step["dropped"] for step in steps],
        y=names,
        orientation="h",
        name="left out",
        marker_color="#c9c9c9",
        text=[_funnel_text(step) for step in steps],
        textposition="outside",
        cliponaxis=False,
        customdata=words,
        hovertemplate="%{x:,} left out: %{customdata}<extra></extra>",
    )
    figure = go.Figure([left, gone], layout=layout)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title_text="spans", rangemode="tozero", automargin=True)
    figure.update_layout(
        barmode="stack", showlegend=False, margin={"l": 180, "r": 130, "t": 80, "b": 60}
    )
    return figure


def _funnel_text(step: Mapping[str, Any]) -> str:
    left = f"{step['count']:,}"
    return f"{left} (−{step['dropped']:,})" if step["dropped"] else left


def funnel_steps(funnel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of a funnel report that left something out, from "read" on.

    Args:
        funnel: The report: ``read`` and ``steps`` of ``reason``, ``meaning``, ``dropped`` and
            ``remaining``.
    """
    first = {"step": "read", "count": funnel["read"], "dropped": 0, "reason": ""}
    return [
        first,
        *(
            {
                "step": step["reason"].replace("_", " "),
                "count": step["remaining"],
                "dropped": step["dropped"],
                "reason": step["meaning"],
            }
            for step in funnel["steps"]
            if step["dropped"]
        ),
    ]
