"""A hosted base without a copy on this machine: what is known, checked, priced and refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.backends.endpoint_helpers import ask, finished_jobs, folders
from tests.backends.helpers import MODEL, backend, options, train
from tests.backends.together_server import KEY, Server, running_server
from tests.training.helpers import TINY, dpo_job, examples, pairs
from tracetune.backends.endpoint_records import EndpointRecord
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_check import check_lines
from tracetune.backends.together_models import choose, table
from tracetune.backends.together_options import TogetherOptions
from tracetune.backends.together_prices import Price, price, price_lines
from tracetune.errors import ConfigurationError, DataError, ServerError
from tracetune.evaluation.generate import load_generator
from tracetune.files import read_json, write_json
from tracetune.pipelines.answering import askable, check_places, why_unasked
from tracetune.pipelines.judgement_stage import collect_adapters
from tracetune.pipelines.prepare_stage import resolve_base, resolve_previous_cli
from tracetune.runs import no_release
from tracetune.training import base as base_model
from tracetune.training.base import TOKENIZER_FILES, BaseModelRef
from tracetune.training.job import TrainingJob, build_job, write_dataset
from tracetune.training.options import BaseModelOptions, SftOptions
from tracetune.training.preflight import inspect


def hosted(local: Path | str | None = None, **changes: Any) -> BaseModelRef:
    chosen = BaseModelOptions(id=MODEL, local=None if local is None else str(local), **changes)
    return base_model.resolve(chosen, Path("nowhere"), hosted=True)


@pytest.fixture(scope="module")
def tokenizer(base: BaseModelRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer of the base alone."""
    folder = tmp_path_factory.mktemp("tokenizer")
    for name in TOKENIZER_FILES:
        if (Path(base.path) / name).is_file():
            shutil.copy(Path(base.path) / name, folder)
    return folder


def on(base: BaseModelRef, job: TrainingJob) -> TrainingJob:
    return job.model_copy(update={"base": base})


# What is known ---------------------------------------------------------------------------------


def test_a_hosted_base_says_what_it_does_not_know(base: BaseModelRef, tokenizer: Path) -> None:
    bare = hosted()
    assert (bare.kind, bare.path, bare.id, bare.hosted) == ("hosted", "", MODEL, MODEL)
    assert {bare.weights_sha256, bare.tokenizer_sha256, bare.template_sha256} == {"unknown"}
    assert bare.parameters is None
    told = hosted(tokenizer)
    assert (told.kind, told.weights_sha256) == ("hosted", "unknown")
    assert told.tokenizer_sha256 == base.tokenizer_sha256
    assert told.template_sha256 == base.template_sha256
    copy = hosted(base.path)
    assert (copy.kind, copy.hosted) == ("local", MODEL)
    assert copy.weights_sha256 == base.weights_sha256
    with pytest.raises(ConfigurationError, match="whose revision the service chooses"):
        hosted(revision="main")
    with pytest.raises(ConfigurationError, match=r"base_model\.local"):
        hosted("/nowhere/at/all")


def test_only_the_service_trains_what_is_not_here(tmp_path: Path) -> None:
    bare = hosted()
    for call in (
        lambda: base_model.verify(bare),
        lambda: base_model.load_model(bare),
        lambda: base_model.load_tokenizer(bare),
        lambda: load_generator(bare.path, {}, weights_sha256=bare.weights_sha256),
    ):
        with pytest.raises(ConfigurationError, match="its weights are not on this machine"):
            call()
    found = resolve_previous_cli(tmp_path, bare.model_dump(mode="json"), {})
    assert found["path"] is None
    assert "cannot be compared" in found["reason"]
    chosen = BaseModelOptions(id=MODEL)
    assert resolve_base(chosen, TINY, [], tmp_path, "together") == bare.model_dump(mode="json")
    # A folder is a folder, whoever trains.
    with pytest.raises(ConfigurationError, match="there is no folder"):
        base_model.resolve(BaseModelOptions(id="./gone"), tmp_path, TINY, hosted=True)


def test_hosted_models_are_asked_only_where_that_is_wanted(base: BaseModelRef) -> None:
    bare, copy = (ref.model_dump(mode="json") for ref in (hosted(), hosted(base.path)))
    reason = why_unasked(bare, TogetherOptions())
    assert MODEL in reason
    assert "base_model.local" in reason
    assert "together.judge_on=endpoint" in reason
    assert why_unasked(bare, TogetherOptions(judge_on="endpoint")) == ""
    assert why_unasked(copy, TogetherOptions()) == ""


def test_places_that_do_not_go_together_are_refused_before_anything_is_done(
    base: BaseModelRef,
) -> None:
    chosen, endpoint = BaseModelOptions(id=MODEL), TogetherOptions(judge_on="endpoint")
    with pytest.raises(ConfigurationError, match="has only what was trained there"):
        check_places("local", chosen, endpoint)
    copy = BaseModelOptions(id=base.path)
    for nameless in (BaseModelOptions(id="embedded"), copy):
        with pytest.raises(ConfigurationError, match="no hosted model is known"):
            check_places("together", nameless, TogetherOptions())
    check_places("local", copy, TogetherOptions())
    check_places("together", chosen, endpoint)
    check_places("together", copy, TogetherOptions(model=MODEL))


def test_an_earlier_adapter_that_no_endpoint_has_is_not_asked_there(tmp_path: Path) -> None:
    here, there = folders(tmp_path)["sft"], tmp_path / "local"
    write_json(there / "manifest.json", {"remote": None})
    known, other = (
        {**no_release(""), "path": str(path), "pipeline": "twin", "version": "v1"}
        for path in (here, there)
    )
    assert askable(known, "endpoint") == known
    assert askable(other, "local") == other
    stages = {"sft_adapter": here, "sft_plan": {"job": {}}}
    write_json(here / "status.json", {"status": "trained"})
    found = collect_adapters(other, {}, None, stages, "", "endpoint")
    assert list(found["adapters"]) == ["sft"]
    assert found["previous"]["path"] is None
    assert "was not trained at Together AI" in found["previous"]["reason"]
    found = collect_adapters(known, {}, None, stages, "", "endpoint")
    assert list(found["adapters"]) == ["previous", "sft"]


def test_the_hosted_model_is_the_named_one(base: BaseModelRef, sft: TrainingJob) -> None:
    assert choose(on(hosted(), sft), None) == MODEL
    assert choose(on(hosted(base.path), sft), None) == MODEL
    turbo = BaseModelOptions(id="meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo")
    wrong = base_model.resolve(turbo, Path("nowhere"), hosted=True)
    with pytest.raises(ConfigurationError, match=r"Meta-Llama-3\.1-8B-Instruct-Reference"):
        choose(on(wrong, sft), None)


# Preflight -------------------------------------------------------------------------------------


def test_without_a_tokenizer_the_preflight_says_what_it_did_not_check(tokenizer: Path) -> None:
    rows = examples(12)
    bare = inspect(rows, [], hosted(), "sft", SftOptions())
    assert bare.counted_by == "bytes"
    assert bare.passed
    assert (bare.end_untrained, bare.bos_doubled, bare.prompt_mismatch) == (None, None, None)
    names = [gate.name for gate in bare.gates]
    assert names == ["rows", "over_length", "dropped", "lost_completion", "duplicates", "tokenizer"]
    assert "tokens are estimated from bytes" in bare.gates[-1].text
    told = inspect(rows, [], hosted(tokenizer), "sft", SftOptions())
    assert told.counted_by == "tokenizer"
    assert "end_of_turn" in [gate.name for gate in told.gates]
    # Rather too many tokens than too few.
    assert bare.total_tokens >= 0.5 * told.total_tokens


# Training --------------------------------------------------------------------------------------


def test_one_job_with_and_without_a_copy(
    server: Server, base: BaseModelRef, sft: TrainingJob, tmp_path: Path
) -> None:
    bare, copy = on(hosted(), sft), on(hosted(base.path), sft)
    folder = train(backend(server, tmp_path, model=None), bare, tmp_path)
    manifest = read_json(folder / "manifest.json")
    assert manifest["base"]["weights_sha256"] == "unknown"
    assert manifest["template_probes"] == {}
    assert manifest["vllm"]["serves"] is None
    assert not (folder / "tokenizer.json").exists()
    folder = train(backend(server, tmp_path, model=None), copy, tmp_path)
    manifest = read_json(folder / "manifest.json")
    assert manifest["base"]["weights_sha256"] == base.weights_sha256
    assert manifest["vllm"]["serves"]
    assert (folder / "tokenizer.json").exists()
    assert server.paid() == 1
    assert server.calls.count("download") == 1


def test_dpo_goes_on_from_the_same_hosted_base_only(server: Server, tmp_path: Path) -> None:
    write_dataset(tmp_path / "rows", examples(16), [])
    given = {"trainer": {"num_train_epochs": 1, "per_device_train_batch_size": 8}}
    first = build_job(
        "sft",
        base=hosted(),
        dataset=tmp_path / "rows",
        stage=SftOptions.model_validate(given),
        seed=1,
    )
    model = train(backend(server, tmp_path, model=None), first, tmp_path)
    write_dataset(tmp_path / "pairs", pairs(16), [])
    other = BaseModelOptions(id="Qwen/Qwen3-1.7B")
    for ref, fits in (
        (hosted(), True),
        (base_model.resolve(other, tmp_path, hosted=True), False),
    ):
        make = {"dataset": tmp_path / "pairs", "stage": SftOptions.model_validate(given)}
        if fits:
            made = build_job("dpo", base=ref, seed=1, start_from=model, **make)
            assert made.start_from is not None
            continue
        with pytest.raises(DataError, match="another base model"):
            build_job("dpo", base=ref, seed=1, start_from=model, **make)


def test_a_guess_leaves_no_row_out(server: Server, sft: TrainingJob, tmp_path: Path) -> None:
    short = {**sft.trainer, "max_length": 40}
    bare = on(hosted(), sft).model_copy(update={"trainer": short, "over_length": "drop"})
    with pytest.raises(DataError, match="more than the 40 that fit") as error:
        backend(server, tmp_path, model=None).launch(bare, tmp_path / "out", tmp_path / "work")
    assert "base_model.local can name the model's tokenizer" in str(error.value)
    assert server.calls == []


# Prices ----------------------------------------------------------------------------------------


def priced(job: TrainingJob, tmp_path: Path, **changes: Any) -> Price:
    given = TogetherOptions(**{"model": MODEL} | changes)
    return price(job, given, RemoteJobs(tmp_path, None), "dpo.sft")


def test_a_price_by_the_table(sft: TrainingJob, tmp_path: Path) -> None:
    found = priced(sft, tmp_path)
    rate = table().rate(MODEL)
    assert rate is not None
    assert (rate.least, rate.most) == (0.48, 1.35)
    assert found.tokens == found.epochs * found.train_tokens
    assert found.counted_by == "tokenizer"
    assert found.least_usd == pytest.approx(found.tokens * 0.48 / 1e6, abs=1e-4)
    whole = priced(sft, tmp_path, packing=False)
    assert whole.train_tokens == found.rows["train.jsonl"] * sft.trainer["max_length"]
    lines = price_lines([("sft", found)])
    assert f"SFT at Together AI ({MODEL}): 2 epochs x {found.train_tokens:,} tokens" in lines[0]
    assert "2026-05-08" in lines[1]
    assert "Budget: $10.00" in lines[2]
    assert "above the budget" in price_lines([("sft", priced(sft, tmp_path, budget_usd=0))])[-1]


def test_a_job_that_is_paid_is_not_priced_again(
    server: Server, base: BaseModelRef, sft: TrainingJob, tmp_path: Path
) -> None:
    given, jobs = options(server), RemoteJobs(tmp_path / "jobs", KEY)
    before = price(sft, given, jobs, "dpo.sft")
    assert before.paid == ""
    assert (before.least_usd or 0) > 0
    folder = train(backend(server, tmp_path), sft, tmp_path)
    [record] = jobs.all()
    found = price(sft, given, jobs, "dpo.sft")
    assert (found.paid, found.least_usd, found.most_usd) == (record.id, 0.0, 0.0)
    line = price_lines([("sft", found)])[0]
    assert "already paid" in line
    assert record.id in line
    # A dry run plans DPO without the adapter that it will go on from.
    planned, real = (
        dpo_job(base, tmp_path / "pairs", start, per_device_train_batch_size=8)
        for start in (None, folder)
    )
    assert price(planned, given, jobs, "dpo.dpo").paid == ""
    second = train(backend(server, tmp_path), real, tmp_path / "second")
    made = read_json(second / "manifest.json")["remote"]["id"]
    assert price(planned, given, jobs, "dpo.dpo").paid == made != record.id
    jobs.save(record, state="failed")
    assert price(sft, given, jobs, "dpo.sft").paid == ""


def test_a_dry_run_tells_of_the_endpoint(sft: TrainingJob, tmp_path: Path) -> None:
    assert "Endpoint" not in " ".join(price_lines([("sft", priced(sft, tmp_path))]))
    first = price_lines([("sft", priced(sft, tmp_path, judge_on="endpoint"))])
    assert "billed for at most 90 minutes" in first[-2]
    RemoteJobs(tmp_path, None).endpoints.save(
        EndpointRecord(
            base_url=None,
            project="p",
            name="tt-01234567-01234567",
            usd_per_hour=3.99,
            hardware="h",
            minutes=60,
            intended_at="2026-11-20T00:00:00Z",
        )
    )
    told = price_lines([("sft", priced(sft, tmp_path, judge_on="endpoint"))])
    assert "at most $5.99, for 90 minutes at $3.99 an hour" in told[-2]


def test_every_model_of_the_table_has_a_rate() -> None:
    known = table()
    assert all(known.rate(row.id) for row in known.models)
    assert known.rate("Qwen/Qwen3-32B").least == 1.5  # type: ignore[union-attr]
    assert known.rate("Qwen/Qwen2.5-72B-Instruct").least == 2.9  # type: ignore[union-attr]


def test_a_model_without_a_rate_says_so(sft: TrainingJob, tmp_path: Path) -> None:
    found = priced(sft, tmp_path, model="acme/new-9B")
    assert (found.least_usd, found.most_usd) == (None, None)
    assert "not known before the upload" in price_lines([("sft", found)])[1]


def test_a_pair_is_counted_with_both_answers() -> None:
    def says(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    line = {"input": {"messages": [{"role": "user", "content": "abc"}]}}
    line |= {"preferred_output": says("12345"), "non_preferred_output": says("1")}
    report = check_lines([line], "dpo", longest=99, count=len)
    assert (report.tokens, report.longest) == (3 + 8 + 5 + 8 + 1 + 8, 3 + 8 + 5 + 8)


# Left-over endpoints ---------------------------------------------------------------------------


def test_the_next_training_deletes_what_a_judgement_left_over(
    base: BaseModelRef, sft: TrainingJob, tmp_path: Path
) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    with running_server(project="proj-1") as server:
        finished_jobs(server)
        server.fail("delete_endpoint", "status", times=99, status=503)
        with pytest.raises(ServerError):
            ask(options(server), jobs, folders(tmp_path))
        assert server.hosting.endpoints
        chosen = backend(server, tmp_path)
        chosen.launch(sft, tmp_path / "out", tmp_path / "work")  # told, and training goes on
        assert server.hosting.endpoints
        server.faults.clear()
        chosen.launch(sft, tmp_path / "out", tmp_path / "work")
        assert server.hosting.endpoints == {}
        assert jobs.endpoints.open() == []
