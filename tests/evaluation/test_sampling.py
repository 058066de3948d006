"""Sampled answers: reproducible one by one, greedy at 0, and drawn from the model's own shares."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.conftest import Tiny, example
from tracetune.errors import ConfigurationError
from tracetune.evaluation.generate import BASE, Answer, Generator, load_generator
from tracetune.evaluation.sampling import sampled_answers
from tracetune.records import Example


@pytest.fixture(scope="module")
def generator(tiny: Tiny) -> Generator:
    return load_generator(tiny.base, tiny.adapters, threads=1)


def sample(
    generator: Generator,
    rows: list[Example],
    temperatures: list[float],
    *,
    name: str = BASE,
    seed: int = 3,
    batch: int = 64,
    most: int = 16,
) -> list[list[Answer]]:
    return sampled_answers(
        generator,
        name,
        [row.prompt for row in rows],
        temperatures,
        seed=seed,
        max_new_tokens=most,
        batch_size=batch,
    )


def texts(found: list[list[Answer]]) -> list[list[str]]:
    return [[answer.text for answer in each] for each in found]


def test_an_answer_does_not_depend_on_the_batch_nor_on_what_else_is_asked(
    generator: Generator, rows: list[Example]
) -> None:
    heats = [1.0, 1.0, 0.5, 0.0]
    together = texts(sample(generator, rows, heats))
    assert texts(sample(generator, rows, heats, batch=1)) == together
    assert texts(sample(generator, rows[::-1], heats))[::-1] == together
    fewer = texts(sample(generator, rows[2:4], [0.5, 1.0]))
    assert fewer == [[each[2], each[0]] for each in together[2:4]]


def test_answers_differ_by_draw_and_by_seed(generator: Generator, rows: list[Example]) -> None:
    hot = texts(sample(generator, rows, [3.0] * 4))
    assert any(len(set(each)) > 1 for each in hot)
    assert texts(sample(generator, rows, [3.0] * 4, seed=4)) != hot
    assert texts(sample(generator, rows, [3.0] * 4)) == hot


@pytest.mark.parametrize("name", [BASE, "sft"])
def test_temperature_0_is_greedy(generator: Generator, rows: list[Example], name: str) -> None:
    greedy = generator.answers(name, [row.prompt for row in rows], max_new_tokens=16, batch_size=4)
    found = [each[1] for each in sample(generator, rows, [1.0, 0.0], name=name)]
    assert [answer.text for answer in found] == [answer.text for answer in greedy]
    assert [answer.finish for answer in found] == [answer.finish for answer in greedy]
    assert [a.confidence for a in found] == pytest.approx([a.confidence for a in greedy], rel=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_first_tokens_are_drawn_by_the_shares_of_the_model(
    generator: Generator, rows: list[Example], temperature: float
) -> None:
    import torch

    row, n = rows[0], 4000
    found = sample(generator, [row], [temperature] * n, most=1)[0]
    logs = np.log([answer.confidence for answer in found])  # of the chosen token at temperature 1
    ids = torch.tensor([generator.prompt_ids(row.prompt)])
    with generator.use(BASE) as model, torch.no_grad():
        scores = torch.log_softmax(model(input_ids=ids).logits[0, -1].double(), -1)
    shares = torch.softmax(scores / temperature, -1)
    mean = float((shares * scores).sum())
    spread = float((shares * (scores - mean) ** 2).sum()) ** 0.5
    assert spread > 0.01  # there is something to draw
    assert logs.mean() == pytest.approx(mean, abs=4 * spread / n**0.5)
    assert logs.std() == pytest.approx(spread, rel=0.2)


def test_what_is_cut_or_has_no_room_is_told(generator: Generator, rows: list[Example]) -> None:
    found = sample(generator, [rows[0], example("rain " * 400, "weather", 99)], [1.0, 0.0], most=2)
    assert [answer.finish for answer in found[0]] == ["length", "length"]
    assert [answer.tokens for answer in found[0]] == [2, 2]
    assert [answer.finish for answer in found[1]] == ["too_long", "too_long"]


@pytest.mark.parametrize("wrong", [[], [-1.0], [float("nan")], [1.0, float("inf")]])
def test_temperatures_that_are_none_are_refused(
    generator: Generator, rows: list[Example], wrong: list[float]
) -> None:
    with pytest.raises(ConfigurationError, match="no temperatures to sample at"):
        sample(generator, rows, wrong)
