"""Figures and the page: they hold what they should and nothing that acts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.evaluation import fakes
from tests.evaluation.fakes import prediction
from tracetune.evaluation import figures, funnel_figure
from tracetune.evaluation.judge import Judgement, Predictions, judge
from tracetune.evaluation.metrics import compute
from tracetune.evaluation.options import EvaluationOptions
from tracetune.evaluation.report import ReportContext, cut, facts, number, render, summary_lines
from tracetune.evaluation.tables import frame

OPTIONS = EvaluationOptions(bootstrap=200)
COUNTS = {
    "examples": {"test": 112, "train": 636, "validation": 71},
    "preferences": {"train": 131, "test": 28},
}
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def judged() -> Judgement:
    predictions = Predictions(fakes.many(), fakes.rewards())
    return judge(predictions, adapter="dpo", options=OPTIONS)


@pytest.fixture(scope="module")
def dry() -> Judgement:
    return judge(
        Predictions(frame([]), []), adapter=None, options=OPTIONS, reason="this is a dry run"
    )


def drawn(judgement: Judgement, histories: dict[str, Any], steps: list[Any]) -> dict[str, Any]:
    return {
        "accuracy": figures.accuracy(judgement.metrics),
        "agents": figures.accuracy_by_target(judgement.metrics),
        "loss": figures.loss_curves(histories),
        "rewards": figures.reward_curves(histories.get("dpo", [])),
        "reliability": figures.reliability(judgement.metrics),
        "funnel": funnel_figure.funnel(steps),
    }


def page(judgement: Judgement, histories: dict[str, Any] | None = None, **more: Any) -> str:
    steps = funnel_figure.funnel_steps(fakes.funnel())
    return render(
        ReportContext(
            **{
                "title": "dpo of demo",
                "tenant": "demo",
                "name": "demo",
                "metrics": judgement.metrics,
                "gate": judgement.gate,
                "figures": drawn(judgement, histories or {}, steps),
                "funnel": steps,
                "counts": COUNTS,
                "preflight": {"sft": fakes.preflight()},
                "made_with": {"seeds": {"train": 42}, "versions": {"torch": "2.13.0"}},
                **more,
            }
        )
    )


class Page(HTMLParser):
    """Tags and visible text of a page; the content of scripts is kept apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


HISTORIES = {"sft": fakes.history(60, 2.2), "dpo": fakes.history(45, 0.69, dpo=True)}


def test_the_verdict_comes_first_and_the_numbers_have_n(judged: Judgement) -> None:
    text = Page(page(judged, HISTORIES)).text
    assert judged.gate.promote
    order = ["Promote", "Numbers", "Figures", "Per slice", "Examples", "Data", "How it was made"]
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    assert "97 / 112" in text
    assert "112 held-out rows of 38 sessions" in text
    assert "smallest improvement that can reach p < 0.05 is 5.4 points" in text
    assert "What the figures do not show" in text
    assert "child span" in text
    assert "2,130" in text
    assert "raise max_length" in text
    assert "seeds.train 42" in text


def test_no_column_for_the_k_best_where_only_one_answer_was_made(judged: Judgement) -> None:
    assert "Right among" in page(judged)
    options = EvaluationOptions(bootstrap=200, top_k=1)
    one = judge(Predictions(fakes.many(), []), adapter="dpo", options=options)
    text = page(one)
    assert "Right among" not in text
    [head, first, *_] = re.findall(r"<tr.*?</tr>", text[text.index('id="numbers"') :], re.DOTALL)
    assert len(re.findall("<th", head)) == len(re.findall("<t[hd]", first))


def test_rows_are_said_to_come_in_what_they_come_in(judged: Judgement) -> None:
    assert "sessions or traces" in page(judged)
    metrics = compute(
        fakes.many(), [], adapter="dpo", options=OPTIONS, units="clusters of near-equal requests"
    )
    text = page(Judgement(metrics, judged.gate))
    assert "38 clusters of near-equal requests" in text
    assert "a bootstrap over clusters of near-equal requests" in text
    assert "sessions or traces" not in text


def test_one_file_without_other_hosts(judged: Judgement) -> None:
    found = Page(page(judged, HISTORIES))
    for tag, attributes in found.tags:
        assert tag not in {"link", "iframe", "img", "base", "object"}
        assert "src" not in attributes
        assert "href" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    policies = [a["content"] for tag, a in found.tags if a.get("http-equiv")]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none'")
    assert sum("plotly.js v" in script[:2000] for script in found.scripts) == 1


def test_figures_of_the_page_are_json(judged: Judgement) -> None:
    found = Page(page(judged, HISTORIES))
    kinds = [a for tag, a in found.tags if tag == "script" and a.get("type")]
    assert [a["data-for"] for a in kinds] == [
        f"figure-{name}"
        for name in ("accuracy", "agents", "loss", "rewards", "reliability", "funnel")
    ]
    for script in found.scripts[1:-1]:
        assert json.loads(script)["data"]


def test_no_text_becomes_markup() -> None:
    """Markup in prompts, targets, answers, funnel, preflight and manifest stays text."""
    rows = []
    for row in range(12):
        for model in ("base", "sft", "dpo", "majority", "nearest"):
            text = json.dumps({"agent": EVIL}) if model == "dpo" else EVIL
            rows.append(prediction(row, model, EVIL, text, prompt=EVIL))
    judgement = judge(Predictions(frame(rows), []), adapter="dpo", options=OPTIONS)
    steps = [{"step": EVIL, "count": 3, "dropped": 1, "reason": EVIL}]
    preflight = {**fakes.preflight(), "dropped": {EVIL: 1}}
    preflight["gates"][0] = {**preflight["gates"][0], "name": EVIL, "text": EVIL}
    html = page(
        judgement,
        HISTORIES,
        title=EVIL,
        tenant=EVIL,
        name=EVIL,
        funnel=steps,
        figures=drawn(judgement, HISTORIES, steps),
        counts={EVIL: {EVIL: 1}},
        preflight={"sft": preflight},
        made_with={EVIL: {EVIL: EVIL}},
        notes=[EVIL],
    )
    assert "<script>alert(1)" not in html
    assert "<img" not in re.sub(r"<script>.*?</script>", "", html, count=1, flags=re.DOTALL)
    found = Page(html)
    assert [tag for tag, _ in found.tags if tag == "script"] == ["script"] * 8
    assert EVIL in " ".join(found.words)


def test_a_dry_run_has_a_page(dry: Judgement) -> None:
    found = Page(page(dry, notes=["Training would take about 40 seconds."]))
    text = found.text
    assert "Not judged This is a dry run." in text
    assert "Training would take about 40 seconds." in text
    assert "Loss during training: No stage was trained." in text
    assert "Numbers" not in text
    assert "With 112 held-out rows" in text
    assert len(found.scripts) == 3


def test_too_few_rows_are_said(dry: Judgement) -> None:
    text = Page(page(dry, counts={"examples": {"test": 4}})).text
    assert "4 held-out rows are too few to show any difference" in text


def test_the_same_inputs_give_the_same_page(judged: Judgement) -> None:
    assert page(judged, HISTORIES) == page(judged, HISTORIES)


def test_every_figure_survives_json(judged: Judgement, dry: Judgement) -> None:
    import plotly.io

    steps = funnel_figure.funnel_steps(fakes.funnel())
    for judgement, histories, rows in ((judged, HISTORIES, steps), (dry, {}, [])):
        for name, figure in drawn(judgement, histories, rows).items():
            again = plotly.io.from_json(figure.to_json())
            assert again.layout.title.text == figure.layout.title.text, name
            assert len(again.data) == len(figure.data), name
            if judgement is judged:
                assert figure.data, name
                axes = [*figure.select_xaxes(), *figure.select_yaxes()]
                titles = [axis.title.text for axis in axes]
                assert any(titles), name


def test_loss_figure_shows_training_and_validation() -> None:
    figure = figures.loss_curves(HISTORIES)
    assert [trace.name for trace in figure.data] == [
        "SFT training",
        "SFT validation",
        "DPO training",
        "DPO validation",
    ]
    assert len(figure.data[0].x) == 60
    assert len(figures.loss_curves({"sft": HISTORIES["sft"]}).data) == 2


def test_models_keep_their_colour(judged: Judgement) -> None:
    from tracetune.evaluation.names import COLOURS

    bars = {
        trace.name: trace.marker.color for trace in figures.accuracy_by_target(judged.metrics).data
    }
    assert bars["DPO adapter"] == COLOURS["dpo"]
    assert list(bars) == [
        "base model",
        "SFT adapter",
        "DPO adapter",
        "majority class",
        "nearest neighbour",
    ]


def test_funnel_steps_start_at_read_and_skip_what_dropped_nothing() -> None:
    steps = funnel_figure.funnel_steps(fakes.funnel())
    assert steps[0] == {"step": "read", "count": 3400, "dropped": 0, "reason": ""}
    assert "no annotation" not in {step["step"] for step in steps}
    assert 3400 - sum(step["dropped"] for step in steps) == steps[-1]["count"]


def test_summary_lines(judged: Judgement, dry: Judgement) -> None:
    lines = summary_lines(judged.metrics, judged.gate, COUNTS, "report.html")
    assert lines[0] == (
        "Rows     examples 636 train, 71 validation, 112 test; preferences 131 train, 28 test"
    )
    assert "DPO adapter 86.6 %" in lines[1]
    assert "42 won, 5 lost" in lines[2]
    assert lines[-2].startswith("Verdict  Promote")
    assert lines[-1] == "Report   report.html"
    assert len(lines) == 5
    assert summary_lines(dry.metrics, dry.gate, {}, "r.html") == [
        "Rows     none",
        "Verdict  Not judged: this is a dry run.",
        "Report   r.html",
    ]


def test_small_words() -> None:
    assert facts({"a": {"b": 1, "c": None}, "d": [1, 2], "e": []}) == [("a.b", "1"), ("d", "1, 2")]
    assert [number(value) for value in (None, True, 12345, 0.12345, 0.00001, 0.0, "x")] == [
        "–",
        "yes",
        "12,345",
        "0.123",
        "1e-05",
        "0.000",
        "x",
    ]
    assert cut("a" * 500) == "a" * 399 + "…"
    assert cut("short") == "short"
    assert cut(None) == "–"
