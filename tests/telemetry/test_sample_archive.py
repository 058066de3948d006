"""The archive's part of the sample: two agents and a search, each oddity planned and there."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tools.sample import entities, profiles
from tools.sample.catalogue import NEW_ITEMS, SILENT, UPLOADED_TWICE, Item, make_catalogue
from tools.sample.clicks import CLICK, LOST_IDS, RELEVANCE
from tools.sample.private import in_archive
from tools.sample.spans import ANCHOR, BORDER, TRAIN_DAYS
from tools.sample.whole import make_sample

from tracetune.privacy import redact

SAMPLE = Path(__file__).parents[2] / "data/01_raw/demo/telemetry"
Row = dict[str, Any]
AGENTS = ("profile_selection_agent", "entity_extraction_agent")


def read(table: str) -> list[Row]:
    rows: list[Row] = pq.read_table(SAMPLE / f"{table}.parquet").to_pylist()
    return rows


@pytest.fixture(scope="module")
def spans() -> list[Row]:
    return read("spans")


@pytest.fixture(scope="module")
def notes() -> dict[str, list[Row]]:
    """Annotations by span."""
    by_span: dict[str, list[Row]] = defaultdict(list)
    for row in read("annotations"):
        by_span[row["span_id"]].append(row)
    return by_span


def roots(spans: list[Row], name: str, kind: str) -> list[Row]:
    return [
        row
        for row in spans
        if (row["name"], row["span_kind"], row["parent_id"]) == (name, kind, None)
    ]


def text(row: Row, column: str) -> Any:
    return None if row[column] is None else json.loads(row[column])


def answer(row: Row) -> Any:
    """The JSON that an output holds; None where it holds none."""
    value = text(row, "output_json")
    try:
        return json.loads(value) if isinstance(value, str) else None
    except ValueError:
        return None


def window(row: Row) -> str:
    if row["start_time"] >= BORDER:
        return "test"
    return "train" if row["start_time"] >= ANCHOR - timedelta(days=TRAIN_DAYS) else "before"


def by_people(rows: list[Row], name: str = "human_approval") -> list[Row]:
    return [row for row in rows if (row["name"], row["annotator_kind"]) == (name, "HUMAN")]


def label(row: Row) -> str:
    return (row["label"] or "").strip().lower()


def metadata(row: Row) -> Row:
    found: Row = json.loads(row["metadata_json"] or "{}")
    return found


def has_text(row: Row, column: str) -> bool:
    value = text(row, column)
    return isinstance(value, str) and bool(value.strip())


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_has_enough_reviewed_answers(spans, notes, name) -> None:
    units = roots(spans, name, "AGENT")
    assert 470 <= len(units) <= 480
    reviewed = [row for row in units if by_people(notes[row["span_id"]])]
    assert 0.8 < len(reviewed) / len(units) < 0.9
    labels = [{label(n) for n in by_people(notes[row["span_id"]])} for row in reviewed]
    assert 0.5 < sum(found == {"approved"} for found in labels) / len(labels) < 0.75
    windows = Counter(window(row) for row in reviewed)
    assert windows["train"] >= 200
    assert windows["test"] >= 70
    assert any(row["name"] == name and row["parent_id"] for row in spans)


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_shows_every_kind_of_review(spans, notes, name) -> None:
    said = {row["span_id"]: answer(row) for row in roots(spans, name, "AGENT")}
    seen: Counter[str] = Counter()
    for span_id, own in said.items():
        people = by_people(notes[span_id])
        found = {label(row) for row in people}
        corrections = [c for n in people if (c := metadata(n).get("corrected_output"))]
        seen["disagree"] += {"approved", "rejected"} <= found
        seen["unsure"] += "unsure" in found
        seen["score alone"] += "" in found
        seen["noted answer"] += any("rejected_output" in metadata(n) for n in people)
        seen["as explanation"] += any((n["explanation"] or "").startswith("{") for n in people)
        seen["only machines"] += bool(notes[span_id]) and not people
        for correction in corrections:
            seen["as object"] += isinstance(correction, dict)
            seen["vague"] += isinstance(correction, str) and not correction.startswith("{")
            seen["identical"] += correction in (own, json.dumps(own, ensure_ascii=False))
        seen["two corrections"] += len({str(one) for one in corrections}) > 1
        seen["corrected"] += bool(corrections)
    assert seen["corrected"] >= 60
    assert min(seen.values()) >= 2, seen


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_shows_every_fault(spans, name) -> None:
    units = [row for row in spans if row["name"] == name and row["parent_id"] is None]
    field = "selected_profiles" if name.startswith("profile") else "entities"
    answers = [(row, answer(row)) for row in units]
    seen = {
        "error": [row for row in units if row["status_code"] == "ERROR"],
        "other kind": [row for row in units if row["span_kind"] != "AGENT"],
        "no output": [row for row in units if row["output_json"] is None],
        "no text": [row for row in units if not isinstance(text(row, "output_json"), str | None)],
        "blank prompt": [row for row in units if not has_text(row, "input_json")],
        "too long": [row for row in units if len(row["input_json"]) > 20_000],
        "no JSON": [
            row for row, a in answers if a is None and isinstance(text(row, "output_json"), str)
        ],
        "other shape": [
            row
            for row, a in answers
            if isinstance(a, dict)
            and not (isinstance(a.get(field), list) and well_formed(a[field], field))
        ],
        "unknown": [row for row, a in answers if isinstance(a, dict) and unknown(a, field)],
        "no session": [row for row in units if row["session_id"] is None],
        "other letters": [row for row in units if "日本語" in str(text(row, "input_json"))],
    }
    assert {what: len(rows) for what, rows in seen.items() if len(rows) < 2} == {}


def well_formed(values: list[Any], field: str) -> bool:
    if field == "entities":
        return all(isinstance(one, dict) and {"text", "type"} <= set(one) for one in values)
    return all(isinstance(one, str) for one in values)


def unknown(found: Row, field: str) -> bool:
    values = found.get(field)
    if not isinstance(values, list) or not well_formed(values, field):
        return False
    if field == "entities":
        return any(one["type"] not in entities.TYPES for one in values)
    return any(one not in profiles.PROFILES for one in values)


def test_profiles_are_selected_in_any_order(spans) -> None:
    units = roots(spans, profiles.ProfileAgent.name, "AGENT")
    chosen = [
        tuple(found["selected_profiles"])
        for row in units
        if isinstance(found := answer(row), dict)
        and isinstance(found.get("selected_profiles"), list)
    ]
    assert {one for names in chosen for one in names} >= set(profiles.PROFILES)
    assert set(map(len, chosen)) == {1, 2, 3}
    orders: dict[frozenset[Any], set[tuple[Any, ...]]] = defaultdict(set)
    for names in chosen:
        orders[frozenset(names)].add(names)
    assert sum(len(found) > 1 for found in orders.values()) >= 10


def test_entities_stand_in_the_request_and_are_no_secrets() -> None:
    from tools.sample.language import Grammar

    agent = entities.EntityAgent(Grammar.load())
    for _ in range(500):
        request, truth = agent.request(late=False)
        assert redact(request) == request
        assert len(truth["entities"]) <= 4
        for one in truth["entities"]:
            assert one["text"] in request
            assert one["type"] in entities.TYPES


def documents(row: Row) -> dict[str, str | None]:
    """Text by id, in the order of the results."""
    flat = json.loads(row["attributes_json"])
    found: dict[str, str | None] = {}
    while (key := f"retrieval.documents.{len(found)}.document") + ".id" in flat:
        assert isinstance(flat[f"{key}.score"], float)
        found[flat[f"{key}.id"]] = flat.get(f"{key}.content")
    return found


def positives(row: Row, notes: list[Row]) -> set[str]:
    """Results that people clicked or rated 0.7 and more, if they have a text."""
    found = documents(row)
    liked = [*by_people(notes, CLICK)]
    liked += [n for n in by_people(notes, RELEVANCE) if n["score"] >= 0.7]
    return {one for n in liked if found.get(one := metadata(n)["result_id"])}


def usable(row: Row, notes: list[Row]) -> bool:
    if not has_text(row, "input_json") or row["status_code"] == "ERROR":
        return False
    found, good = documents(row), positives(row, notes)
    liked = {found[one] for one in good}
    return bool(good) and any(body and body not in liked for body in found.values())


def test_there_are_enough_searches_with_feedback(spans, notes) -> None:
    searches = roots(spans, "search_service", "RETRIEVER")
    assert 700 <= len(searches) <= 720
    counts = Counter(window(row) for row in searches if usable(row, notes[row["span_id"]]))
    assert counts["train"] >= 350
    assert counts["test"] >= 90
    sizes = {len(documents(row)) for row in searches}
    assert sizes == {0, 8, 9, 10}


def test_the_old_ranking_is_mediocre(spans, notes) -> None:
    first, rows = 0, 0
    for row in roots(spans, "search_service", "RETRIEVER"):
        if usable(row, notes[row["span_id"]]):
            rows += 1
            first += next(iter(documents(row))) in positives(row, notes[row["span_id"]])
    assert 0.3 < first / rows < 0.6


def test_some_of_what_is_asked_in_the_test_was_never_chosen_before(spans, notes) -> None:
    chosen: dict[str, set[str]] = defaultdict(set)
    for row in roots(spans, "search_service", "RETRIEVER"):
        if usable(row, notes[row["span_id"]]):
            side = "test" if window(row) == "test" else "earlier"
            chosen[side] |= positives(row, notes[row["span_id"]])
    unseen = chosen["test"] - chosen["earlier"]
    assert 0.10 < len(unseen) / len(chosen["test"]) < 0.22


def test_the_search_shows_every_oddity(spans, notes) -> None:
    seen: Counter[str] = Counter()
    for row in (row for row in spans if row["name"] == "search_service"):
        found, said = documents(row), notes[row["span_id"]]
        clicked = {metadata(n)["result_id"] for n in by_people(said, CLICK)}
        rated = {metadata(n)["result_id"]: n["score"] for n in by_people(said, RELEVANCE)}
        seen["other kind"] += row["span_kind"] != "RETRIEVER"
        seen["error"] += row["status_code"] == "ERROR"
        seen["no results"] += not found
        seen["blank query"] += not has_text(row, "input_json")
        seen["clicked without text"] += any(one in found and not found[one] for one in clicked)
        seen["result without text"] += None in found.values()
        seen["no feedback"] += not clicked and not rated
        seen["lost id"] += bool(clicked & set(LOST_IDS)) and not set(LOST_IDS) & set(found)
        seen["contradiction"] += any(rated.get(one, 1) < 0.3 for one in clicked)
        seen["by a model"] += any(n["annotator_kind"] != "HUMAN" for n in said)
        seen["several chosen"] += len(clicked) > 1
        assert all(n["identifier"].startswith(n["name"] + ":") for n in said)
        assert all(0 <= n["score"] <= 1 for n in said)
    assert min(seen.values()) >= 4, seen
    assert seen["no feedback"] > 50


def test_the_catalogue_is_an_archive() -> None:
    items = make_catalogue()
    assert len(items) == len({item.id for item in items}) == 160
    assert len({item.subject.theme for item in items}) == 12
    assert sum(item.content is None for item in items) == SILENT
    texts = Counter(item.content for item in items if item.content)
    assert sum(count - 1 for count in texts.values()) == UPLOADED_TWICE
    assert sum(item.new for item in items) == NEW_ITEMS
    assert items == make_catalogue()


def test_new_items_appear_in_the_last_days_only(spans) -> None:
    new = {item.id for item in make_catalogue() if item.new}
    shown: dict[str, set[str]] = defaultdict(set)
    for row in roots(spans, "search_service", "RETRIEVER"):
        shown[window(row)] |= set(documents(row))
    assert not new & (shown["train"] | shown["before"])
    assert len(new & shown["test"]) >= 10
    catalogue = {item.id for item in make_catalogue()}
    assert shown["train"] | shown["test"] | shown["before"] <= catalogue


def test_people_use_other_words_than_the_archive(spans, notes) -> None:
    """Half of the queries share at most one longer word with what their user chose."""
    items = {item.id: item for item in make_catalogue()}
    shared, queries = 0, defaultdict(set)
    rows = [
        row
        for row in roots(spans, "search_service", "RETRIEVER")
        if usable(row, notes[row["span_id"]])
    ]
    for row in rows:
        query = str(text(row, "input_json"))
        for one in positives(row, notes[row["span_id"]]):
            shared += len(longer_words(query) & longer_words(body(items[one]))) <= 1
            queries[one].add(query)
    assert shared / sum(map(len, queries.values())) > 0.5
    assert sum(len(asked) >= 3 for asked in queries.values()) >= 80


def body(item: Item) -> str:
    return item.content or ""


def longer_words(value: str) -> set[str]:
    return {word.strip(".,:;!?").lower() for word in value.split() if len(word) > 3}


def test_secrets_stand_in_queries_requests_and_an_item(spans) -> None:
    secrets = [one for texts in in_archive().values() for one in texts]
    places: Counter[str] = Counter()
    for row in spans:
        held = f"{text(row, 'input_json')} {json.loads(row['attributes_json'])}"
        for secret in secrets:
            if secret in held:
                places[row["name"]] += 1
                assert secret not in redact(held)
    assert {"search_service", "profile_selection_agent"} <= set(places)


def test_the_archive_has_sessions_of_its_own() -> None:
    routing, archive = make_sample()
    sessions = [
        {span.attributes.get("session.id") for span in part.spans} - {None, "  ", ""}
        for part in (routing, archive)
    ]
    assert not sessions[0] & sessions[1]
    assert all(str(name).startswith("demo-") for name in sessions[1])
    traces = [{span.trace_id for span in part.spans} for part in (routing, archive)]
    assert not traces[0] & traces[1]


def test_the_documented_numbers_are_those_of_the_sample(spans) -> None:
    page = (SAMPLE.parents[3] / "docs/phoenix.md").read_text("utf-8")
    counts = json.loads((SAMPLE / "snapshot.json").read_text())["counts"]
    for table, count in counts.items():
        assert f"{count:,}" in page, table
    for name, kind in (
        *((name, "AGENT") for name in ("routing_agent", *AGENTS)),
        ("chat_turn", "CHAIN"),
        ("search_service", "RETRIEVER"),
    ):
        assert f"| `{name}` | `{kind}` | {len(roots(spans, name, kind)):,} |" in page
