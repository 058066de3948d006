"""How likely the right answer was, against a plain computation."""

from __future__ import annotations

import pytest

from tests.evaluation.conftest import Tiny, example
from tracetune.evaluation.generate import BASE, load_generator, render
from tracetune.evaluation.likelihood import reference_nats
from tracetune.records import Example


@pytest.mark.parametrize("name", [BASE, "dpo"])
def test_nats_per_token_of_each_right_answer(tiny: Tiny, rows: list[Example], name: str) -> None:
    """One row at a time, no padding, all logits; a row that does not fit has no figure."""
    import torch

    generator = load_generator(tiny.base, tiny.adapters, threads=1)
    asked = [*rows[:3], example("rain " * 400, "weather", 99), *rows[3:]]
    found = reference_nats(generator, name, asked, batch_size=3)
    assert found[3] is None
    for row, value in zip(asked, found, strict=True):
        if value is None:
            continue
        start = len(generator.prompt_ids(row.prompt))
        text = render(generator.tokenizer, [*row.prompt, *row.completion])
        ids = torch.tensor([generator.tokenizer(text, add_special_tokens=False)["input_ids"]])
        with generator.use(name) as model, torch.no_grad():
            logs = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
        right = logs.gather(-1, ids[0, 1:, None])[start - 1 :]
        assert value == pytest.approx(-float(right.mean()), abs=1e-4)
