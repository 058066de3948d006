"""Who is judged, what waits, and the verdict with the numbers that decide."""

from __future__ import annotations

import pytest

from tests.eisv.test_gates import BLIND, EVERY, trial
from tests.eisv.test_score import judged
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.eisv.baselines import lookup_table, random_baseline
from tracetune.eisv.eisv_options import EisvOptions
from tracetune.eisv.expression import label_many
from tracetune.eisv.gates import gate1, honest_gate, results_of
from tracetune.eisv.judge import Judgement
from tracetune.eisv.prompt import VARIANTS
from tracetune.eisv.score import score
from tracetune.files import write_json
from tracetune.pipelines.eisv_judgement_stage import answer_windows, collect_teachers
from tracetune.pipelines.eisv_student_stage import teach, train_students
from tracetune.pipelines.eisv_verdict import gate_of
from tracetune.runs import read_status
from tracetune.splits import assign_by_block
from tracetune.splits_blocks import BlockOptions

HERE = {"kind": "embedded"}
JUDGED = {
    "judged": "full",
    "status": "trained",
    "reason": "",
    "unasked": "",
    "asked_at": "local",
    "adapters": {"full": "anywhere"},
}


def collected(folder, *states):
    """Candidates of teachers with these states and reasons, in the order of the variants."""
    stages = {}
    for variant, (status, reason) in zip(VARIANTS, states, strict=True):
        stages[f"{variant}_adapter"] = folder / variant
        write_json(folder / variant / "status.json", {"status": status, "reason": reason})
    return collect_teachers(HERE, TogetherOptions(), **stages)


@pytest.mark.parametrize("place", range(3))
def test_while_one_teacher_runs_elsewhere_all_and_the_students_wait(tmp_path, place):
    states = [("trained", ""), ("trained", ""), ("insufficient", "18 rows are too few")]
    states[place] = ("waiting", "job 7 runs elsewhere")
    found = collected(tmp_path, *states)
    assert (found["judged"], found["status"], found["adapters"]) == (None, "waiting", {})
    assert "job 7 runs elsewhere" in found["reason"]
    assert ("18 rows are too few" in found["reason"]) == (place != 2)
    # Neither a teacher nor a student is asked; the base model is not even looked for.
    splits = assign_by_block([], options=BlockOptions(), seed=1).model_dump(mode="json")
    asked = (TogetherOptions(), RemoteJobs(tmp_path, None))
    given = (splits, {}, found, tmp_path, EisvOptions())
    assert answer_windows([], [], [], *given, *asked) == []
    assert teach([], [], splits, found, {}, EisvOptions(), 1, *asked) == []
    folder, report = train_students([], found, EisvOptions(), 1, tmp_path / "work")
    assert (report["status"], report["reason"]) == ("waiting", found["reason"])
    assert [path.name for path in folder.iterdir()] == ["status.json"]
    gate = gate_of(judgement(), found)
    assert gate.status == "unjudged"
    assert "job 7 runs elsewhere" in gate.verdict


def test_why_another_teacher_is_missing_is_told_beside_the_verdict(tmp_path):
    found = collected(
        tmp_path, ("trained", ""), ("insufficient", "18 rows are too few"), ("skipped", "not asked")
    )
    assert (found["judged"], found["status"]) == ("full", "trained")
    assert found["adapters"] == {"full": str(tmp_path / "full")}
    assert found["reason"] == "18 rows are too few; not asked"


def test_without_the_teacher_that_is_released_nothing_is_judged(tmp_path):
    found = collected(tmp_path, ("skipped", "dry run"), ("trained", ""), ("skipped", "dry run"))
    assert (found["judged"], found["status"], found["adapters"]) == (None, "skipped", {})
    assert found["reason"] == "dry run"


def judgement(*answers, trials=()):
    """A judgement of the teacher ``full`` that gave these answers at falling temperatures."""
    scores = [
        score(judged(EVERY, said, temperature=temperature))
        for said, temperature in zip(answers, (1.0, 0.3, 0.0), strict=False)
    ]
    return Judgement(
        scores=scores,
        gate1=[gate1(results_of(one)) for one in scores],
        honest=honest_gate(trials),
        honest_student=None,
        classified={},
    )


def checks(found):
    gate = gate_of(found, JUDGED)
    return gate, {check.name: (check.value, check.limit, check.passed) for check in gate.checks}


NONSENSE = ["nonsense"] * len(EVERY)


def test_gate_1_is_told_with_both_numbers_of_the_temperature_that_passes():
    gate, found = checks(judgement(random_baseline(EVERY, 1), lookup_table(EVERY)))
    assert found["gate_1_coherence"] == (1.0, 0.933, True)
    assert found["gate_1_valid_rate"] == (1.0, 0.90, True)
    assert "Gate 1 is passed at T = 0.3" in gate.checks[0].words
    assert gate.verdict == "Do not promote: honest gate fails."


def test_or_with_those_of_the_temperature_with_most_valid_answers():
    # Four of five perfect answers, which are too few; at 0.3 all are valid, and random.
    table = lookup_texts()[: len(EVERY) * 8 // 10]
    some = table + NONSENSE[len(table) :]
    words = random_baseline(EVERY, 1)
    gate, found = checks(judgement(some, words, NONSENSE))
    coherence = score(judged(EVERY, words, temperature=0.3)).coherence.mean
    assert found["gate_1_coherence"] == (coherence, 0.933, False)
    assert found["gate_1_valid_rate"] == (1.0, 0.90, True)
    assert "passed at no temperature" in gate.checks[0].words
    assert not gate.promote


def lookup_texts():
    return [row.answer for row in judged(EVERY, lookup_table(EVERY))]


def test_what_was_not_measured_has_no_number():
    gate, found = checks(judgement(NONSENSE, NONSENSE))
    assert found["gate_1_coherence"] == (None, 0.933, False)
    assert found["gate_1_valid_rate"] == (0.0, 0.90, False)
    assert found["honest_gate_gain"] == (None, 0.0, False)
    assert found["honest_gate_difference"] == (None, -0.10, False)
    assert "no answers in the variant no_shape_no_duration" in gate.checks[2].words
    assert gate.verdict == "Do not promote: gate 1 and honest gate fail."


@pytest.mark.parametrize("knows", [True, False])
def test_the_honest_gate_is_told_with_the_lower_ends_that_decide(knows):
    said = label_many(EVERY, 2) if knows else random_baseline(EVERY, 2)
    deciding = trial(said, variant=BLIND)
    other = trial(random_baseline(EVERY, 3), variant=BLIND, temperature=0.3)
    gate, found = checks(judgement(lookup_table(EVERY), trials=[other, deciding]))
    assert found["honest_gate_gain"] == (deciding.gain.low, 0.0, knows)
    assert found["honest_gate_difference"] == (deciding.difference.low, -0.10, knows)
    assert gate.promote == knows
    assert all(f"{check.value:+.3f}" in check.words for check in gate.checks[2:])


def test_teachers_that_nobody_can_ask_are_unjudged_with_the_remedy(tmp_path):
    away = {"kind": "hosted", "id": "acme/large"}
    stages = {f"{variant}_adapter": tmp_path / variant for variant in VARIANTS}
    for folder in stages.values():
        write_json(folder / "status.json", {"status": "trained", "reason": ""})
    found = collect_teachers(away, TogetherOptions(), **stages)
    assert (found["judged"], found["status"]) == ("full", "trained")
    gate = gate_of(judgement(), found)
    assert gate.status == "unjudged"
    assert "base_model.local" in gate.verdict
    folder, report = train_students([], found, EisvOptions(), 1, tmp_path / "work")
    assert report["status"] == read_status(folder).status == "unjudged"
    assert "acme/large" in report["reason"]
