"""From rows to a model folder at Together AI, and DPO on top of it, against the strict server."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.backends.helpers import MODEL, backend, options, train
from tests.backends.together_server import KEY
from tests.backends.together_state import adapter_files, tar
from tests.training.helpers import TIME, dpo_job, examples, sft_job
from tracetune.backends import JobHandle, commands
from tracetune.backends.remote import RemoteJobs
from tracetune.errors import ConfigurationError, DataError, GateError, ServerError
from tracetune.files import read_json, sha256_file
from tracetune.records import Message, make_example
from tracetune.training import base as base_model
from tracetune.training.job import job_hash, write_dataset
from tracetune.training.model_folder import WEIGHTS
from tracetune.training.tracking import Tracking

pytestmark = pytest.mark.training


def uploaded(server) -> list[dict]:
    [data] = [file.data for file in server.files.values()]
    return [json.loads(line) for line in data.decode().splitlines()]


def everything_written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_sft_then_dpo_on_its_job(server, sft, base, tmp_path):
    first = train(backend(server, tmp_path), sft, tmp_path / "sft")
    manifest = read_json(first / "manifest.json")
    assert read_json(first / "status.json") == {"status": "trained", "job_hash": job_hash(sft)}
    assert manifest["remote"]["id"] == "ft-0001-abcd"
    assert manifest["remote"]["usd"] == pytest.approx(1.2)
    assert manifest["adapter_sha256"] == sha256_file(first / WEIGHTS)
    assert read_json(first / "history.json")[0] == {"step": 1, "loss": 2.5, "learning_rate": 1e-4}
    body = server.jobs["ft-0001-abcd"].body
    assert body["training_method"] == {"method": "sft", "train_on_inputs": False}
    assert (
        body["training_type"]["lora_trainable_modules"]
        == "down_proj,gate_proj,k_proj,o_proj,q_proj,up_proj,v_proj"
    )
    assert (body["batch_size"], body["gradient_accumulation_steps"]) == (8, 1)

    job = dpo_job(base, tmp_path / "rows", first, per_device_train_batch_size=8)
    second = train(backend(server, tmp_path), job, tmp_path / "dpo")
    body = server.jobs["ft-0002-abcd"].body
    assert body["from_checkpoint"] == "ft-0001-abcd"
    assert "model" not in body
    assert body["training_method"]["dpo_beta"] == 0.1
    model = base_model.load_model(base, second)
    assert model.peft_config["default"].r == 8
    assert KEY.encode() not in everything_written(tmp_path)


def test_curves_are_written_for_a_job_that_ran_elsewhere(server, sft, tmp_path):
    chosen, tracking = (
        backend(server, tmp_path),
        Tracking(("tensorboard",), "run", tmp_path / "logs"),
    )
    handle = chosen.launch(sft, tmp_path / "model", tmp_path, tracking)
    while chosen.poll(handle).state == "running":
        pass
    chosen.fetch(handle)
    assert len(list((tmp_path / "logs").rglob("events.*"))) == 1


def test_an_adapter_written_by_a_service_that_sums_up(server, sft, base, tmp_path):
    def other(state, job):
        found = adapter_files(state, job)
        config = json.loads(found["adapter_config.json"])
        config |= {"target_modules": "all-linear", "lora_dropout": 0.0}
        return tar({**found, "adapter_config.json": json.dumps(config).encode()})

    server.pack = other
    first = train(backend(server, tmp_path), sft, tmp_path / "sft")
    job = dpo_job(base, tmp_path / "rows", first, per_device_train_batch_size=8)
    assert job.lora["target_modules"] == sorted(sft.lora["target_modules"])
    assert job.lora["lora_dropout"] == 0.1


def test_the_same_job_is_never_created_twice(server, sft, tmp_path):
    for place in ("one", "two"):
        train(backend(server, tmp_path), sft, tmp_path / place)
    handle = backend(server, tmp_path).launch(sft, tmp_path / "one/model", tmp_path)
    again = JobHandle.model_validate_json(handle.model_dump_json())
    assert backend(server, tmp_path).poll(again).state == "completed"
    assert server.calls.count("create") == 1
    # Another machine knows nothing of the job but finds it by its name.
    train(backend(server, tmp_path / "elsewhere"), sft, tmp_path / "three")
    assert server.calls.count("create") == 1
    # Even if its files were removed from the account, so that the same rows get another id.
    before = set(server.files)
    server.files = {"file-other": replace(next(iter(server.files.values())), checksum="other")}
    train(backend(server, tmp_path / "later"), sft, tmp_path / "four")
    assert not before & set(server.files)
    assert server.calls.count("create") == 1


ANOTHER_WAY_TO_SAY_IT = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2.0,
    "neftune_noise_alpha": None,
    "max_grad_norm": None,
    "group_by_length": False,
    "completion_only_loss": True,
}


def test_what_changes_only_this_machine_makes_no_second_job(server, base, tmp_path):
    one = sft_job(base, tmp_path / "rows", per_device_train_batch_size=8)
    two = one.model_copy(
        update={
            "versions": {**one.versions, "trl": "9.9"},
            "trainer": {**one.trainer, "per_device_eval_batch_size": 2},
        }
    )
    three = one.model_copy(update={"trainer": {**one.trainer, **ANOTHER_WAY_TO_SAY_IT}})
    assert len({job_hash(job) for job in (one, two, three)}) == 3
    for job in (one, two, three):
        folder = train(backend(server, tmp_path), job, tmp_path / "out")
        assert read_json(folder / "status.json")["job_hash"] == job_hash(job)
    assert server.calls.count("create") == 1


def test_only_redacted_text_and_no_ids_leave_the_machine(server, base, tmp_path):
    secret = "write to jane.doe@example.com and use sk-ant-api03-abcdefghijklmnop1234567890ABCDEF"
    row = make_example(
        prompt=[
            Message(role="user", content="first"),
            Message(role="assistant", content="earlier answer"),
            Message(role="user", content=secret),
        ],
        completion=[Message(role="assistant", content="Done.")],
        source="test",
        tenant="acme",
        ids={"n": "1"},
        group="session:1",
        created_at=TIME,
        weight=0.5,
    )
    job = sft_job(base, tmp_path / "rows", per_device_train_batch_size=8)
    rows = [*examples(9), row, examples(1)[0]]
    write_dataset(tmp_path / "rows", rows, [])
    job = job.model_copy(update={"dataset": sft_ref(tmp_path / "rows")})
    train(backend(server, tmp_path), job, tmp_path / "out")
    lines = uploaded(server)
    assert len(lines) == 10  # the repeated row is not paid twice
    line = lines[-1]
    assert [message.get("weight") for message in line["messages"]] == [None, 0, None, 1]
    assert line["weight"] == 0.5
    assert set(line) == {"messages", "weight"}
    text = json.dumps(lines)
    assert "<EMAIL>" in text
    for word in ("jane", "sk-ant", "acme", "session:1"):
        assert word not in text
    remote = RemoteJobs(tmp_path / "jobs", None).all()[0]
    assert remote.dropped == {"repeated": 1}
    assert remote.redacted["EMAIL"] == 1


def sft_ref(folder):
    from tracetune.training.job import dataset_ref

    return dataset_ref(folder)


def test_validation_rows_are_uploaded_and_evaluated_on(server, base, tmp_path):
    job = sft_job(base, tmp_path / "rows", rows=110, validation=12, per_device_train_batch_size=8)
    train(backend(server, tmp_path), job, tmp_path / "out")
    body = server.jobs["ft-0001-abcd"].body
    assert body["n_evals"] == 5
    assert body["early_stopping_patience"] == 3
    assert len(server.files) == 2


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", "8B-Instruct-Reference"),
        ("Qwen/Qwen2.5-7B-Instruct-Turbo", "'Qwen/Qwen2.5-7B-Instruct'"),
        ("Qwen/Qwen3-9B", "did you mean 'Qwen/Qwen3-"),
        (None, "no hosted model is known for base_model.id='embedded'"),
    ],
)
def test_a_wrong_model_is_named_with_the_right_one(server, sft, tmp_path, model, says):
    with pytest.raises(ConfigurationError) as error:
        train(backend(server, tmp_path, model=model), sft, tmp_path)
    assert says in str(error.value)
    assert not server.files


def test_a_model_without_dpo_is_refused_before_the_upload(server, base, tmp_path):
    job = dpo_job(base, tmp_path / "rows", None, per_device_train_batch_size=8)
    with pytest.raises(ConfigurationError, match="cannot be trained by DPO"):
        train(backend(server, tmp_path, model="acme/no-dpo-1B"), job, tmp_path)
    assert not server.files


def test_dpo_never_starts_from_a_local_adapter_in_silence(server, base, sft, tmp_path):
    first = train(backend(server, tmp_path), sft, tmp_path / "sft")
    manifest = read_json(first / "manifest.json")
    del manifest["remote"]
    (first / "manifest.json").write_text(json.dumps(manifest))
    job = dpo_job(base, tmp_path / "rows", first, per_device_train_batch_size=8)
    with pytest.raises(DataError, match="was not trained at Together AI"):
        train(backend(server, tmp_path), job, tmp_path / "dpo")


def test_the_budget_is_kept_over_all_jobs(server, base, tmp_path):
    server.price = 4.0
    jobs = [
        sft_job(base, tmp_path / f"rows{rate}", learning_rate=rate, per_device_train_batch_size=8)
        for rate in (1e-4, 2e-4)
    ]
    train(backend(server, tmp_path, budget_usd=5), jobs[0], tmp_path / "one")
    with pytest.raises(GateError, match=r"estimated at \$4.00; \$1.20 of together.budget_usd=5"):
        train(backend(server, tmp_path, budget_usd=5), jobs[1], tmp_path / "two")
    assert len(server.jobs) == 1
    train(backend(server, tmp_path, budget_usd=6), jobs[1], tmp_path / "two")
    assert server.paid() == 2


def test_a_failed_job_counts_as_estimated(server, sft, tmp_path):
    server.price, server.endings = 4.0, ["error"]
    with pytest.raises(DataError, match="gave no model"):
        train(backend(server, tmp_path, budget_usd=5), sft, tmp_path)
    with pytest.raises(GateError, match=r"estimated at \$4.00; \$4.00 of together.budget_usd=5"):
        train(backend(server, tmp_path, budget_usd=5), sft, tmp_path)
    train(backend(server, tmp_path, budget_usd=8), sft, tmp_path)
    [record] = RemoteJobs(tmp_path / "jobs", None).all()
    assert [attempt.usd for attempt in record.attempts] == [4.0]
    assert record.most_usd == pytest.approx(4.0 + 1.2)


@pytest.mark.parametrize(
    ("told", "usd"),
    [(int(2e9), 2.0), (2.5e9, 2.5), (True, 1.25), ("2", 1.25), (None, 1.25), (-1, 1.25)],
)
def test_a_price_is_a_number_or_the_estimate_stands(server, sft, tmp_path, told, usd):
    server.total_price = told
    train(backend(server, tmp_path), sft, tmp_path)
    [record] = RemoteJobs(tmp_path / "jobs", None).all()
    assert record.usd == usd


@pytest.mark.parametrize(
    "settings",
    [
        {"price": float("nan")},
        {"price": True},
        {"price": None},
        {"unavailable": "multimodal_dataset"},
        {"allowed": False},
    ],
)
def test_nothing_is_created_without_a_price_that_is_covered(server, sft, tmp_path, settings):
    for name, value in settings.items():
        setattr(server, name, value)
    with pytest.raises(GateError):
        train(backend(server, tmp_path), sft, tmp_path)
    assert not server.jobs


def test_a_refused_key_is_not_shown(server, sft, tmp_path):
    wrong = "tgp_v1_wrong-0000000000000000"
    with pytest.raises(ConfigurationError) as error:
        train(backend(server, tmp_path, key=wrong), sft, tmp_path)
    assert "refused the API key" in str(error.value)
    assert wrong not in str(error.value)
    assert wrong not in repr(backend(server, tmp_path, key=wrong))
    with pytest.raises(ConfigurationError, match="there is no key"):
        train(backend(server, tmp_path, key=""), sft, tmp_path)


def test_commands(server, sft, tmp_path):
    jobs, given = RemoteJobs(tmp_path / "jobs", KEY), options(server)
    assert commands.list_jobs(jobs) == ["no jobs were sent anywhere"]
    lines = commands.check(jobs, given, None)
    assert "organization Acme" in lines[0]
    assert "SFT up to 4096 tokens, DPO up to 2048 tokens, LoRA up to rank 64" in lines[1]
    with pytest.raises(ConfigurationError, match="does not train"):
        commands.check(jobs, given, "nobody/nothing")
    _, heading, *rows = commands.check(jobs, options(server, model=None), None)
    assert heading.startswith("table of 2026-")
    assert rows[0] == lines[1]
    [other] = [row for row in rows if row.startswith("Qwen/Qwen3-8B")]
    assert "no limits today (status 404" in other
    assert "SFT up to 40960 tokens, DPO up to about half of that, LoRA or full training" in other

    handle = backend(server, tmp_path).launch(sft, tmp_path / "model", tmp_path)
    assert "created" in commands.list_jobs(jobs)[1]
    with pytest.raises(DataError, match="no job 'nope'"):
        commands.show(jobs, given, "nope")
    assert "is completed ($1.20)" in commands.wait(jobs, given, handle.id)[0]
    shown = "\n".join(commands.show(jobs, given, "ft-"))
    for word in ("Training started", "train/loss 2.5", "step 2: Final (adapter)", "lora_r = 8"):
        assert word in shown
    [folder] = commands.fetch(jobs, given, handle.id, None)
    assert (Path(folder) / WEIGHTS).is_file()
    assert "at most $1.20" in commands.list_jobs(jobs)[-1]
    with pytest.raises(DataError, match="cannot be cancelled"):
        commands.cancel(jobs, given, handle.id)


def test_cancel(server, sft, tmp_path):
    server.endings = ["stuck"]
    jobs, given = RemoteJobs(tmp_path / "jobs", KEY), options(server)
    handle = backend(server, tmp_path).launch(sft, tmp_path / "model", tmp_path)
    assert "cancel_requested" in commands.cancel(jobs, given, handle.id)[0]
    with pytest.raises(DataError, match="gave no model: cancelled"):
        commands.wait(jobs, given, handle.id)
    with pytest.raises(DataError, match="gave no model"):
        backend(server, tmp_path).fetch(handle)


def test_a_job_past_its_deadline_can_be_seen_and_cancelled(server, sft, tmp_path):
    server.endings = ["stuck"]
    jobs, given = RemoteJobs(tmp_path / "jobs", KEY), options(server, deadline_hours=1e-9)
    handle = backend(server, tmp_path).launch(sft, tmp_path / "model", tmp_path)
    assert "queued" in "\n".join(commands.show(jobs, given, handle.id))
    with pytest.raises(ServerError, match=f"kedro jobs cancel {handle.id}"):
        commands.wait(jobs, given, handle.id)
    assert "cancel_requested" in commands.cancel(jobs, given, handle.id)[0]
    for _ in range(2):
        shown = commands.show(jobs, given, handle.id)
    assert any(line.startswith("state       cancelled") for line in shown)
    assert server.jobs[handle.id].status == "cancelled"


def test_commands_on_a_job_that_may_have_been_created(server, sft, tmp_path):
    server.fail("create", "reset_after")
    server.fail("list", "status", 100, status=503, skip=1)
    with pytest.raises(ServerError):
        train(backend(server, tmp_path, attempts=2), sft, tmp_path)
    jobs, given = RemoteJobs(tmp_path / "jobs", KEY), options(server)
    key = jobs.all()[0].key
    says = "not known whether the job was created.*looks for the job before another one"
    assert re.search(says, commands.show(jobs, given, key)[-1])
    for command in (commands.wait, commands.cancel):
        with pytest.raises(DataError, match=f"(?s){says}"):
            command(jobs, given, key)
    with pytest.raises(DataError, match=f"(?s){says}"):
        commands.fetch(jobs, given, key, None)


def test_commands_on_a_job_that_was_never_created(server, sft, tmp_path):
    with pytest.raises(GateError):
        train(backend(server, tmp_path, budget_usd=0), sft, tmp_path)
    jobs, given = RemoteJobs(tmp_path / "jobs", KEY), options(server)
    key = jobs.all()[0].key
    assert "not created yet; nothing was paid" in commands.show(jobs, given, key)[-1]
    for command in (commands.wait, commands.cancel):
        with pytest.raises(DataError, match="not created yet"):
            command(jobs, given, key)


def test_an_address_with_a_path_is_refused():
    from tracetune.backends import TogetherOptions

    with pytest.raises(ValueError, match="without a path"):
        TogetherOptions(base_url="https://api.together.ai/v1")


def test_the_server_unreachable_is_a_clear_error(server, sft, tmp_path):
    chosen = backend(server, tmp_path, base_url="http://127.0.0.1:9", attempts=2)
    with pytest.raises(ServerError, match="no connection"):
        train(chosen, sft, tmp_path)
    assert MODEL not in server.calls
