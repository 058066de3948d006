"""The check before an upload: everything at once, and never laxer than the service."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.together_rules import check_file, limits
from tests.conversations.builders import SAMPLE, surgery
from tests.training.helpers import examples
from tracetune.backends.together_calls import ADDRESS
from tracetune.backends.together_check import check_lines, demand
from tracetune.backends.together_models import choose, read_limits, table
from tracetune.backends.together_options import TogetherOptions
from tracetune.backends.together_prepare import prepare
from tracetune.backends.together_request import flat_arguments
from tracetune.backends.together_rows import compile_rows
from tracetune.conversations.read import read_folder
from tracetune.conversations.rows import examples_of, preferences_of
from tracetune.errors import ConfigurationError, DataError
from tracetune.records import Message, make_example, make_preference
from tracetune.training.base import BaseModelRef
from tracetune.training.job import DatasetRef, Limits, TrainingJob, dataset_ref, write_dataset

HASH = "0" * 64
MODEL = "Qwen/Qwen3-0.6B"


def user(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def says(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def pair(messages: Any, good: Any, bad: Any) -> dict[str, Any]:
    return {
        "input": {"messages": messages},
        "preferred_output": good,
        "non_preferred_output": bad,
    }


def reasons(lines: list[Any], method: str = "sft", longest: int = 100) -> list[tuple[int, str]]:
    report = check_lines(lines, method, longest=longest, count=len)
    return [(problem.line, problem.reason) for problem in report.problems]


WRONG_SFT = [
    ({"messages": []}, "at least one message"),
    ({"messages": [user()]}, "not from the assistant"),
    ({"messages": [user(), says(), user("x")]}, "not from the assistant"),
    ({"messages": [user(), user("y"), says()]}, "user after user"),
    ({"messages": [says()]}, "assistant after nothing"),
    ({"messages": [user(), {"role": "system", "content": "s"}, says()]}, "system after user"),
    ({"messages": [user(), {"role": "robot", "content": "s"}]}, "unknown role 'robot'"),
    ({"messages": [user(), says("  ")]}, "content is empty"),
    ({"messages": [user(), {"role": "assistant", "content": None}]}, "content is not text"),
    ({"messages": [user(), says(weight=0.5)]}, "neither 0 nor 1"),
    ({"messages": [user(), says(weight=0)]}, "no answer is trained"),
    ({"messages": [user(), says(mood="x")]}, "unknown keys ['mood']"),
    ({"messages": [user(), says()], "trajectory": 1}, "the keys are"),
    ({"messages": [user(), says()], "weight": -1}, "weight is not a number"),
    ({"messages": [user("x" * 200), says()]}, "more than the 100 that fit"),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, "the keys are"),
]
WRONG_DPO = [
    (pair([user(), says()], [says("a")], [says("b")]), "input: the last message"),
    (pair([user()], [says("a")], [says("a")]), "are the same"),
    (pair([user()], "a", [says("b")]), "exactly one message"),
    (pair([user()], [says("a"), says("c")], [says("b")]), "exactly one message"),
    (pair([user()], [user("a")], [says("b")]), "exactly one message"),
    (pair([user()], [says("a", weight=1)], [says("b")]), "role and content alone"),
    ({"input": "x", "preferred_output": [], "non_preferred_output": []}, "input: expected"),
]


@pytest.mark.parametrize(("line", "says_what"), WRONG_SFT)
def test_wrong_conversations(line, says_what):
    assert any(says_what in reason for _, reason in reasons([line]))


@pytest.mark.parametrize(("line", "says_what"), WRONG_DPO)
def test_wrong_pairs(line, says_what):
    assert any(says_what in reason for _, reason in reasons([line], "dpo"))


def test_all_problems_come_at_once_with_their_lines():
    good, other = {"messages": [user(), says()]}, {"messages": [user(), says(""), user()]}
    lines = [good, other, good]
    report = check_lines(lines, "sft", longest=100, count=len, numbers=[4, 7, 9])
    with pytest.raises(DataError) as error:
        demand({"train.jsonl": report, "validation.jsonl": report}, "rows")
    text = str(error.value)
    for words in (
        "6 problems",
        "train.jsonl, line 7: messages, message 2: content is empty",
        "train.jsonl, line 7: messages: the last one is not from the assistant",
        "train.jsonl, line 9: the same as line 4",
        "validation.jsonl, line 9",
    ):
        assert words in text
    empty = check_lines([], "sft", longest=100, count=len)
    with pytest.raises(DataError, match=r"train.jsonl has no rows"):
        demand({"train.jsonl": empty}, "rows")


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant", "tool", "robot"]),
            "content": st.sampled_from(["a", "b", "", " ", None]),
        },
        optional={"weight": st.sampled_from([0, 1, 0.5])},
    ),
    max_size=5,
)


@given(MESSAGES)
def test_what_passes_for_sft_the_service_takes(messages):
    line = {"messages": messages}
    if not reasons([line]):
        assert check_file(json.dumps(line).encode())[:2] == ("sft", "")


@given(MESSAGES, MESSAGES, MESSAGES)
def test_what_passes_for_dpo_the_service_takes(messages, good, bad):
    line = pair(messages, good, bad)
    if not reasons([line], "dpo"):
        assert check_file(json.dumps(line).encode())[:2] == ("dpo", "")


# Arguments -------------------------------------------------------------------------------------


def job(method: str = "sft", **changes: Any) -> TrainingJob:
    trainer = {
        "learning_rate": 1e-4,
        "num_train_epochs": 3,
        "max_length": 1024,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        **({"beta": 0.1, "loss_type": ["sigmoid"]} if method == "dpo" else {}),
        **changes.pop("trainer", {}),
    }
    lora = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["q_proj"]}
    base = BaseModelRef(
        id=changes.pop("base", MODEL),
        revision=None,
        path="nowhere",
        profile="default",
        kind="local",
        weights_sha256=HASH,
        tokenizer_sha256=HASH,
        template_sha256=HASH,
        parameters=1,
    )
    return TrainingJob(
        method=method,
        base=base,
        dataset=DatasetRef(path="nowhere", files={}, rows={}),
        start_from=None,
        lora=lora | changes.pop("lora", {}),
        trainer=trainer,
        over_length="raise",
        early_stopping_patience=3,
        seed=7,
        limits=Limits(threads=1, **changes),
        versions={},
    )


def flat(made: TrainingJob, model: str = MODEL) -> dict[str, Any]:
    rows = {"train.jsonl": 10}
    return flat_arguments(made, read_limits(limits(model), model), TogetherOptions(), rows)


def test_arguments_are_flat_and_complete():
    assert flat(job()) == {
        "training_method": "sft",
        "train_on_inputs": False,
        "n_epochs": 3,
        "learning_rate": 1e-4,
        "max_seq_length": 1024,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "batch_size": 16,
        "gradient_accumulation_steps": 1,
        "lora": True,
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_trainable_modules": "q_proj",
        "n_evals": 0,
        "packing": True,
        "n_checkpoints": 1,
        "random_seed": 7,
    }


def test_what_the_service_does_anyway_is_left_out():
    same = {"assistant_only_loss": True, "train_sampling_strategy": "group_by_length"}
    assert flat(job(trainer=same)) == flat(job())


def test_a_batch_that_is_too_large_is_summed_from_smaller_ones():
    found = flat(job(), "meta-llama/Llama-3.2-1B-Instruct")
    assert (found["batch_size"], found["gradient_accumulation_steps"]) == (8, 2)


@pytest.mark.parametrize(
    ("made", "says_what"),
    [
        (job("kto"), "sft and dpo, not kto"),
        (job(max_steps=5), "a number of steps"),
        (job(trainer={"max_steps": 5}), "a number of steps"),
        (job(trainer={"num_train_epochs": 2.5}), "whole number from 1 to 20"),
        (job(trainer={"num_train_epochs": 30}), "whole number from 1 to 20"),
        (job(trainer={"learning_rate": 1.0}), "learning_rate = 1.0 is not between"),
        (job(trainer={"max_length": 100_000}), "max_length = 100000 is not between"),
        (job("dpo", trainer={"max_length": 4096}), "not between 128 and 2048"),
        (job(trainer={"per_device_train_batch_size": 1}), "a batch of 4 rows"),
        (
            job(trainer={"per_device_train_batch_size": 41, "gradient_accumulation_steps": 1}),
            "a batch of 41 rows",
        ),
        (job(trainer={"warmup_steps": 100}), "only a share of the steps"),
        (job(trainer={"lr_scheduler_type": "polynomial"}), "lr_scheduler_type"),
        (job(trainer={"neftune_noise_alpha": 5}), "neftune_noise_alpha = 5 has no counterpart"),
        (job(trainer={"train_sampling_strategy": "sequential"}), "train_sampling_strategy = "),
        (job(trainer={"completion_only_loss": False}), "the prompt is never trained"),
        (job("dpo", trainer={"beta": 2.0}), "beta = 2.0 is not between"),
        (job("dpo", trainer={"loss_type": ["ipo"]}), "loss_type"),
        (job(lora={"r": 128}), "r = 128 is larger than 64"),
        (job(lora={"lora_alpha": 1.5}), "not a whole number"),
        (job(lora={"target_modules": ["lm_head"]}), "target_modules ['lm_head']"),
        (job(lora={"use_dora": True}), "use_dora = True has no counterpart"),
    ],
)
def test_a_setting_that_cannot_be_sent_is_refused(made, says_what):
    with pytest.raises(ConfigurationError) as error:
        flat(made)
    assert says_what in str(error.value)


@pytest.mark.parametrize(
    "name", ["meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference"]
)
def test_the_hosted_model_is_found_by_either_name(name):
    found = choose(job(base=name), None)
    assert found == "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference"


def test_the_table_names_each_model_once():
    names = [row.id for row in table().models]
    assert len(names) == len(set(names))


def prepared(folder: Path, base_url: str | None = None, **changes: Any) -> str:
    """Hash of what a job sends."""
    write_dataset(folder, examples(3), examples(2, 100))
    made = job(**changes).model_copy(update={"dataset": dataset_ref(folder)})
    return prepare(made, TogetherOptions(model=MODEL, base_url=base_url), "dpo.sft").key


@pytest.mark.parametrize(
    "trainer",
    [
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 16, "gradient_accumulation_steps": None},
        {"num_train_epochs": 3.0, "weight_decay": 0, "max_grad_norm": 1},
        {"weight_decay": None, "max_grad_norm": None, "beta": None, "packing": None},
        {"neftune_noise_alpha": None, "group_by_length": False, "packing": True},
        {"completion_only_loss": True, "max_steps": -1, "bf16": True, "dataloader_num_workers": 2},
    ],
)
def test_the_same_request_has_the_same_hash(tmp_path, trainer):
    assert prepared(tmp_path, trainer=trainer) == prepared(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer": {"gradient_accumulation_steps": 8}},
        {"trainer": {"num_train_epochs": 4}},
        {"trainer": {"packing": False}},
        {"trainer": {"max_grad_norm": 0.5}},
        {"lora": {"r": 4}},
        {"base_url": "https://elsewhere.example"},
    ],
)
def test_another_request_has_another_hash(tmp_path, changes):
    assert prepared(tmp_path, **changes) != prepared(tmp_path)


def test_the_address_that_is_meant_by_none_is_the_same(tmp_path):
    assert prepared(tmp_path) == prepared(tmp_path, base_url=f"{ADDRESS}/")


def test_a_setting_that_is_never_left_out(tmp_path):
    for name in ("learning_rate", "num_train_epochs", "max_length"):
        with pytest.raises(ConfigurationError, match=f"{name} is not given"):
            flat(job(trainer={name: None}))
    with pytest.raises(ConfigurationError, match="the prompt is never trained"):
        prepared(tmp_path, trainer={"completion_only_loss": False})


# Rows ------------------------------------------------------------------------------------------

TEXT = st.text(min_size=1, max_size=12).filter(str.strip)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_the_committed_conversations_are_sent(tmp_path, method):
    built, _, _ = surgery(*read_folder(SAMPLE))
    rows = {
        "sft": examples_of(built.sft, built.extras, tenant="demo"),
        "dpo": preferences_of(built.pairs, built.extras, tenant="demo"),
    }[method]
    answers = [row.completion if method == "sft" else row.chosen for row in rows]
    assert any(len(answer) > 1 for answer in answers)  # calls of tools before the answer
    write_dataset(tmp_path, rows, [])
    made = job(method).model_copy(update={"dataset": dataset_ref(tmp_path)})
    [compiled] = compile_rows(made, redact=True)
    assert len(compiled.lines) + sum(compiled.dropped.values()) == len(rows)
    assert len(compiled.lines) > 0.9 * len(rows)
    assert reasons(compiled.lines, method, longest=100_000) == []
    assert check_file(compiled.text().encode()) == (method, "", len(compiled.lines))


def test_turns_that_both_sides_share_stand_before_the_choice(tmp_path):
    def turns(*said: tuple[str, str]) -> list[Message]:
        return [Message(role=role, content=text) for role, text in said]

    before = (("assistant", "search(x)"), ("tool", "nothing"))
    row = make_preference(
        prompt=turns(("user", "find x")),
        chosen=turns(*before, ("assistant", "There is none.")),
        rejected=turns(*before, ("assistant", "Shall I look?")),
        source="test",
        tenant="t",
        ids={},
        group="g",
        created_at=None,
    )
    write_dataset(tmp_path, [row], [])
    [compiled] = compile_rows(
        job("dpo").model_copy(update={"dataset": dataset_ref(tmp_path)}), redact=False
    )
    asked = [user("find x"), says("search(x)"), {"role": "tool", "content": "nothing"}]
    assert compiled.lines == [pair(asked, [says("There is none.")], [says("Shall I look?")])]


@settings(max_examples=30)
@given(st.lists(TEXT, min_size=1, max_size=7).filter(lambda texts: len(texts) % 2), TEXT, TEXT)
def test_rows_become_lines_that_pass_and_that_the_service_takes(texts, good, other):
    turns = ["user", "assistant"] * 4
    prompt = [Message(role=r, content=text) for r, text in zip(turns, texts, strict=False)]
    origin = {"source": "test", "tenant": "t", "ids": {}, "group": "g", "created_at": None}
    better, worse = (
        [Message(role="assistant", content=text)] for text in (good, f"{other} and no")
    )
    rows = {"sft": make_example(prompt=prompt, completion=better, **origin)}
    if better != worse:
        rows["dpo"] = make_preference(prompt=prompt, chosen=better, rejected=worse, **origin)
    for method, row in rows.items():
        with tempfile.TemporaryDirectory() as folder:
            write_dataset(Path(folder), [row], [row])
            made = job(method).model_copy(update={"dataset": dataset_ref(Path(folder))})
            [train, validation] = compile_rows(made, redact=False)
        assert train.lines == validation.lines
        assert reasons(train.lines, method, longest=10_000) == []
        assert check_file(train.text().encode()) == (method, "", 1)
        [line] = train.lines
        said = line["messages"] if method == "sft" else line["input"]["messages"]
        wanted = [*texts, good] if method == "sft" else texts
        assert [message["content"] for message in said] == wanted
