"""Candidates are written, screened and become rows only when they were approved."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tests.synthesis.builders import (
    ENTITIES,
    PROFILES,
    REAL,
    ROUTING,
    example,
    routing_rows,
    screen,
)
from tracetune.llm import OUTCOMES, TextRequest, TextResult
from tracetune.llm.offline import OfflineWriter
from tracetune.records import ReviewItem
from tracetune.telemetry.synthesis.approved import rows_of
from tracetune.telemetry.synthesis.options import SynthesisOptions
from tracetune.telemetry.synthesis.plan import Cell, Rewrite, SynthesisPlan, target_of
from tracetune.telemetry.synthesis.requests import answer_schema
from tracetune.telemetry.synthesis.screen import REASONS, confidence
from tracetune.telemetry.synthesis.write import write_candidates

CELL = Cell(kind="example", target="hr_agent", count=1)
PAIR = Cell(kind="preference", target="hr_agent", count=1)


def a_plan(cells: list[Cell], rewrites: list[Rewrite] | None = None) -> SynthesisPlan:
    return SynthesisPlan(
        state="write", reason="", missing={}, waiting={}, cells=cells, rewrites=rewrites or []
    )


def write(cells, *, writer=None, rows=None, telemetry=ROUTING, rewrites=None, checker=None, **more):
    rows = routing_rows() if rows is None else rows
    return write_candidates(
        a_plan(cells, rewrites),
        writer=writer or OfflineWriter(3),
        screen=checker or screen(telemetry, [row.prompt[-1].content for row in rows], shown=rows),
        train=rows,
        telemetry=telemetry,
        options=SynthesisOptions(**more),
        seed=3,
    )


@pytest.mark.parametrize(
    ("raw", "cell", "reason"),
    [
        ("text", CELL, "malformed"),
        ({"request": " ", "output": {"agent": "hr_agent"}}, CELL, "malformed"),
        ({"request": "who signs?", "output": {"agent": 3}}, CELL, "malformed"),
        ({"request": "who signs?", "output": {"agent": "hr_agent"}}, PAIR, "malformed"),
        ({"request": "who signs?", "output": {"agent": "sales_agent"}}, CELL, "unknown_target"),
        ({"request": "who signs?", "output": {"agent": "code_agent"}}, CELL, "off_cell"),
        ({"request": "x " * 20_000, "output": {"agent": "hr_agent"}}, CELL, "too_long"),
        (
            {"request": "mail ada.b@example.org my leave", "output": {"agent": "hr_agent"}},
            CELL,
            "private",
        ),
        (
            {
                "request": "who signs my leave?",
                "output": {"agent": "hr_agent"},
                "rejected": {"agent": " hr_agent "},
                "rejected_why": "?",
            },
            PAIR,
            "same_answers",
        ),
        ({"request": REAL[3][0].upper(), "output": {"agent": "hr_agent"}}, CELL, "near_real"),
    ],
)
def test_what_is_no_candidate_leaves_with_its_reason(raw, cell, reason):
    checker = screen(real=[text for text, _ in REAL])
    assert checker.add(raw, cell, "r") is None
    assert +checker.dropped == {reason: 1}
    assert set(checker.dropped) == set(REASONS)


def test_a_candidate_is_refused_when_another_one_says_nearly_the_same():
    checker = screen()
    raw = {"request": "who signs my leave in July?", "output": {"agent": "hr_agent"}}
    assert checker.add(raw, CELL, "r") is not None
    again = {**raw, "request": "Who signs my leave in july"}
    assert checker.add(again, CELL, "r") is None
    assert checker.dropped["near_candidate"] == 1


def test_a_held_out_message_is_never_written_again():
    held = "is the crèche at headquarters open in August"
    checker = screen(real=[held])
    assert checker.add({"request": held, "output": {"agent": "hr_agent"}}, CELL, "r") is None
    assert checker.dropped["near_real"] == 1


def test_reviewers_see_the_nearest_training_rows():
    item = screen().add(
        {"request": "how many days of leave are left for Bo?", "output": {"agent": "hr_agent"}},
        CELL,
        "r",
    )
    assert item is not None
    assert item.nearest[0].text == REAL[3][0]
    assert item.nearest[0].similarity > item.nearest[1].similarity


@pytest.mark.parametrize(
    ("cells", "rows", "telemetry"),
    [
        (
            [
                Cell(kind="example", target="billing_agent", count=6),
                Cell(kind="preference", target="travel_agent", against="hr_agent", count=4),
            ],
            routing_rows(),
            ROUTING,
        ),
        (
            [
                Cell(kind="preference", target="audio, faces", count=3),
                Cell(kind="example", target="slides", count=3),
            ],
            [
                example("play the song with a violin in it", {"selected": ["audio"]}, 1),
                example("find the woman in the red coat", {"selected": ["faces"]}, 2),
            ],
            PROFILES,
        ),
        (
            [
                Cell(kind="preference", target="PERSON", count=4),
                Cell(kind="example", target="PLACE", count=4),
            ],
            [
                example(
                    "clips of Ada Byron walking in Porto",
                    {
                        "entities": [
                            {"text": "Ada Byron", "type": "PERSON"},
                            {"text": "Porto", "type": "PLACE"},
                        ]
                    },
                    1,
                ),
                example(
                    "clips of Bo Li in Oslo at night",
                    {
                        "entities": [
                            {"text": "Bo Li", "type": "PERSON"},
                            {"text": "Oslo", "type": "PLACE"},
                        ]
                    },
                    2,
                ),
            ],
            ENTITIES,
        ),
    ],
    ids=["routing", "profiles", "entities"],
)
def test_the_offline_generator_fills_the_plan_with_right_answers(cells, rows, telemetry):
    items, report = write(cells, rows=rows, telemetry=telemetry)
    assert (items, report) == write(cells, rows=rows, telemetry=telemetry)
    assert report.short == {}
    assert len(items) == sum(cell.count for cell in cells)
    assert report.writer == "offline generator"
    for item in items:
        target = target_of(item.answer[0].content, telemetry.output)
        assert target is not None
        assert target.is_known(telemetry.output)
        if telemetry is ENTITIES:
            said = item.prompt[-1].content
            entities = json.loads(item.answer[0].content)["entities"]
            assert all(entity["text"] in said for entity in entities)
        if item.rejected is not None:
            assert item.rejected_why
            assert target_of(item.rejected[0].content, telemetry.output) != target


class ScriptedWriter:
    """Gives prepared results and keeps what it was asked: a writer, not a stand-in for one."""

    label = "script"

    def __init__(self, *answers: dict) -> None:
        self.asked: list[TextRequest] = []
        self._answers = list(answers)
        self._kept: dict[str, TextResult] = {}

    def known(self, requests):
        return {request.id for request in requests if request.id in self._kept}

    def write(self, requests):
        for request in requests:
            if request.id not in self._kept:
                self.asked.append(request)
                answer = self._answers.pop(0) if self._answers else {"outcome": "refused"}
                self._kept[request.id] = TextResult(id=request.id, **answer)
        return [self._kept[request.id] for request in requests]


def test_rounds_ask_again_for_what_is_short_and_then_say_what_is_missing():
    good = {"request": "who signs my leave in July?", "output": {"agent": "hr_agent"}}
    bad = {"request": "who signs?", "output": {"agent": "code_agent"}}
    writer = ScriptedWriter(
        {"outcome": "answered", "value": {"items": [good, bad]}},
        {"outcome": "refused", "reason": "no"},
    )
    items, report = write([Cell(kind="example", target="hr_agent", count=2)], writer=writer)
    assert len(items) == 1
    assert report.short == {"example: hr_agent": 1}
    assert report.outcomes == {"answered": 1, "refused": 2}
    assert report.problems == ["refused: no", "refused: "]
    assert report.dropped["off_cell"] == 1
    assert len({request.id for request in writer.asked}) == report.rounds == 3
    assert set(report.outcomes) <= set(OUTCOMES)


def test_the_words_of_the_reviewer_reach_the_writer_and_the_new_candidate_knows_its_past():
    checker = screen()
    raw = {"request": "kindly specify the signatory", "output": {"agent": "hr_agent"}}
    first = checker.add(raw, CELL, "r")
    assert first is not None
    new = {"request": "who signs off my leave?", "output": {"agent": "billing_agent"}}
    writer = ScriptedWriter({"outcome": "answered", "value": {"items": [new]}})
    rewrite = Rewrite(item=first, words="nobody talks like that", attempt=1)
    items, report = write([], writer=writer, rewrites=[rewrite], checker=checker)
    assert "nobody talks like that" in writer.asked[0].prompt
    assert "kindly specify the signatory" in writer.asked[0].prompt
    assert [(item.id, item.attempt) for item in items] == [(f"{first.id}_regen_1", 1)]
    assert items[0].confidence == 0.85
    assert report.again == 1


def answered(*items: dict) -> dict:
    return {"outcome": "answered", "value": {"items": list(items)}}


def test_the_answer_alone_may_be_corrected_when_a_candidate_is_written_anew():
    checker = screen()
    raw = {"request": "who signs my leave in July?", "output": {"agent": "billing_agent"}}
    first = checker.add(raw, CELL.model_copy(update={"target": "billing_agent"}), "r")
    assert first is not None
    corrected = {**raw, "output": {"agent": "hr_agent"}}
    rewrite = Rewrite(item=first, words="wrong agent", attempt=1)
    items, report = write(
        [], writer=ScriptedWriter(answered(corrected)), rewrites=[rewrite], checker=checker
    )
    assert [item.answer[0].content for item in items] == ['{"agent":"hr_agent"}']
    assert items[0].cell == "example: hr_agent"
    assert report.not_rewritten == []


def test_what_cannot_be_written_anew_is_named_and_tried_again_with_other_requests():
    checker = screen()
    first = checker.add(
        {"request": "kindly specify the signatory", "output": {"agent": "hr_agent"}}, CELL, "r"
    )
    assert first is not None
    rewrite = Rewrite(item=first, words="stiff", attempt=1)
    writer = ScriptedWriter()
    items, report = write([], writer=writer, rewrites=[rewrite], checker=checker)
    assert (items, report.not_rewritten, report.rounds) == ([], [first.id], 3)
    assert len({request.id for request in writer.asked}) == 3


def test_a_run_after_one_in_which_everything_was_lost_asks_for_something_new():
    lost = {"outcome": "lost", "reason": "reset"}
    good = {"request": "who signs my leave in July?", "output": {"agent": "hr_agent"}}
    writer = ScriptedWriter(lost, lost, lost, answered(good))
    items, report = write([CELL], writer=writer)
    assert (items, report.short) == ([], {"example: hr_agent": 1})
    items, report = write([CELL], writer=writer)
    assert len(items) == 1
    assert (report.short, len(writer.asked)) == ({}, 4)


def test_nothing_more_is_asked_when_the_budget_is_used_up():
    writer = ScriptedWriter({"outcome": "over_budget", "reason": "5.00 USD"})
    _, report = write([CELL], writer=writer)
    assert (len(writer.asked), report.rounds) == (1, 1)
    assert report.problems == ["over_budget: 5.00 USD"]


def test_entities_are_found_as_whole_words_and_never_in_a_slot():
    people = [{"text": "Ann", "type": "PERSON"}, {"text": "Bob", "type": "PERSON"}]
    rows = [
        example(
            "meet Ann and Bob near 2", {"entities": [*people, {"text": "2", "type": "PLACE"}]}, 1
        ),
        example("the Annual show of Bob", {"entities": [people[1]]}, 2),
    ]
    items, _ = write(
        [Cell(kind="example", target="PERSON", count=20)], rows=rows, telemetry=ENTITIES
    )
    assert items
    for item in items:
        said = item.prompt[-1].content
        assert "{" not in said
        assert "Annual" in said or "meet" in said


def test_an_agent_of_which_nothing_is_known_ends_with_a_reason_and_no_error():
    bare = ROUTING.model_copy(update={"output": ROUTING.output.model_copy(update={"known": ()})})
    items, report = write([Cell(kind="example", target="answer", count=3)], rows=[], telemetry=bare)
    assert (items, report.short) == ([], {"example: answer": 3})
    assert "no real row and no known name" in report.problems[0]


def test_the_schema_of_an_answer_is_one_and_holds_what_the_screen_wants():
    for telemetry in (ROUTING, PROFILES, ENTITIES):
        for kind in ("example", "preference"):
            jsonschema.Draft202012Validator.check_schema(answer_schema(kind, telemetry.output))
    schema = answer_schema("preference", ROUTING.output)
    item = {"request": "a", "output": {"agent": "hr_agent"}, "rejected": {"agent": "code_agent"}}
    with pytest.raises(jsonschema.ValidationError, match="rejected_why"):
        jsonschema.validate({"items": [item]}, schema)


def test_held_out_rows_are_not_shown_to_the_writer():
    writer = ScriptedWriter()
    write([Cell(kind="example", target="hr_agent", count=2)], writer=writer)
    assert all("charged twice" in request.prompt for request in writer.asked)
    assert not any("crèche" in request.prompt for request in writer.asked)


@pytest.mark.parametrize(
    ("request_text", "attempt", "expected"),
    [("who signs my leave?", 0, 1.0), ("who signs my leave?", 1, 0.85), ("leave?", 0, 0.8),
     ("leave " * 60, 0, 0.9), ("leave?", 2, 0.56)],
)  # fmt: skip
def test_confidence_follows_the_rules_of_the_document(request_text, attempt, expected):
    target = target_of('{"agent":"hr_agent"}', ROUTING.output)
    assert target is not None
    assert confidence(request_text, {}, target, attempt, "exact") == expected


def test_an_entity_that_is_not_in_the_message_lowers_confidence():
    target = target_of('{"entities":[{"text":"Ada","type":"PERSON"}]}', ENTITIES.output)
    assert target is not None
    assert confidence("the speech by Ada", {}, target, 0, "entities") == 1.0
    assert confidence("the speech by Bo Li", {}, target, 0, "entities") == 0.7


def test_approved_candidates_become_rows_with_the_way_back():
    items, _ = write([CELL, PAIR.model_copy(update={"count": 2})])
    rows = rows_of(items, ROUTING, "acme")
    examples, preferences = rows.examples, rows.preferences
    assert (len(examples), rows.left_out) == (3, {})
    assert len(preferences) == 2
    by_item: dict[str, ReviewItem] = {item.id: item for item in items}
    for row in [*examples, *preferences]:
        item = by_item[row.provenance.ids["item_id"]]
        assert row.prompt == item.prompt
        assert row.provenance.source == "synthetic"
        assert row.provenance.created_at is None
        assert row.provenance.group == f"synthetic:{item.root}"
        assert row.tags["written_by"] == "offline generator"
    assert {row.chosen[0].content for row in preferences} <= {
        row.completion[0].content for row in examples
    }


def test_approved_candidates_follow_the_agent_as_it_is_now():
    items, _ = write([CELL, CELL.model_copy(update={"target": "code_agent"})])
    now = ROUTING.model_copy(
        update={
            "instruction": "Route it.",
            "output": ROUTING.output.model_copy(update={"known": ("hr_agent",)}),
        }
    )
    rows = rows_of(items, now, "acme")
    assert [row.tags["target"] for row in rows.examples] == ["hr_agent"]
    assert rows.examples[0].prompt[0].content == "Route it."
    assert rows.left_out == {"unknown_target": 1}
    assert rows_of(items, PROFILES, "acme").left_out == {"other_agent": 2}
