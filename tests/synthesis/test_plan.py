"""What is missing and for which answers candidates are written."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.synthesis.builders import (
    AGENTS,
    ENTITIES,
    ROUTING,
    example,
    preference,
    routing_rows,
    screen,
)
from tracetune.telemetry.synthesis.options import SynthesisOptions
from tracetune.telemetry.synthesis.plan import Cell, Rewrite, SynthesisPlan, make_plan


def plan(missing: dict[str, int], **given) -> SynthesisPlan:
    return make_plan(
        **{
            "missing": missing,
            "open_items": [],
            "submitted": 0,
            "rewrites": [],
            "examples": routing_rows(),
            "preferences": [],
            "output": ROUTING.output,
            "options": SynthesisOptions(),
            **given,
        }
    )


def planned(found: SynthesisPlan) -> Counter[str]:
    counts: Counter[str] = Counter()
    for cell in found.cells:
        counts[cell.kind] += cell.count
    return counts


def test_nothing_is_written_when_nothing_is_missing_or_writing_is_not_allowed():
    assert plan({}).state == "enough"
    refused = plan({"examples": 5}, options=SynthesisOptions(allowed=False))
    assert (refused.state, refused.cells) == ("not_allowed", [])


def test_nothing_is_written_for_an_agent_that_answers_in_words():
    words = ROUTING.output.model_copy(update={"compare": "text"})
    assert plan({"examples": 5}, output=words).state == "not_allowed"


def test_pairs_count_as_rows_too_and_some_are_written_beyond_what_is_missing():
    assert planned(plan({"examples": 40, "pairs": 20})) == {"preference": 25, "example": 25}
    assert planned(plan({"examples": 4, "pairs": 20})) == {"preference": 25}
    no_pairs = plan({"examples": 40, "pairs": 20}, options=SynthesisOptions(pairs=False))
    assert planned(no_pairs) == {"example": 50}


def test_rare_answers_come_first_until_all_are_equally_frequent():
    found = plan({"examples": 8}, options=SynthesisOptions(surplus=0))
    # billing has 2 real rows, code and hr 1, travel none: 12 rows make 3 of each.
    assert {cell.target: cell.count for cell in found.cells} == {
        "billing_agent": 1,
        "code_agent": 2,
        "hr_agent": 2,
        "travel_agent": 3,
    }


def test_mistakes_that_people_corrected_make_every_second_candidate_hard():
    corrected = [preference("send it", "travel_agent", "hr_agent", n) for n in range(3)]
    corrected += [preference("send it", "travel_agent", "code_agent", 9)]
    found = plan(
        {"examples": 4}, examples=[], preferences=corrected, options=SynthesisOptions(surplus=0)
    )
    hard = {(cell.target, cell.against): cell.count for cell in found.cells if cell.against}
    assert hard == {("travel_agent", "hr_agent"): 1}


def test_entities_are_planned_by_type():
    rows = [
        example("meet Ada", {"entities": [{"text": "Ada", "type": "PERSON"}]}, 1),
        example("meet Bo", {"entities": [{"text": "Bo", "type": "PERSON"}]}, 2),
    ]
    found = plan(
        {"examples": 2},
        examples=rows,
        output=ENTITIES.output,
        options=SynthesisOptions(surplus=0),
    )
    assert {cell.target: cell.count for cell in found.cells} == {"PLACE": 2}


def test_what_waits_is_not_written_again_and_the_limit_holds():
    waiting = []
    checker = screen()
    for number in range(10):
        words = f"please book trip number {number} to city {number * 7}"
        item = checker.add(
            {"request": words, "output": {"agent": "travel_agent"}},
            Cell(kind="example", target="travel_agent", count=1),
            "r",
        )
        assert item is not None
        waiting.append(item)
    exact = SynthesisOptions(surplus=0)
    assert plan({"examples": 10}, open_items=waiting, options=exact).state == "waiting"
    assert planned(plan({"examples": 13}, open_items=waiting, options=exact)).total() == 3
    few = SynthesisOptions(most=12)
    assert planned(plan({"examples": 100}, open_items=waiting, options=few)).total() == 2


def test_rejected_candidates_are_written_anew_first_and_count_for_their_kind():
    checker, cell = screen(), Cell(kind="example", target="hr_agent", count=1)
    raw = {"request": "who approves my parental leave", "output": {"agent": "hr_agent"}}
    item = checker.add(raw, cell, "r")
    assert item is not None
    again = [Rewrite(item=item, words="too stiff", attempt=1)]
    exact = SynthesisOptions(surplus=0)
    found = plan({"examples": 3}, rewrites=again, options=exact)
    assert (found.rewrites, planned(found).total()) == (again, 2)
    one = plan({"examples": 3}, rewrites=again, options=SynthesisOptions(most=1))
    assert (len(one.rewrites), one.cells) == (1, [])


@given(
    examples=st.integers(0, 300),
    pairs=st.integers(0, 100),
    surplus=st.floats(0, 1),
    most=st.integers(1, 150),
)
def test_a_plan_never_passes_its_limit_and_covers_what_is_missing(examples, pairs, surplus, most):
    missing = {k: v for k, v in (("examples", examples), ("pairs", pairs)) if v}
    options = SynthesisOptions(surplus=surplus, most=most)
    counts = planned(plan(missing, options=options))
    assert counts.total() <= most
    assert counts.total() >= min(most, max(examples, pairs))
    assert {cell.target for cell in plan(missing, options=options).cells} <= set(AGENTS)
