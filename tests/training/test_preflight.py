"""What the preflight report says is what TRL trains, and its gates stop what must be stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.helpers import answer, examples, pairs, prompt, sft_job
from tracetune.errors import GateError
from tracetune.records import Message, Preference, make_preference
from tracetune.training import base as base_model
from tracetune.training import checkpoints, dpo, preflight, sft, trainers
from tracetune.training.base import BaseModelRef
from tracetune.training.job import build_job, write_dataset
from tracetune.training.options import DpoOptions, PreflightOptions, SftOptions
from tracetune.training.rendering import MaskRule, Renderer, as_dicts

pytestmark = pytest.mark.training

CALLS = [*answer("look"), Message(role="tool", content="rain")]


def _report(base: BaseModelRef, rows: list, stage: object, **limits: float) -> object:
    method = "dpo" if isinstance(stage, DpoOptions) else "sft"
    return preflight.inspect(rows, [], base, method, stage, PreflightOptions(**limits))


def _failed(report: object) -> set[str]:
    return {gate.name for gate in report.gates if not gate.passed}


@pytest.mark.parametrize("assistant_only", [False, True])
def test_sft_mask_equals_what_trl_trains(
    base: BaseModelRef, tmp_path: Path, assistant_only: bool
) -> None:
    job = sft_job(base, tmp_path / "rows", rows=9, assistant_only_loss=assistant_only)
    tokenizer = base_model.load_tokenizer(base)
    rows = trainers.load_rows(job, tokenizer)
    place = checkpoints.open_place(job, tmp_path / "work")
    data = sft.make_trainer(job, place, rows, tokenizer).train_dataset
    for row, ids, labels in zip(rows.train, data["input_ids"], data["labels"], strict=True):
        rendered = row.sequences[0]
        assert rendered.ids == ids
        assert [token if bit else -100 for token, bit in zip(ids, rendered.mask, strict=True)] == (
            labels
        )


@pytest.mark.parametrize("calls", [False, True])
def test_dpo_mask_equals_what_trl_trains(base: BaseModelRef, tmp_path: Path, calls: bool) -> None:
    found = pairs(9)
    if calls:
        found = [with_calls(row, CALLS) for row in found]
    dataset = write_dataset(tmp_path / "rows", found, [])
    stage = DpoOptions(trainer={"num_train_epochs": 2, "per_device_train_batch_size": 4})
    job = build_job("dpo", base=base, dataset=dataset, stage=stage, seed=5, threads=1)
    tokenizer = base_model.load_tokenizer(base)
    rows = trainers.load_rows(job, tokenizer)
    place = checkpoints.open_place(job, tmp_path / "work")
    trainer = dpo.make_trainer(job, place, rows, tokenizer)
    for number, row in enumerate(rows.train):
        batch = trainer.data_collator([trainer.train_dataset[number]])
        for side, rendered in enumerate(row.sequences):
            length = int(batch["attention_mask"][side].sum())
            assert batch["input_ids"][side][:length].tolist() == rendered.ids
            assert batch["completion_mask"][side][:length].tolist() == rendered.mask
            trained = [i for i, bit in zip(rendered.ids, rendered.mask, strict=True) if bit]
            last = (row.row.chosen, row.row.rejected)[side][-1]
            assert tokenizer.decode(trained) == last.content + "<|im_end|>"


def with_calls(row: Preference, calls: list[Message]) -> Preference:
    origin = row.provenance.model_dump(exclude={"content_hash"})
    return make_preference(
        prompt=row.prompt,
        chosen=[*calls, *row.chosen],
        rejected=[*calls, *row.rejected],
        **origin,
    )


def test_calls_of_tools_that_both_sides_share_pass_the_gates(base: BaseModelRef) -> None:
    report = _report(base, [with_calls(row, CALLS) for row in pairs(6)], DpoOptions())
    assert report.passed
    assert report.trained_by_role == {"assistant": 1.0}


def test_one_bos_and_a_trained_end_in_every_row(base: BaseModelRef) -> None:
    report = _report(base, examples(9), SftOptions())
    assert report.passed
    assert report.bos_per_row == (1, 1)
    assert report.end_untrained == report.end_doubled == report.prompt_mismatch == 0
    assert report.trained_by_role == {"assistant": 1.0}
    tokenizer = base_model.load_tokenizer(base)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    rendered = Renderer(tokenizer).render(as_dicts(prompt("x y")), as_dicts(answer("money")))
    trained = [i for i, bit in zip(rendered.ids, rendered.mask, strict=True) if bit]
    assert tokenizer.decode(trained) == '{"drawer": "money"}<|im_end|>'


def test_rendering_is_what_serving_sends(base: BaseModelRef) -> None:
    tokenizer = base_model.load_tokenizer(base)
    text = tokenizer.apply_chat_template(
        as_dicts(prompt("hello")), tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|bos|><|im_start|>system\nAnswer in JSON.<|im_end|>\n"
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert Renderer(tokenizer).prompt_ids(as_dicts(prompt("hello"))) == tokenizer(text)["input_ids"]


def test_over_length_rows_stop_the_run_by_default(base: BaseModelRef) -> None:
    report = _report(base, examples(6), SftOptions(trainer={"max_length": 20}))
    assert _failed(report) == {"over_length", "lost_completion"}
    with pytest.raises(GateError, match=r"longer than max_length = 20.*What to do"):
        _raise(report)


def _raise(report: object) -> None:
    try:
        preflight.enforce(report)
    except GateError as error:
        raise GateError(str(error).replace("\n", " ")) from error


def test_over_length_rows_are_dropped_on_request(base: BaseModelRef) -> None:
    long = examples(1, 2)[0]
    rows = [*examples(2), long.model_copy(update={"prompt": prompt("rain " * 400)})]
    stage = SftOptions(over_length="drop", trainer={"max_length": 200})
    report = _report(base, rows, stage, max_dropped_share=0.5)
    assert (report.rows_in, report.rows_used, report.dropped) == (3, 2, {"over_length": 1})
    assert report.dropped_rows == {long.id: "over_length"}
    assert report.passed
    assert _failed(_report(base, rows, stage, max_dropped_share=0.1)) == {"dropped"}


def test_over_length_rows_are_cut_on_request(base: BaseModelRef) -> None:
    whole = _report(base, examples(3), SftOptions())
    limit = whole.sequence_tokens["p100"] - 3
    stage = SftOptions(over_length="truncate", trainer={"max_length": limit})
    report = _report(base, examples(3), stage, max_lost_completion_share=0.5)
    assert report.passed
    assert report.lost_completion_tokens > 0
    assert report.trained_tokens == whole.trained_tokens - report.lost_completion_tokens
    nothing = SftOptions(over_length="truncate", trainer={"max_length": 10})
    assert _report(base, examples(3), nothing).dropped == {"nothing_trained": 3}


def test_truncation_trains_what_the_report_says(base: BaseModelRef, tmp_path: Path) -> None:
    """The check inside a run compares with TRL's own preparation; here it must agree."""
    longest = _report(base, examples(6), SftOptions()).sequence_tokens["p100"]
    tokenizer = base_model.load_tokenizer(base)
    cut = {"rows": 6, "over_length": "truncate"}
    job = sft_job(base, tmp_path / "rows", **cut, max_length=longest - 3)
    rows = trainers.load_rows(job, tokenizer)
    place = checkpoints.open_place(job, tmp_path / "work")
    trainers.check_same_rows(sft.make_trainer(job, place, rows, tokenizer), rows, job)
    with pytest.raises(GateError, match="no training row is left"):
        trainers.load_rows(sft_job(base, tmp_path / "rows", **cut, max_length=10), tokenizer)


def test_user_turns_in_an_answer_are_noticed(base: BaseModelRef) -> None:
    turns = [*answer("money"), Message(role="user", content="sure?"), *answer("money")]
    rows = [row.model_copy(update={"completion": turns}) for row in examples(3)]
    assert "other_roles" in _failed(_report(base, rows, SftOptions()))
    only = SftOptions(trainer={"assistant_only_loss": True})
    report = _report(base, rows, only)
    assert report.passed
    assert report.trained_by_role == {"assistant": 1.0}


def test_identical_pairs_and_repeated_rows_are_noticed(base: BaseModelRef) -> None:
    pair = pairs(1)[0]
    same = Preference.model_construct(**{**dict(pair), "rejected": pair.chosen})
    assert "identical_pairs" in _failed(_report(base, [same, *pairs(3, 5)], DpoOptions()))
    assert "duplicates" in _failed(_report(base, [*examples(3), *examples(3)], SftOptions()))
    assert "rows" in _failed(_report(base, [], SftOptions()))


def _broken(base: BaseModelRef, folder: Path, old: str, new: str) -> BaseModelRef:
    import shutil

    shutil.copytree(base.path, folder)
    template = folder / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    assert old in text
    template.write_text(text.replace(old, new), encoding="utf-8")
    return base_model.describe(folder, "broken", None, "default", "local")


def test_a_template_without_a_trained_end_is_stopped(base: BaseModelRef, tmp_path: Path) -> None:
    inside = "message['content'] + '<|im_end|>' }}{%- endgeneration %}"
    outside = "message['content'] }}{%- endgeneration %}{{- '<|im_end|>' }}"
    broken = _broken(base, tmp_path / "model", inside, outside)
    stage = SftOptions(trainer={"assistant_only_loss": True})
    assert "end_of_turn" in _failed(_report(broken, examples(3), stage))


def test_a_doubled_bos_is_stopped(base: BaseModelRef, tmp_path: Path) -> None:
    broken = _broken(base, tmp_path / "model", "{{- bos_token }}", "{{- bos_token + bos_token }}")
    assert _failed(_report(broken, examples(3), SftOptions())) == {"bos"}


def test_a_prompt_that_is_no_prefix_is_stopped(base: BaseModelRef, tmp_path: Path) -> None:
    broken = _broken(
        base, tmp_path / "model", "assistant\\n' }}{%- endif %}", "assistant\\n?' }}{%- endif %}"
    )
    assert "prompt_prefix" in _failed(_report(broken, examples(3), SftOptions()))


def test_mask_rule_defaults_to_the_completion() -> None:
    assert MaskRule() == MaskRule(completion_only=True, assistant_only=False)
