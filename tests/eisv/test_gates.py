"""Gate 1 by the letter, and the honest gate by what was recognised."""

from __future__ import annotations

import json
import random

import pytest

from tests.eisv.test_score import judged
from tracetune.eisv.baselines import BASELINES, lookup_table, published_mix
from tracetune.eisv.expression import label_many
from tracetune.eisv.gates import (
    Gate1Results,
    gate1,
    honest_gate,
    honest_trial,
    read_results,
    results_of,
)
from tracetune.eisv.prompt import answer_text
from tracetune.eisv.score import score
from tracetune.eisv.vocabulary import AFFINITY, SHAPES, translate
from tracetune.errors import DataError
from tracetune.files import write_json

EVERY = [shape for shape in SHAPES for _ in range(30)]
BLIND = "no_shape_no_duration"
# What the document's own evaluation writes, without the fields that are ours.
DOCUMENT = {
    "mean_coherence": 0.95,
    "valid_rate": 0.96,
    "pattern_accuracy": 0.26,
    "n_total": 50,
    "n_valid": 48,
    "per_shape_coherence": {"convergence": 0.95},
    "diversity": 0.1,
}


def results(**changed):
    return Gate1Results.model_validate({**DOCUMENT, **changed})


@pytest.mark.parametrize(
    ("changed", "reasons"),
    [
        ({}, []),
        ({"mean_coherence": 0.933}, ["coherence 0.933 is not above 0.933"]),  # strictly above
        ({"mean_coherence": 14 / 15}, []),
        ({"valid_rate": 0.9}, []),
        ({"valid_rate": 0.8999}, ["valid rate 0.8999 is below 0.90"]),
        ({"mean_coherence": 0.2, "valid_rate": 0.1}, ["coherence 0.200", "valid rate 0.100"]),
        (
            {"n_total": 0, "n_valid": 0, "mean_coherence": 0, "valid_rate": 0},
            ["there are no answers", "coherence 0.000", "valid rate 0.000"],
        ),
    ],
)
def test_gate_1(changed, reasons):
    found = gate1(results(**changed))
    assert found.passed == (not reasons)
    assert len(found.reasons) == len(reasons)
    assert all(said.startswith(start) for said, start in zip(found.reasons, reasons, strict=True))


def test_the_nine_line_table_passes_gate_1_and_imitators_of_the_labels_do_not():
    passed = {
        name: gate1(results_of(score(judged(EVERY, draw(EVERY, 3))))).passed
        for name, draw in BASELINES.items()
    }
    assert passed == {
        "random": False,
        "rules": False,
        "rules_feedback": False,
        "shape_matched": True,
        "prompt_conditioned": False,
        "lookup_table": True,
    }


def test_fourteen_perfect_answers_of_fifteen_pass():
    shapes = ["convergence"] * 15
    said = [answer_text(["~return~"], ["here"], "SINGLE")] * 14
    said += [answer_text(["~ripple~"], ["busy"], "SINGLE")]
    assert gate1(results_of(score(judged(shapes, said)))).passed
    said[0] = "nothing"
    assert not gate1(results_of(score(judged(shapes, said)))).passed  # 13 of 14


def test_results_go_through_a_file(tmp_path):
    wanted = results_of(score(judged(EVERY, lookup_table(EVERY), temperature=0.3)))
    write_json(tmp_path / "results.json", wanted.model_dump())
    found = read_results(tmp_path / "results.json")
    assert found == wanted
    assert "at temperature 0.3" in gate1(found).shows
    (tmp_path / "document.json").write_text(json.dumps(DOCUMENT))
    assert read_results(tmp_path / "document.json").temperature is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        (json.dumps({**DOCUMENT, "mean_coherence": float("nan")}), "mean_coherence: "),
        (json.dumps({**DOCUMENT, "valid_rate": 1.5}), "valid_rate: "),
        (json.dumps({**DOCUMENT, "coherence": 1}), "coherence: "),
        (json.dumps({k: v for k, v in DOCUMENT.items() if k != "n_total"}), "n_total: Field req"),
        (json.dumps({**DOCUMENT, "n_valid": 20}), "is not n_valid / n_total = 20 / 50"),
        (json.dumps({**DOCUMENT, "n_total": 10}), "is not n_valid / n_total = 48 / 10"),
    ],
)
def test_results_that_are_none(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_results(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "What to do: " in str(error.value)


def test_no_results_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read: No such file"):
        read_results(tmp_path / "none.json")


def one_tokens(shapes):
    return [AFFINITY[shape][0] for shape in shapes]


def trial(said, predicted=EVERY, *, variant=BLIND, temperature=1.0):
    rows = judged(EVERY, said, variant=variant, temperature=temperature)
    return honest_trial(rows, predicted, one_tokens(predicted))


def shuffled(share):
    """True shapes of which a share is replaced by any other."""
    rng = random.Random(3)
    return [rng.choice(SHAPES) if rng.random() < share else shape for shape in EVERY]


def test_an_imitator_that_knows_the_shape_passes_the_honest_gate():
    found = honest_gate([trial(label_many(EVERY, 2))])
    assert found.verdict.passed
    assert found.trials[0].bar == "rules"
    assert found.trials[0].gain.low > 0.15


def test_answers_that_do_not_depend_on_the_window_fail_it():
    for said in (
        label_many(["settled_presence"] * len(EVERY), 2),
        BASELINES["random"](EVERY, 2),
        lookup_table(["convergence"] * len(EVERY)),
    ):
        found = honest_gate([trial(said)])
        assert not found.trials[0].recognised
        assert not found.verdict.passed
        assert found.verdict.reasons[0].startswith("answers fit their own shape no better than")


def test_half_of_the_shapes_is_recognised_but_below_the_classifier():
    found = honest_gate([trial(label_many(shuffled(0.6), 2))])
    assert found.trials[0].recognised
    assert not found.verdict.passed
    (reason,) = found.verdict.reasons
    assert "are worse than a classifier on the same numbers with the expression rules" in reason


def test_too_few_rows_are_called_too_few_and_more_draws_of_each_help():
    few = slice(0, len(EVERY), 9)
    shapes = EVERY[few]

    def drawn(times):
        rows = []
        for seed in range(times):
            rows += judged(shapes, label_many(shapes, seed), variant=BLIND)
        return honest_gate([honest_trial(rows, shapes * times, one_tokens(shapes * times))])

    (reason,) = drawn(1).verdict.reasons
    assert "may be worse than" in reason
    assert "n = 30 is too few to tell" in reason
    assert drawn(12).verdict.passed


def test_the_same_answers_pass_beside_a_classifier_that_knows_no_more():
    known = shuffled(0.6)
    assert honest_gate([trial(label_many(known, 2), known)]).verdict.passed


def test_sharp_answers_are_held_against_the_best_single_token():
    """One token per shape beats the rules with half the shapes wrong, and must not pass so."""
    half = trial(lookup_table(shuffled(0.5)))
    assert half.bar == "one_token"
    assert half.coherence.mean > half.classifier_rules.mean
    assert not honest_gate([half]).verdict.passed
    assert honest_gate([trial(lookup_table(EVERY))]).verdict.passed


def test_at_a_low_temperature_the_rules_are_sharpened_too():
    found = trial(lookup_table(EVERY), temperature=0.0)
    assert found.bar == "rules"
    assert found.classifier_rules.mean == pytest.approx(1)


def test_only_the_blind_variant_at_temperature_1_decides():
    good = label_many(EVERY, 2)
    others = [trial(good, variant="no_shape"), trial(good, temperature=0.3)]
    found = honest_gate(others)
    assert not found.verdict.passed
    assert found.verdict.reasons == [
        "there are no answers in the variant no_shape_no_duration at temperature 1"
    ]
    assert honest_gate([*others, trial(good)]).verdict.passed
    assert not honest_gate([]).verdict.passed


def test_invalid_answers_count_against_it():
    texts = [
        row.answer if i % 2 else "" for i, row in enumerate(judged(EVERY, lookup_table(EVERY)))
    ]
    assert trial(texts).coherence.mean == pytest.approx(0.5)


def test_one_group_tells_nothing():
    rows = [row.model_copy(update={"group": "g"}) for row in judged(EVERY, lookup_table(EVERY))]
    rows = [row.model_copy(update={"variant": BLIND}) for row in rows]
    found = honest_gate([honest_trial(rows, EVERY, one_tokens(EVERY))])
    assert not found.verdict.passed
    assert "without an interval" in found.verdict.reasons[0]


def test_trials_of_several_models_and_no_answers_are_refused():
    one = trial(label_many(EVERY, 2))
    with pytest.raises(DataError, match="several models"):
        honest_gate([one, one.model_copy(update={"model": "base"})])
    with pytest.raises(DataError, match="no answers to judge"):
        honest_trial([], [], [])


def test_constant_answers_have_no_gain_on_an_uneven_mix():
    shapes = published_mix(400)
    token = "~stillness~"  # fits nine windows in ten
    text = answer_text([token], translate([token]), "SINGLE")
    found = honest_trial(
        judged(shapes, [text] * len(shapes), variant=BLIND), shapes, one_tokens(shapes)
    )
    assert found.coherence.mean > 0.85
    assert found.gain.mean == pytest.approx(0, abs=1e-12)
    assert not found.recognised
