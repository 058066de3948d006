"""Names and values of trainer and LoRA arguments; profiles."""

from __future__ import annotations

import pytest

from tracetune.errors import ConfigurationError
from tracetune.training import arguments, profiles
from tracetune.training.options import Method

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"learnin_rate": 1e-4}, "closest names: learning_rate"),
        ({"warmup_ratio": 0.1}, "no argument 'warmup_ratio'"),
        ({"output_dir": "x"}, "the project decides where files go"),
        ({"report_to": "wandb"}, "set report_to at the top level"),
        ({"hub_token": "x"}, "nothing is published"),
        ({"trust_remote_code": True}, "never run"),
        ({"learning_rate": "fast"}, "not what TRL takes"),
        ({"max_steps": "many"}, "not what TRL takes"),
    ],
)
def test_wrong_trainer_arguments_are_named(given: dict, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        arguments.trainer_arguments("sft", given, "default")
    assert text in str(caught.value)
    assert "sft.trainer" in str(caught.value)


def test_every_owned_name_is_an_argument_of_a_trainer() -> None:
    known = set(arguments.trainer_fields("sft")) | set(arguments.trainer_fields("dpo"))
    assert set(arguments.OWNED) <= known


def test_values_of_yaml_become_numbers() -> None:
    # YAML 1.1 reads 5e-5 as text
    merged = arguments.trainer_arguments("dpo", {"learning_rate": "5e-5"}, "default")
    assert merged["learning_rate"] == 5e-5


def test_given_wins_and_null_means_the_profile() -> None:
    merged = arguments.trainer_arguments(
        "sft", {"learning_rate": 1e-3, "num_train_epochs": None}, "qwen2.5-3b"
    )
    assert merged["learning_rate"] == 1e-3
    assert merged["num_train_epochs"] == 3


def test_lora_takes_peft_names_and_short_names() -> None:
    merged = arguments.lora_arguments({"alpha": 32, "r": None, "use_rslora": True}, "default")
    assert (merged["r"], merged["lora_alpha"], merged["lora_dropout"]) == (8, 32, 0.1)
    assert merged["target_modules"] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert merged["use_rslora"] is True


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rank": 8}, "no argument 'rank'"),
        ({"task_type": "SEQ_CLS"}, "cannot be set"),
        ({"alpha": 1, "lora_alpha": 2}, "given twice"),
    ],
)
def test_wrong_lora_arguments_are_named(given: dict, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        arguments.lora_arguments(given, "default")


@pytest.mark.parametrize(
    ("model", "profile", "sft_rate", "dpo_rate", "batches"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m", 2e-4, 5e-5, range(4, 9)),
        ("HuggingFaceTB/SmolLM2-360M", "smollm2-360m", 2e-4, 5e-5, range(4, 9)),
        ("Qwen/Qwen2.5-3B-Instruct", "qwen2.5-3b", 5e-5, 1.25e-5, range(2, 5)),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", 2e-5, 5e-6, range(1, 3)),
        ("someone/else", "default", 2e-4, 5e-5, range(4, 5)),
    ],
)
def test_profiles_follow_document_003(
    model: str, profile: str, sft_rate: float, dpo_rate: float, batches: range
) -> None:
    chosen = profiles.choose(model)
    assert chosen.name == profile
    for settings, rate in ((chosen.sft, sft_rate), (chosen.dpo, dpo_rate)):
        assert settings["learning_rate"] == rate
        assert settings["per_device_train_batch_size"] in batches
        batch = settings["per_device_train_batch_size"]
        assert batch * settings["gradient_accumulation_steps"] == 16
        assert settings["num_train_epochs"] == 3
    assert (chosen.dpo["beta"], chosen.dpo["loss_type"]) == (0.1, ["sigmoid"])
    assert (chosen.lora["r"], chosen.lora["lora_alpha"], chosen.lora["lora_dropout"]) == (
        8,
        16,
        0.1,
    )


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'smollm2-135m'.*llama-3.1-8b"):
        profiles.choose("x", "smollm2-135")


@pytest.mark.parametrize("profile", list(profiles.PROFILES))
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_every_profile_holds_arguments_of_the_trainer(profile: str, method: str) -> None:
    assert arguments.trainer_arguments(method, {}, profile)


@pytest.mark.parametrize(
    ("profile", "method", "rows", "epochs"),
    [
        ("embedded", "sft", 712, 4),
        ("embedded", "sft", 176, 17),
        ("embedded", "sft", 20, 20),
        ("embedded", "dpo", 20, 2),
        ("default", "sft", 20, 3),
    ],
)
def test_a_base_that_knows_little_sees_few_rows_more_often(
    profile: str, method: Method, rows: int, epochs: int
) -> None:
    chosen = profiles.choose("", profile)
    assert profiles.epochs(chosen, method, rows, profiles.settings(chosen, method)) == epochs


def test_a_task_may_need_more_steps_than_the_profile_says() -> None:
    embedded, other = profiles.choose("embedded"), profiles.choose("default")
    trainer = profiles.settings(embedded, "sft")
    assert profiles.epochs(embedded, "sft", 1214, trainer, min_steps=600) == 8
    # only a base that knows little has a minimum at all
    assert profiles.epochs(other, "sft", 1214, profiles.settings(other, "sft"), 600) == 3
