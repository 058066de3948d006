"""Answers of a real (tiny) model: batching, padding, adapters, confidence, limits."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from tests.evaluation.conftest import Tiny, example
from tracetune.errors import ConfigurationError, DataError
from tracetune.evaluation.generate import (
    BASE,
    Answer,
    Generator,
    end_of_turn_ids,
    left_padded,
    load_generator,
    render,
)
from tracetune.records import Example, Message


@pytest.fixture(scope="module")
def generator(tiny: Tiny) -> Generator:
    return load_generator(tiny.base, tiny.adapters, threads=1)


def ask(generator: Generator, name: str, rows: list[Example], batch: int, **more: object):
    return generator.answers(
        name,
        [row.prompt for row in rows],
        max_new_tokens=24,
        batch_size=batch,
        **more,  # type: ignore[arg-type]
    )


def test_base_answers_in_json_and_stops(generator: Generator, rows: list[Example]) -> None:
    answers = ask(generator, BASE, rows, 8)
    assert [answer.finish for answer in answers] == ["stop"] * len(rows)
    assert all("agent" in json.loads(answer.text) for answer in answers)
    assert not any("<|" in answer.text for answer in answers)


@pytest.mark.parametrize("name", [BASE, "sft", "dpo"])
def test_batch_and_single_answers_are_equal(
    generator: Generator, rows: list[Example], name: str
) -> None:
    """Rows of different length share a batch, so this also shows that left padding is inert."""
    lengths = {len(generator.prompt_ids(row.prompt)) for row in rows}
    assert len(lengths) > 3
    single = ask(generator, name, rows, 1)
    for batch in (3, 8):
        together = ask(generator, name, rows, batch)
        assert [a.text for a in together] == [a.text for a in single]
        assert [a.tokens for a in together] == [a.tokens for a in single]
        assert [a.confidence for a in together] == pytest.approx(
            [a.confidence for a in single], rel=1e-3
        )


def test_answers_keep_the_order_of_the_prompts(generator: Generator, rows: list[Example]) -> None:
    forward = ask(generator, BASE, rows, 3)
    backward = ask(generator, BASE, rows[::-1], 3)
    assert [a.text for a in backward[::-1]] == [a.text for a in forward]


def test_adapters_differ_from_the_base_and_leave_it_alone(
    generator: Generator, tiny: Tiny, rows: list[Example]
) -> None:
    alone = ask(load_generator(tiny.base, {}), BASE, rows, 8)
    base = ask(generator, BASE, rows, 8)
    sft = ask(generator, "sft", rows, 8)
    dpo = ask(generator, "dpo", rows, 8)
    again = ask(generator, BASE, rows, 8)
    assert [a.text for a in base] == [a.text for a in alone] == [a.text for a in again]
    confidences = [[a.confidence for a in answers] for answers in (base, sft, dpo)]
    assert confidences[0] != confidences[1] != confidences[2] != confidences[0]


def test_confidence_is_the_probability_of_the_answer(
    generator: Generator, rows: list[Example]
) -> None:
    """Recomputed from one plain forward pass over prompt and answer."""
    import torch

    row = rows[0]
    answer = ask(generator, "sft", [row], 1)[0]
    prompt = generator.prompt_ids(row.prompt)
    with generator.use("sft") as model, torch.no_grad():
        ids = list(prompt)
        total = 0.0
        for _ in range(answer.tokens):
            logs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1], -1)
            total += float(logs.max())
            ids.append(int(logs.argmax()))
    assert answer.confidence == pytest.approx(math.exp(total), rel=1e-4)


def test_latency_is_measured_on_the_sample_only(generator: Generator, rows: list[Example]) -> None:
    answers = ask(generator, BASE, rows, 8, timed=[0, 5])
    measured = [number for number, a in enumerate(answers) if a.latency_ms is not None]
    assert measured == [0, 5]
    assert all(answers[number].latency_ms > 0 for number in measured)  # type: ignore[operator]


def test_a_cut_answer_and_a_prompt_without_room_are_told_apart(generator: Generator) -> None:
    long = example("rain " * 400, "weather", 99)
    short = example("will it rain", "weather", 98)
    cut, too_long = generator.answers(
        BASE, [short.prompt, long.prompt], max_new_tokens=2, batch_size=4
    )
    assert (cut.finish, cut.tokens) == ("length", 2)
    assert (too_long.finish, too_long.text, too_long.confidence) == ("too_long", "", None)


def said(generator: Generator, text: str, most: int) -> Answer:
    """The answer of a model that writes ``text``."""
    tokens = generator.tokenizer(text, add_special_tokens=False)["input_ids"][:most]
    return generator.answer_of(tokens, [-0.1] * len(tokens), most)


def test_a_thought_is_no_part_of_the_answer(generator: Generator) -> None:
    for text in ("<think>\n\n</think>\n\nyes<|im_end|>", "Should I?\n</think>\n\nyes<|im_end|>"):
        whole = said(generator, text, 99)
        assert (whole.text, whole.finish) == ("yes", "stop")
        assert whole.tokens > 5  # it was paid for all the same
    cut = said(generator, "<think>\nShould I ask? It could be that", 20)
    assert (cut.text, cut.finish, cut.tokens) == ("", "length", 20)
    about = "The tag </think> ends <think>.<|im_end|>"
    assert said(generator, about, 99).text == "The tag </think> ends <think>."


def test_a_thought_may_begin_in_the_template(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny.base, folder)
    template = folder / "chat_template.jinja"
    opened = "{% if add_generation_prompt %}<think>\n{% endif %}"
    template.write_text(template.read_text() + opened, encoding="utf-8")
    generator = load_generator(folder, {}, threads=1)
    assert said(generator, "It could be that", 5).text == ""
    assert said(generator, "It is. </think> yes<|im_end|>", 99).text == "yes"


def test_sampling_settings_of_the_model_do_not_reach_the_answers(
    tiny: Tiny, rows: list[Example], tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny.base, folder)
    settings = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "num_beams": 1}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    plain = ask(load_generator(tiny.base, {}), BASE, rows, 8)
    assert ask(load_generator(folder, {}), BASE, rows, 8) == plain


def test_left_padding_puts_the_last_token_last() -> None:
    ids, mask = left_padded([[1, 2, 3], [4]], 0, "cpu")
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_end_of_turn_comes_from_the_template(generator: Generator) -> None:
    tokenizer = generator.tokenizer
    ends = end_of_turn_ids(tokenizer, None)
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]


def test_the_same_template_as_in_training(generator: Generator, rows: list[Example]) -> None:
    row = rows[0]
    whole = render(generator.tokenizer, [*row.prompt, *row.completion])
    assert whole.startswith(render(generator.tokenizer, row.prompt, generation=True))


def test_a_folder_without_weights_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "sft"
    shutil.copytree(tiny.adapters["sft"], folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(DataError, match=r"lacks adapter_model.safetensors"):
        load_generator(tiny.base, {"sft": folder})


def test_another_template_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "sft"
    shutil.copytree(tiny.adapters["sft"], folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + "!", encoding="utf-8")
    with pytest.raises(DataError, match="chat template"):
        load_generator(tiny.base, {"sft": folder})


def test_a_base_without_template_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny.base, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigurationError, match="no chat template"):
        load_generator(folder, {})


def test_unknown_adapter_is_an_error(generator: Generator) -> None:
    with pytest.raises(ValueError, match="no adapter 'kto'"):
        generator.answers(
            "kto", [[Message(role="user", content="a")]], max_new_tokens=2, batch_size=1
        )
