"""Ranks, scores by hand, chance, bootstrap, gate and page of the judgement of encoders."""

from __future__ import annotations

import itertools
import json
import math
from datetime import UTC, datetime

import pandas as pd
import pytest

from tracetune.errors import DataError
from tracetune.evaluation import retrieval_figures
from tracetune.evaluation.figures import nothing
from tracetune.evaluation.gate import unjudged
from tracetune.evaluation.retrieval import COLUMNS, by_chance, quality, rank
from tracetune.evaluation.retrieval_judge import judge, summary_lines
from tracetune.evaluation.retrieval_options import RetrievalGateOptions, RetrievalOptions
from tracetune.evaluation.retrieval_report import RetrievalContext, render
from tracetune.records import CatalogueDocument, SearchQuery, make_query

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OPTIONS = RetrievalOptions(bootstrap=200, latency_queries=2)
TEXTS = {
    "a": "round table on street food stalls",
    "b": "anatomy of a mining accident",
    "c": "portrait of a violin maker",
    "d": "tides and harbours of the north",
}


def documents() -> list[CatalogueDocument]:
    return [CatalogueDocument(id=key, text=text, seen_at=NOW) for key, text in TEXTS.items()]


def query(text: str, *relevant: str, group: str = "session:1") -> SearchQuery:
    return make_query(
        text=text,
        relevant=sorted(relevant),
        source="phoenix",
        tenant="demo",
        ids={"span_id": text},
        group=group,
        created_at=NOW,
    )


def test_scores_by_hand():
    found = quality([1, 4, 12], 3)
    assert found["recall_1"] == pytest.approx(1 / 3)
    assert found["recall_5"] == found["recall_10"] == pytest.approx(2 / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert found["ndcg_10"] == pytest.approx((1 + 1 / math.log2(5)) / ideal)
    assert quality([3], 1)["reciprocal_rank"] == pytest.approx(1 / 3)
    assert quality([11], 1)["ndcg_10"] == 0
    assert quality(list(range(1, 13)), 12)["ndcg_10"] == pytest.approx(1)


@pytest.mark.parametrize(("relevant", "size"), [(1, 5), (2, 6), (3, 4), (4, 4)])
def test_chance_is_the_mean_over_all_orders(relevant, size):
    every = [
        quality([order.index(wanted) + 1 for wanted in range(relevant)], relevant)
        for order in itertools.permutations(range(size))
    ]
    for score, value in by_chance(relevant, size).items():
        assert value == pytest.approx(math.fsum(row[score] for row in every) / len(every)), score


def test_bm25_finds_shared_words_and_every_document_has_a_rank():
    frame = rank(
        [query("violin portrait", "c"), query("nothing in common", "b")], documents(), {}, OPTIONS
    )
    assert list(frame.columns) == list(COLUMNS)
    assert frame["first_rank"].tolist()[0] == 1
    assert 1 <= frame["first_rank"].tolist()[1] <= 4
    assert sorted(json.loads(frame["top"][1])) == ["a", "b", "c", "d"]
    assert frame["latency_ms"].notna().sum() == 2


def test_ties_do_not_depend_on_the_order_of_the_catalogue():
    asked = [query("zzz", "b")]
    one = rank(asked, documents(), {}, OPTIONS)
    two = rank(asked, documents()[::-1], {}, OPTIONS)
    assert one["top"].tolist() == two["top"].tolist()


def test_a_wanted_document_outside_the_catalogue_is_an_error():
    with pytest.raises(DataError, match="not in the catalogue"):
        rank([query("x", "gone")], documents(), {}, OPTIONS)


def test_no_query_gives_an_empty_frame_of_the_same_columns():
    frame = rank([], documents(), {}, OPTIONS)
    assert list(frame.columns) == list(COLUMNS)
    assert frame.empty


def predictions(trained: list[int], base: list[int], bm25: list[int]) -> pd.DataFrame:
    rows = []
    for model, ranks in (("trained", trained), ("base", base), ("bm25", bm25)):
        for number, found in enumerate(ranks):
            rows.append(
                {
                    "row_id": f"query-{number:020x}",
                    "group": f"session:{number // 2}",
                    "model": model,
                    "query": f"query <{number}>",
                    "relevant": json.dumps(["d1" if number % 2 else "d2"]),
                    "top": json.dumps(["d9"]),
                    "first_rank": found,
                    **quality([found], 1),
                    "latency_ms": 1.0 if number < 3 else float("nan"),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def judged(trained: list[int], base: list[int], bm25: list[int], margin: float = 0.02):
    options = OPTIONS.model_copy(update={"gate": RetrievalGateOptions(margin=margin)})
    table = predictions(trained, base, bm25)
    return judge(table, documents=50, trained_positives={"d1"}, options=options)


def test_better_than_base_and_bm25_is_promoted():
    metrics, gate = judged([1] * 20, [5] * 20, [3] * 20)
    assert gate.promote
    assert gate.verdict.startswith("Promote")
    assert metrics["comparisons"]["base"]["better"] == 20
    assert metrics["models"]["trained"]["ndcg_10"]["mean"] == 1
    assert {part["slice"]: part["n"] for part in metrics["slices"]} == {"seen": 10, "unseen": 10}
    assert metrics["models"]["base"]["latency_ms"]["n"] == 3
    json.dumps(metrics, allow_nan=False)


def test_a_difference_that_may_be_chance_is_not_promoted():
    _, gate = judged([1, 9, 1, 9] * 3, [9, 1, 9, 1] * 3, [20] * 12)
    assert not gate.promote
    assert [check.passed for check in gate.checks] == [False, True]


@pytest.mark.parametrize(("margin", "promoted"), [(0.1, False), (0.4, True)])
def test_bm25_may_lead_by_the_margin_only(margin, promoted):
    _, gate = judged([2] * 20, [9] * 20, [1] * 20, margin)
    assert gate.promote is promoted


def test_nothing_to_judge_is_a_result():
    empty = rank([], documents(), {}, OPTIONS)
    metrics, gate = judge(empty, documents=4, trained_positives=set(), options=OPTIONS)
    assert metrics["status"] == gate.status == "unjudged"
    assert "no held-out query" in gate.verdict
    _, gate = judge(empty, documents=4, trained_positives=set(), options=OPTIONS, reason="dry run")
    assert gate.verdict == "Not judged: dry run."


def page(metrics, gate) -> str:
    figures = {
        "quality": retrieval_figures.quality(metrics),
        "differences": retrieval_figures.differences(metrics),
        "slices": retrieval_figures.slices(metrics),
        "losses": retrieval_figures.losses([{"step": 1, "loss": 0.5}], "triplet"),
        "funnel": nothing("From spans to rows", "Nothing was read."),
    }
    return render(
        RetrievalContext(
            title="embedding: demo",
            tenant="demo",
            name="demo",
            metrics=metrics,
            gate=gate,
            figures=figures,
            funnel={
                name: {"rows": 1}
                for name in (
                    *("feedback", "triplets", "queries", "catalogue"),
                    *("document_set", "used"),
                )
            },
            funnel_steps=[],
            counts={"triplets": {"train": 5}},
            preflight={"rows": 5, "gates": []},
            made_with={"seed": 1},
            notes=["Decision: enough."],
        )
    )


def test_page_holds_the_numbers_and_no_foreign_source():
    html = page(*judged([1] * 20, [5] * 20, [3] * 20))
    for text in ("nDCG@10", "BM25", "random order", "Promote", "query &lt;1&gt;"):
        assert text in html
    assert "default-src 'none'" in html
    assert 'src="http' not in html


def test_page_of_a_run_without_a_judgement():
    html = page({"status": "unjudged", "reason": "no query", "n": 0}, unjudged("no query"))
    assert "Not judged" in html
    assert 'id="numbers"' not in html


def test_summary_names_all_models():
    metrics, gate = judged([1] * 20, [5] * 20, [3] * 20)
    lines = summary_lines(metrics, gate, {"triplets": {"train": 5, "test": 2}})
    assert lines[0] == "Rows     triplets 5 train, 2 test"
    assert "BM25 0.500" in lines[1]
    assert lines[-1].startswith("Verdict  Promote")
    _, gate = judge(
        rank([], documents(), {}, OPTIONS), documents=4, trained_positives=set(), options=OPTIONS
    )
    assert len(summary_lines({"status": "unjudged"}, gate, {})) == 2
