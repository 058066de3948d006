"""Annotations of documents in the sample: each oddity planned and there."""

from __future__ import annotations

from collections import Counter, defaultdict

from tools.sample.whole import make_sample

from tests.telemetry.test_sample_archive import Row, documents, read


def test_every_oddity_is_there() -> None:
    searches = {row["span_id"]: row for row in read("spans") if row["name"] == "search_service"}
    rows = read("document_annotations")
    assert {row["span_id"] for row in rows} <= set(searches)
    people: dict[tuple[str, int], dict[str, Row]] = defaultdict(dict)
    seen: Counter[str] = Counter()
    for row in rows:
        shown = documents(searches[row["span_id"]])
        key, word = (row["span_id"], row["position"]), (row["label"] or "").strip().lower()
        if row["annotator_kind"] == "HUMAN" and row["name"] == "relevance":
            people[key][row["identifier"]] = row
        seen["by a model"] += row["annotator_kind"] == "LLM"
        seen["another name"] += row["name"] != "relevance"
        seen["relevant"] += word == "relevant"
        seen["irrelevant"] += word == "irrelevant"
        seen["unsure"] += word == "unsure"
        seen["written oddly"] += word != (row["label"] or "")
        seen["score alone"] += row["label"] is None and row["score"] is not None
        seen["explained"] += row["explanation"] is not None
        seen["without text"] += list(shown.values())[row["position"]] is None
    for found in people.values():
        words = {(row["label"] or "").strip().lower() for row in found.values()}
        seen["two people"] += len(found) == 2
        seen["disagreement"] += words >= {"relevant", "irrelevant"}
    assert min(seen.values()) >= 4, seen
    judged = {span for span, _ in people}
    assert 130 <= len(judged) <= 220
    both = {row["span_id"] for row in rows if row["annotator_kind"] == "LLM"} & judged
    assert both


def test_they_are_those_that_the_script_makes() -> None:
    made = {
        (a["span_id"], a["document_position"], a["name"], a.get("identifier", "")): (
            a["annotator_kind"],
            *(a["result"].get(name) for name in ("label", "score", "explanation")),
        )
        for part in make_sample()
        for a in (*part.documents, *part.opinions)
    }
    kept = {
        (row["span_id"], row["position"], row["name"], row["identifier"]): tuple(
            row[name] for name in ("annotator_kind", "label", "score", "explanation")
        )
        for row in read("document_annotations")
    }
    assert kept == made
