"""What outputs name, and how two of them compare."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tracetune.outputs import OutputSpec, Target, is_right, read_target, score, text_target

ONE = OutputSpec(known=("mail", "weather"))
SET = OutputSpec(target=("selected_profiles",), compare="set", known=("audio", "faces", "slides"))
ENTITIES = OutputSpec(target=("entities",), compare="entities", known=("ORG", "PLACE"))
TEXT = OutputSpec(compare="text")


def entities(*found: tuple[str, str]) -> dict[str, Any]:
    return {"entities": [{"text": text, "type": kind} for text, kind in found]}


def of(value: dict[str, Any], spec: OutputSpec) -> Target:
    target = read_target(value, spec)
    assert target is not None
    return target


@pytest.mark.parametrize(
    ("value", "spec", "label"),
    [
        ({"agent": " mail "}, ONE, "mail"),
        ({"agent": 1, "recommended_agent": "weather"}, ONE, "weather"),
        ({"agent": ["mail"]}, ONE, None),
        ({"selected_profiles": ["slides", "audio", "slides"]}, SET, "audio, slides"),
        ({"selected_profiles": []}, SET, None),
        ({"selected_profiles": "audio"}, SET, None),
        ({"selected_profiles": ["audio", 1]}, SET, None),
        ({"selected_profiles": ["audio", " "]}, SET, None),
        (entities(("Oslo ", "place"), ("Acme", "ORG")), ENTITIES, "Acme (ORG), Oslo (PLACE)"),
        (entities(), ENTITIES, "none"),
        ({"entities": [{"text": "Oslo"}]}, ENTITIES, None),
        ({"entities": ["Oslo"]}, ENTITIES, None),
        ({"entities": [{"text": " ", "type": "ORG"}]}, ENTITIES, None),
        ({}, ENTITIES, None),
    ],
)
def test_targets(value: dict[str, Any], spec: OutputSpec, label: str | None) -> None:
    found = read_target(value, spec)
    assert (found.label if found else None) == label


def test_what_does_not_exist_is_not_known() -> None:
    assert of({"agent": "mail"}, ONE).is_known(ONE)
    assert not of({"agent": "cook"}, ONE).is_known(ONE)
    assert not of({"selected_profiles": ["audio", "smell"]}, SET).is_known(SET)
    assert not of(entities(("Oslo", "PLACE"), ("x", "THING")), ENTITIES).is_known(ENTITIES)
    assert of(entities(), ENTITIES).is_known(ENTITIES)


def test_scores_by_hand() -> None:
    truth = of(entities(("Oslo", "PLACE"), ("Acme", "ORG")), ENTITIES)
    half = of(entities(("oslo", "place"), ("Acme", "PLACE")), ENTITIES)
    assert score(half, truth, ENTITIES) == 0.5
    assert is_right(0.5, ENTITIES)
    assert not is_right(0.49, ENTITIES)
    nothing = of(entities(), ENTITIES)
    assert score(nothing, nothing, ENTITIES) == 1.0
    assert score(nothing, truth, ENTITIES) == 0.0
    assert score(None, truth, ENTITIES) == 0.0
    one, other = ({"selected_profiles": names} for names in (["audio"], ["audio", "faces"]))
    assert score(of(one, SET), of(other, SET), SET) == 0.0
    assert not is_right(0.99, SET)
    said, wanted = text_target("It is done, Ann."), text_target("it is not done")
    assert score(said, wanted, TEXT) == pytest.approx(2 * 3 / 8)


def test_slices_are_names_or_types() -> None:
    assert of({"selected_profiles": ["slides", "audio"]}, SET).slices(SET) == ["audio", "slides"]
    found = of(entities(("a", "ORG"), ("b", "ORG"), ("c", "PLACE")), ENTITIES)
    assert found.slices(ENTITIES) == ["ORG", "PLACE"]
    assert of(entities(), ENTITIES).slices(ENTITIES) == ["none"]


PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["ORG", "PLACE"])))


@given(PAIRS, PAIRS)
def test_entity_scores_are_f1(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> None:
    one, other = of(entities(*ours), ENTITIES), of(entities(*theirs), ENTITIES)
    found = score(one, other, ENTITIES)
    assert found == score(other, one, ENTITIES)
    assert 0 <= found <= 1
    assert (found == 1) == (set(ours) == set(theirs))


@given(st.text(), st.text())
def test_text_scores(one: str, other: str) -> None:
    first, second = text_target(one), text_target(other)
    assert score(first, first, TEXT) == 1
    assert score(first, second, TEXT) == score(second, first, TEXT)


@pytest.mark.parametrize(
    "wrong", [{"target": []}, {"target": ["a", "a"]}, {"compare": "fuzzy"}, {"right_from": 0}]
)
def test_wrong_specifications_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OutputSpec.model_validate(wrong)
