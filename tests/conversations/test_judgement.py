"""The regression suite and the scores: what passes, what blocks, what can no longer be gained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conversations.builders import CODE, DIRECTIVE, conversation, surgery
from tracetune.conversations.regression import (
    SuiteOptions,
    corpus_cases,
    failures_of,
    judge,
)
from tracetune.conversations.scores import (
    CHANGED,
    NOT_MEASURED,
    Expectation,
    ab_score,
    compare,
    content_score,
    expectation_of,
    format_score,
    policy_score,
)
from tracetune.conversations.suite import suite
from tracetune.records.ctv3 import Checks, FormatConstraints

GOOD = {
    "direct_implementation": "```python\ndef slugify(title):\n    return title.lower()\n```",
    "no_permission_for_edits": "```python\nTIMEOUT_SECONDS = 45\n```",
    "no_option_spam": "We are sorry that your parcel arrived broken. A new one is on its way.",
    "asks_when_input_is_missing": "Which paragraph do you mean? There is none in our conversation.",
    "json_only": '{"name": "billing", "port": 8443}',
    "numbered_steps": "1. Stop it.\n2. Copy it.\n3. Mount it.\n4. Start it.\n5. Check it.",
    "no_bullets": "A replica replays what the primary wrote, and a long transaction holds it up.",
    "nothing_left_out": "```python\n# seconds\nTIMEOUT = 30\n# tries\nRETRIES = 3\n"
    '# server\nHOST = "localhost"\n```',
    "told_to_stop_asking": '```bash\ncp -a /etc "/srv/backup/$(date +%F)"\n```',
    "keeps_an_earlier_rule": "DHCP lends each device an address for a while.",
    "options_were_asked_for": "Crumb, Sour Notes and The Proof. Which one do you like?",
    "quoted_question": '"Should I stay or should I go?" sang the band.',
}


def test_the_suite_has_the_twelve_cases():
    cases = suite()
    assert [case.name for case in cases] == list(GOOD)
    categories = [case.category for case in cases]
    assert {name: categories.count(name) for name in set(categories)} == {
        "question_policy": 4,
        "format": 3,
        "omission": 1,
        "historical_annoyance": 2,
        "edge": 2,
    }
    assert {case.priority for case in cases} == {"critical", "high", "medium"}
    assert [case.case.record_id for case in suite()] == [case.case.record_id for case in cases]


def test_good_answers_pass_and_stalling_ones_do_not():
    result = judge(suite(), GOOD, SuiteOptions())
    assert [(case.name, case.failures) for case in result.cases if not case.passed] == []
    assert (result.pass_rate, result.deploy) == (1.0, True)
    assert all(not case.unchecked for case in result.cases)
    stalling = dict.fromkeys(GOOD, "Would you like me to go ahead?")
    bad = judge(suite(), stalling, SuiteOptions())
    assert bad.deploy is False
    assert len(bad.critical_failures) == 5
    assert bad.passed <= 2


def test_one_critical_failure_blocks_and_others_need_a_share():
    one = judge(suite(), {**GOOD, "json_only": "name: billing"}, SuiteOptions())
    assert (one.critical_failures, one.deploy) == (["json_only"], False)
    missing = judge(suite(), {**GOOD, "json_only": None}, SuiteOptions())
    assert missing.cases[4].failures == ["there is no answer"]
    assert missing.deploy is False
    two = {**GOOD, "no_bullets": "- a\n- b and c", "quoted_question": ""}
    assert judge(suite(), two, SuiteOptions()).deploy is True
    three = {**two, "numbered_steps": "First stop it."}
    result = judge(suite(), three, SuiteOptions())
    assert (result.deploy, result.critical_failures) == (False, [])
    assert judge(suite(), three, SuiteOptions(others_from=0.5)).deploy is True


def test_no_case_is_no_rate():
    result = judge([], {}, SuiteOptions())
    assert (result.pass_rate, result.others_rate, result.deploy) == (None, None, None)


@pytest.mark.parametrize(
    ("answer", "checks", "failures"),
    [
        ("You should index it.", {"disallowed_phrases": ["should i"]}, []),
        ("Should I do it now", {"disallowed_phrases": ["Should I"]}, 2),
        ("Done?", {}, ["ends with a question"]),
        ("Done?", {"must_not_end_with_question": False}, []),
        ('Text\n```json\n{"a": 1}\n```', {"must_follow_format": "json"}, []),
        ("{'a': 1}", {"must_follow_format": "json"}, ["is not in the format json"]),
        ("1. a\n1. b", {"must_follow_format": "numbered"}, ["is not in the format numbered"]),
        ("333", {"must_follow_format": "json"}, ["is not in the format json"]),
        ("[]", {"must_follow_format": "json"}, []),
        ("", {}, ["the answer is blank"]),
        ("Fine.", {"expected_behaviors": ["returns_code"]}, ["lacks the behaviour returns_code"]),
    ],
)
def test_checks(answer, checks, failures):
    found, unchecked = failures_of(answer, Checks(**checks))
    assert (found if isinstance(failures, list) else len(found)) == failures
    assert unchecked == []


def test_what_cannot_be_checked_is_said():
    checks = Checks(expected_behaviors=["sings"], must_follow_format="sonnet")
    assert failures_of("La la.", checks) == ([], ["format sonnet", "behaviour sings"])


def test_cases_of_a_corpus_are_judged_by_their_ids():
    built, _, _ = surgery(conversation(DIRECTIVE, "Shall I do it?", "stop asking!", CODE))
    [case] = corpus_cases(built.evals)
    assert judge([case], {case.name: CODE}, SuiteOptions()).deploy is True
    assert judge([case], {case.name: "Shall I do it?"}, SuiteOptions()).deploy is False


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Done.", 1.0),
        ("Let me know if you want more.", 1 - 0.4 * 0.3),
        ("Should I? Should I? Should I? Should I? Done.", 1 - 0.4),
        ("Done, or not?", 0.7),
        ("Here are a few options.", 1 - 0.2 * 0.4),
        ("Just to clarify: done.", 1 - 0.1 * 0.5),
        ('The label reads "Should I?".', 1.0),
    ],
)
def test_policy(answer, value):
    assert policy_score(answer, Expectation()).value == pytest.approx(value)
    assert policy_score(answer, Expectation(may_ask=True)).value == 1.0


def test_format_is_the_mean_of_what_applies():
    assert format_score("x", Expectation()).value is None
    asked = FormatConstraints(require_numbered=True, forbid_bullets=True)
    expected = Expectation(constraints=asked, must_not_omit=("the copies", "checks"))
    found = format_score("1. Make copies.\n2. Stop.", expected)
    assert found.parts == {"bullets": 1.0, "numbered": 1.0, "json": None, "no_omit": 0.5}
    assert found.value == pytest.approx(2.5 / 3, abs=1e-5)
    brief = format_score("1. Copies.\n2. Checks.\nThe rest is omitted for brevity.", expected)
    assert brief.parts["no_omit"] == 0.0


def test_constants_are_not_measured():
    for answer in ("x", CODE, "word " * 200):
        parts = content_score(answer, Expectation()).parts
        assert all(parts[name] is None for name in NOT_MEASURED)
    assert {f"content: {name}" for name in NOT_MEASURED} <= set(CHANGED)


def test_fences_alone_earn_nothing():
    code = Expectation(wants_code=True)
    for text in (
        "``` ```",
        "```\n```",
        "```python\ndef f(:\n```",
        "```python\n# your code here\n```",
    ):
        assert content_score(text, code).parts["code"] == 0.0
        assert ab_score(text, code).parts["code"] == 0.0
    assert content_score(CODE, code).parts["code"] == 1.0
    assert ab_score(CODE, Expectation()).parts["code"] == 0.0
    assert content_score(CODE, Expectation()).parts["code"] is None


def test_words_alone_earn_little():
    expected = Expectation()
    one = "The index makes it fast. "
    assert ab_score(one * 30, expected).value == ab_score(one, expected).value
    words = [" ".join(f"w{n}" for n in range(count)) for count in (49, 50, 51, 500)]
    scores = [ab_score(text, expected).value or 0 for text in words]
    assert scores[1] == scores[2] == scores[3] == pytest.approx(0.1)
    assert scores[1] - scores[0] == pytest.approx(0.002)


def test_asking_costs_the_same_with_and_without_a_question_mark():
    expected = Expectation()
    with_mark = ab_score("Would you like me to start? Fine then.", expected)
    without = ab_score("Would you like me to start. Fine then.", expected)
    assert with_mark.parts["permission"] == without.parts["permission"] == pytest.approx(-0.3)
    assert ab_score("Would you like me to?", Expectation(may_ask=True)).value == 0.0


@given(st.text(max_size=300), st.booleans(), st.booleans())
def test_scores_stay_in_their_range(answer, may_ask, wants_code):
    expected = Expectation(may_ask=may_ask, wants_code=wants_code, must_not_omit=("one",))
    for score in (policy_score, format_score, content_score):
        value = score(answer, expected).value
        assert value is not None
        assert 0 <= value <= 1
    assert -1.5 <= (ab_score(answer, expected).value or 0) <= 0.3


def test_a_blank_answer_scores_nothing_and_a_bare_number_is_no_json():
    constraints = FormatConstraints(forbid_bullets=True, must_return_json=True)
    expected = Expectation(constraints=constraints)
    for answer in ("", " \n"):
        assert policy_score(answer, expected).value == 0.0
        assert format_score(answer, expected).value == 0.0
        assert content_score(answer, expected).value == 0.0
        worst = "Would you like me to? Should I? Do you want me to? Can I proceed?"
        assert (ab_score(answer, expected).value or 0) <= (ab_score(worst, expected).value or 0)
        assert format_score(answer, Expectation()).value is None
    assert format_score("333", expected).parts["json"] == 0.0
    assert format_score('{"a": 1}', expected).value == 1.0


def scored(answers: list[str | None], expected: list[Expectation]) -> list[float | None]:
    """Their scores in the A/B comparison."""
    pairs = zip(answers, expected, strict=True)
    return [None if text is None else ab_score(text, what).value for text, what in pairs]


def test_comparisons():
    ours = [CODE, "Would you like me to?", "Same.", None]
    theirs = ["Shall I? Should I?", "Done with it.", "Same.", "x"]
    expected = [Expectation(wants_code=True), *[Expectation()] * 3]
    found = compare(scored(ours, expected), scored(theirs, expected))
    assert (found.n, found.failed, found.wins, found.losses, found.ties) == (3, 1, 1, 1, 1)
    assert found.win_rate == pytest.approx(1 / 3)
    assert found.outcomes == [1, -1, 0, None]
    empty = compare([], [])
    assert (empty.n, empty.win_rate, empty.loss_rate) == (0, None, None)
    assert compare([None], [0.1]).win_rate is None
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        compare([0.1], [])


@given(st.lists(st.tuples(st.none() | st.text(max_size=40), st.none() | st.text(max_size=40))))
def test_comparisons_are_the_same_from_both_sides(pairs):
    expected = [Expectation()] * len(pairs)
    ours, theirs = (scored([pair[side] for pair in pairs], expected) for side in (0, 1))
    one, other = compare(ours, theirs), compare(theirs, ours)
    assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)


def test_expectations_of_records():
    built, _, _ = surgery(conversation(DIRECTIVE, "Shall I do it?", "stop asking!", CODE))
    assert expectation_of(built.evals[0]).wants_code
    assert not expectation_of(built.evals[0]).may_ask
    assert expectation_of(built.pairs[0]).wants_code
    asks = next(case.case for case in suite() if case.name == "asks_when_input_is_missing")
    assert expectation_of(asks).may_ask
    [turn] = surgery(conversation("Translate the paragraph.", "Could you provide it?"))[0].sft
    assert expectation_of(turn).may_ask
