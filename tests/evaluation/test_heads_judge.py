"""The judgement of heads: figures worked out by hand, baselines, intervals, verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.evaluation import heads_figures
from tracetune.evaluation.heads_held import Draws, Turns, difference, interval, turns_of
from tracetune.evaluation.heads_judge import HEAD_NAMES, judge, nothing_judged, shuffled
from tracetune.evaluation.heads_options import HeadsEvaluationOptions
from tracetune.evaluation.heads_patterns import (
    Probe,
    best_constant,
    best_threshold,
    f1,
    per_pattern,
)
from tracetune.evaluation.heads_planning import cosine, mean_by_role
from tracetune.evaluation.heads_style import by_chance, judge_style, project, spread
from tracetune.pipelines.heads_notes import notes
from tracetune.records.heads import (
    PATTERNS,
    HeadExtra,
    HeadMessage,
    TrajectoryPoint,
    TrajectoryRow,
)

SIZE, STEPS, CONVERSATIONS, LENGTH = 6, 8, 12, 4


@dataclass(frozen=True)
class Said:
    """What heads say, as the judgement reads it."""

    style: Any
    pattern_probabilities: Any
    plan: Any
    stop: Any
    gate_mean: Any


def turns(seed: int, conversations: int = CONVERSATIONS) -> Turns:
    """Conversations of four turns, whose vectors hold a direction of their own."""
    rng = np.random.default_rng(seed)
    n = conversations * LENGTH
    names = tuple(f"c{seed}-{number // LENGTH}" for number in range(n))
    following = np.full((n, STEPS), -1)
    for number in range(n):
        for step in range(LENGTH - number % LENGTH - 1):
            following[number, step] = number + step + 1
    return Turns(
        conversations=names,
        alike=names,
        roles=tuple(("user", "assistant")[number % 2] for number in range(n)),
        phases=np.arange(n) % LENGTH,
        coordinates=rng.random((n, 5)),
        labels=rng.random((n, 12)) < np.linspace(0.5, 0.1, 12),
        following=following,
        base=rng.normal(size=(n, SIZE)) + np.repeat(rng.normal(size=(conversations, SIZE)), 4, 0),
    )


def guesses(held: Turns, seed: int = 0) -> Said:
    """Heads that know nothing."""
    rng = np.random.default_rng(seed)
    n = len(held)
    chances = rng.random((n, 12))
    return Said(
        rng.normal(size=(n, 8)),
        chances,
        rng.normal(size=(n, STEPS, SIZE)),
        rng.random((n, STEPS)),
        rng.random(n),
    )


def knows(held: Turns) -> Said:
    """Heads that know everything."""
    names = {name: number for number, name in enumerate(dict.fromkeys(held.conversations))}
    style = np.eye(len(names))[[names[name] for name in held.conversations]]
    truth = held.base[np.maximum(held.following, 0)]
    yes = held.labels.astype(float)
    ended = (held.following < 0).astype(float)
    return Said(style, yes, truth, ended, np.full(len(held), 0.12))


OPTIONS = HeadsEvaluationOptions(bootstrap=200)


def judged(**makers: Any) -> Any:
    """The judgement of four models, each made from the turns it speaks of."""
    train, tuning, held = turns(1), turns(3, 6), turns(2)
    return judge(
        train,
        tuning,
        held,
        {name: make(held) for name, make in makers.items()},
        {name: make(tuning) for name, make in makers.items()},
        OPTIONS,
    )


def knowing() -> Any:
    rest = {
        name: lambda of, n=n: guesses(of, n) for n, name in enumerate(("off", "shuffled", "full"))
    }
    return judged(causal=knows, **rest)


@pytest.fixture(scope="module")
def good():
    return knowing()


def test_heads_that_know_everything_are_promoted(good):
    metrics, gate = good
    assert gate.promote, gate.verdict
    assert metrics["patterns"]["models"]["causal"]["micro"] == {"mean": 1, "low": 1, "high": 1}
    assert metrics["style"]["models"]["causal"]["recall_1"]["mean"] == 1
    assert metrics["planning"]["models"]["causal"]["cosine"]["mean"] == pytest.approx(1)
    assert metrics["planning"]["stop"]["models"]["causal"]["mean"] == 0
    assert metrics["patterns"]["calibration"]["causal"]["ece"] == 0
    for head in HEAD_NAMES:
        assert metrics["verdicts"][head].startswith("It knows more than")


def test_heads_that_guess_are_not_promoted_and_the_verdict_says_why():
    names = ("causal", "off", "shuffled", "full")
    metrics, gate = judged(**{name: lambda of, n=n: guesses(of, n) for n, name in enumerate(names)})
    assert not gate.promote
    assert "patterns beats trivial" in gate.verdict
    assert "planning beats trivial" in gate.verdict
    assert metrics["verdicts"]["planning"].startswith("It is not shown to know")


def test_the_same_run_gives_the_same_figures(good):
    assert knowing()[0] == good[0]


def test_a_model_against_itself_differs_by_nothing():
    metrics, _ = judged(**dict.fromkeys(("causal", "off", "shuffled", "full"), guesses))
    for head, measure in (("patterns", "macro"), ("style", "recall_5"), ("planning", "centred")):
        assert metrics[head]["against"]["off"][measure] == {"mean": 0, "low": 0, "high": 0}


def test_f1_by_hand():
    labels, said = np.zeros((4, 12), bool), np.zeros((4, 12), bool)
    labels[:3, 0] = True
    labels[0, 1] = True
    said[:2, 0] = True
    said[3, 0] = True
    said[:, 2] = True  # never there: not in the mean, 4 false
    draws = Draws(["a", "a", "b", "b"], 50, 0)
    micro, macro = f1(said, labels, draws)
    # pattern 0: 2 hits, 1 false, 1 missed; pattern 1: 1 missed
    assert micro[0] == pytest.approx(4 / (4 + (1 + 4) + 2))
    assert macro[0] == pytest.approx((4 / 6 + 0) / 2)
    found = per_pattern(said, labels)["directive"]
    assert (found["hits"], found["false"], found["missed"], found["rest"]) == (2, 1, 1, 0)
    assert (found["precision"], found["recall"], found["f1"]) == (2 / 3, 2 / 3, 2 / 3)
    assert per_pattern(said, labels)[PATTERNS[5]]["f1"] is None


def test_what_is_named_of_a_pattern_that_does_not_occur_costs_micro_f1():
    labels, said = np.zeros((20, 12), dtype=bool), np.zeros((20, 12), dtype=bool)
    labels[:10, 0] = said[:10, 0] = True
    said[:, PATTERNS.index("reflection")] = True
    draws = Draws([str(number) for number in range(20)], 200, 1)
    micro, macro = f1(said, labels, draws)
    assert micro[0] == pytest.approx(0.5)  # 10 hits, 20 named in vain
    assert macro[0] == pytest.approx(1.0)
    # Thresholds are chosen by the same measure: 0.6 keeps what is right and drops the rest.
    chances = np.where(labels, 0.9, np.where(said, 0.6, 0.1))
    assert best_threshold(chances, labels) > 0.6


def test_the_best_constant_answer_has_the_best_micro_f1_of_all_constant_answers():
    labels = np.zeros((10, 12), bool)
    labels[:6, 3] = True
    labels[:4, 7] = True
    labels[:1, 0] = True
    found = best_constant(labels)
    assert sorted(np.flatnonzero(found)) == [3, 7]


@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=20))
def test_no_single_pattern_beats_the_best_constant_answer(rows):
    labels = np.array(rows, bool)

    def score(answer):
        hits = labels[:, answer].sum()
        whole = len(labels) * answer.sum() + labels.sum()
        return 2 * hits / whole if whole else 0

    best = score(best_constant(labels))
    for k in range(12):
        assert best >= score(np.arange(12) == k) - 1e-9


def test_the_probe_learns_what_the_vectors_say_and_leaves_rare_patterns_out():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 4))
    labels = np.zeros((80, 12), bool)
    labels[:, 0] = vectors[:, 0] > 0
    labels[0, 1] = True
    chances = Probe(vectors[:60], labels[:60]).probabilities(vectors[60:])
    assert ((chances[:, 0] > 0.5) == labels[60:, 0]).mean() > 0.8
    assert (chances[:, 1] == 1 / 60).all()


def test_the_threshold_gives_the_best_micro_f1():
    labels = np.zeros((4, 12), bool)
    labels[:2, 0] = True
    chances = np.zeros((4, 12))
    chances[:, 0] = [0.9, 0.3, 0.2, 0.1]
    assert best_threshold(chances, labels) == pytest.approx(0.26, abs=0.03)
    assert best_threshold(np.zeros((3, 12)), np.zeros((3, 12), bool)) == pytest.approx(0.5)


def test_recall_by_chance_is_what_drawing_gives():
    same = np.zeros((5, 5), bool)
    same[0, 1] = same[0, 2] = True
    allowed = ~np.eye(5, dtype=bool)
    assert by_chance(same, allowed, 1)[0] == pytest.approx(2 / 4)
    assert by_chance(same, allowed, 2)[0] == pytest.approx(1 - (2 / 4) * (1 / 3))
    assert by_chance(same, allowed, 9)[0] == 1
    assert by_chance(same, allowed, 1)[3] == 0


def test_turns_of_ones_own_conversation_do_not_count_where_authors_are_told_apart():
    held = replace(turns(3, 4), alike=tuple("AABB" * 4))
    outputs = {name: knows(held) for name in ("causal", "off", "shuffled", "full")}
    found = judge_style(held, outputs, Draws(held.conversations, 100, 0), [1])
    assert found["by"] == "author"
    # The signature names the conversation, which is of no use here: all others are equally far.
    assert found["models"]["causal"]["recall_1"]["mean"] < 1
    alone = replace(held, alike=tuple(f"author of {name}" for name in held.conversations))
    nobody = judge_style(alone, outputs, Draws(held.conversations, 100, 0), [1])
    assert nobody["status"] == "unjudged"
    assert "no author" in nobody["reason"]


def test_a_constant_signature_is_told():
    assert spread(np.ones((5, 3)))["constant"]
    assert not spread(np.eye(5))["constant"]
    assert spread(np.ones((1, 3)))["constant"]


def test_the_projection_keeps_the_two_widest_directions():
    rng = np.random.default_rng(0)
    points = np.hstack([rng.normal(size=(30, 2)) * [9, 4], rng.normal(size=(30, 3)) * 0.01])
    found = project(points)
    assert sum(found["shares"]) > 0.99
    assert np.std(found["x"]) > np.std(found["y"])
    assert project(np.ones((3, 2)))["shares"] == [0, 0]


def test_cosine_by_hand():
    said = np.array([[1.0, 0], [0, 0], [1, 1]])
    truth = np.array([[2.0, 0], [1, 0], [1, 0]])
    assert cosine(said, truth) == pytest.approx([1, 0, 2**-0.5])


def test_the_mean_by_role_is_of_the_training_turns_that_came_after():
    train = turns(4, 2)
    found = mean_by_role(train, turns(5, 1), STEPS)
    after = [0, 2, 4, 6]  # user turns
    expected = np.mean([train.base[n + 1] for n in after], axis=0)
    assert found[0, 0] == pytest.approx(expected)
    assert found[0, 7] == pytest.approx(train.base.mean(axis=0))


def test_intervals_draw_whole_conversations():
    values = np.repeat([0.0, 1], 20)
    narrow = interval(Draws([str(n) for n in range(40)], 500, 0).mean(values))
    wide = interval(Draws([str(n // 10) for n in range(40)], 500, 0).mean(values))
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]
    one = Draws(["a", "a"], 100, 0).mean(np.array([0.0, 1]))
    assert interval(one) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert difference(one, one)["mean"] == 0


def row(conversation: str, place: int, numbers: list[float]) -> TrajectoryRow:
    point = TrajectoryPoint(
        coordinates=numbers, phase_id=place, homogeneity=numbers[2], turn_index=place
    )
    said = [HeadMessage(role="user", content=f"{conversation} {place}")]
    return TrajectoryRow(messages=said, trajectory=point, conversation_id=conversation)


def test_shuffled_rows_keep_their_text_and_name_and_take_the_coordinates_of_others():
    rows = [row("c", n, [n / 10] * 5) for n in range(6)]
    found = shuffled(rows, 0)
    assert [r.row_id for r in found] == [r.row_id for r in rows]
    assert [r.messages for r in found] == [r.messages for r in rows]
    taken = sorted(r.trajectory.coordinates for r in found)
    assert taken == sorted(r.trajectory.coordinates for r in rows)
    assert [r.trajectory.coordinates for r in found] != [r.trajectory.coordinates for r in rows]
    assert shuffled(rows, 0) == found


def test_turns_know_which_turn_comes_next():
    rows = [row("c", n, [0.1] * 5) for n in range(3)]
    extras = {
        r.row_id: HeadExtra(
            row_id=r.row_id,
            conversation_id="c",
            author="owner",
            style_group="c",
            role="user",
            source="internal",
            turn_index=n,
            variant="causal",
            patterns=[False] * 12,
            next_rows=[f"c#{k}" for k in range(n + 1, 3)],
        )
        for n, r in enumerate(rows)
    }
    found = turns_of(rows, extras, np.zeros((3, 2)))
    assert found.following[0].tolist() == [1, 2, -1, -1, -1, -1, -1, -1]
    assert found.following[2].tolist() == [-1] * 8


def test_the_report_says_on_which_turns_thresholds_were_chosen(good):
    metrics = {**good[0], "verdicts": dict.fromkeys(HEAD_NAMES, "")}
    reference = {"turns": 4.0, "seconds": 60.0, "conversations": 6}
    for validation, words in ((31, "validation turns"), (0, "training turns")):
        turns = {"train": 200, "validation": validation, "test": 40}
        corpus = {
            "conversations": {"read": 9, "without_an_answer": 0, **turns},
            "turns": turns,
            "calls_of_tools": 0,
            "style_by": "author",
        }
        said = notes(metrics, corpus, {"reason": "so"}, reference, None, {})
        assert any(f"{metrics['patterns']['tuned_on']} {words}" in note for note in said)


def test_every_figure_is_drawn_and_says_why_if_there_is_nothing(good):
    metrics, _ = good
    empty, gate = nothing_judged("dry run: nothing is trained")
    assert gate.status == "unjudged"
    for draw in ("heads", "confusion", "style_map", "gates", "calibration"):
        figure = getattr(heads_figures, draw)
        assert figure(metrics).data
        assert "dry run" in figure(empty).layout.annotations[0].text
    history = [{"step": 1, "loss": 2.0}, {"step": 2, "eval_loss": 1.5}]
    assert len(heads_figures.losses({"causal": history, "full": []}).data) == 2
    assert not heads_figures.losses({"causal": []}).data
    text = str(heads_figures.confusion(metrics).to_dict()["data"][0]["text"])
    hits = metrics["patterns"]["models"]["causal"]["per_pattern"]["directive"]["hits"]
    assert str(hits) in text
