"""Rewards of held-out pairs against a plain computation."""

from __future__ import annotations

import pytest

from tests.evaluation.conftest import Tiny, preference
from tracetune.errors import DataError
from tracetune.evaluation.generate import BASE, Generator, load_generator, render
from tracetune.evaluation.rewards import preference_scores
from tracetune.records import Preference

PAIRS = [
    preference("will it rain", "weather", "mail", 1),
    preference("please read my mail to me", "mail", "weather and storms", 2),
    preference("wind", "weather", "mail", 3),
]


@pytest.fixture(scope="module")
def generator(tiny: Tiny) -> Generator:
    return load_generator(tiny.base, tiny.adapters, threads=1)


def log_prob(generator: Generator, name: str, pair: Preference, side: str) -> float:
    """One sequence at a time, no padding, all logits."""
    import torch

    answer = getattr(pair, side)
    start = len(generator.prompt_ids(pair.prompt))
    text = render(generator.tokenizer, [*pair.prompt, *answer])
    ids = torch.tensor([generator.tokenizer(text, add_special_tokens=False)["input_ids"]])
    with generator.use(name) as model, torch.no_grad():
        logs = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
    return float(logs.gather(-1, ids[0, 1:, None])[start - 1 :].sum())


@pytest.mark.parametrize("reference", [BASE, "sft"])
def test_rewards_equal_a_plain_computation(generator: Generator, reference: str) -> None:
    scores = preference_scores(
        generator, PAIRS, policy="dpo", reference=reference, beta=0.1, batch_size=2
    )
    assert [score.row_id for score in scores] == [pair.id for pair in PAIRS]
    for pair, score in zip(PAIRS, scores, strict=True):
        for side in ("chosen", "rejected"):
            ours = log_prob(generator, "dpo", pair, side)
            theirs = log_prob(generator, reference, pair, side)
            assert getattr(score, side) == pytest.approx(0.1 * (ours - theirs), abs=1e-4)
        assert score.margin == score.chosen - score.rejected


def test_a_model_has_no_reward_relative_to_itself(generator: Generator) -> None:
    scores = preference_scores(
        generator, PAIRS, policy="sft", reference="sft", beta=0.1, batch_size=8
    )
    assert [score.margin for score in scores] == [0.0] * 3


def test_a_pair_that_does_not_fit_is_named(generator: Generator) -> None:
    pair = preference("rain " * 400, "weather", "mail", 9)
    with pytest.raises(DataError, match=pair.id):
        preference_scores(generator, [pair], policy="dpo", reference=BASE, beta=0.1, batch_size=1)
