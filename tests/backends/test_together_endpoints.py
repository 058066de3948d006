"""Models asked at an endpoint: the same answers after every fault, and no endpoint is left over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.endpoint_helpers import (
    PROMPTS,
    ask,
    conversation,
    finished_jobs,
    folders,
    said,
)
from tests.backends.helpers import options
from tests.backends.together_server import KEY, Server, running_server
from tracetune.backends import commands
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_host import together_host
from tracetune.errors import ConfigurationError, DataError, GateError, ServerError, TracetuneError
from tracetune.evaluation.hosted import HostedGenerator
from tracetune.files import write_json

pytestmark = pytest.mark.faults
CREATIONS = ("create_endpoint", "deploy")
CALLS = (
    *("whoami", "job", "registered", "configs", "hardware", "endpoints", "deployments"),
    *("deployment", "chat", "stop", "delete_deployment", "delete_endpoint"),
)


@pytest.fixture
def hosting() -> Iterator[Server]:
    with running_server(project="proj-1") as server:
        finished_jobs(server)
        yield server


def clean(server: Server, jobs: RemoteJobs) -> None:
    """Nothing is left at the service, and the records say so."""
    assert (server.hosting.endpoints, server.hosting.billed()) == ({}, 0)
    assert jobs.endpoints.open() == []


def test_base_and_adapters_answer_and_the_endpoint_is_gone(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    found = ask(options(hosting), jobs, folders(tmp_path))
    assert found == said()
    clean(hosting, jobs)
    assert (hosting.hosting.created, hosting.hosting.deployments) == (1, 3)
    [record] = jobs.endpoints.all()
    assert record.hardware == "1xnvidia-h100-80gb"  # the cheapest of the three
    assert record.usd_per_hour == 3.99
    assert 0 < (record.usd or 0) == jobs.spent() < 0.2
    assert KEY not in (jobs.endpoints.folder / f"{record.name}.json").read_text()


def test_answers_that_came_are_not_paid_for_again(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    ask(options(hosting), jobs, folders(tmp_path))
    before = list(hosting.calls)
    assert ask(options(hosting), jobs, folders(tmp_path)) == said()
    assert hosting.calls == before


def test_texts_are_redacted_unless_told_otherwise(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    secret = ["write to jane.doe@example.com"]
    ask(options(hosting), jobs, folders(tmp_path), prompts=secret)
    assert {text for _, text in hosting.hosting.asked} == {"write to <EMAIL>"}
    ask(options(hosting, redact=False), jobs, folders(tmp_path), prompts=secret)
    assert "write to jane.doe@example.com" in {text for _, text in hosting.hosting.asked}
    clean(hosting, jobs)


def test_sampled_answers_have_seeds_of_their_own(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    with together_host(folders(tmp_path), options(hosting), jobs) as host:
        found = HostedGenerator(("sft", "dpo"), host).sampled(
            "sft",
            [conversation("a"), conversation("b")],
            [1.0, 1.0, 0.3],
            seed=1,
            max_new_tokens=5,
            batch_size=2,
        )
    assert [len(each) for each in found] == [3, 3]
    assert len({(body["temperature"], body["seed"]) for body in hosting.hosting.bodies}) == 6
    clean(hosting, jobs)


@pytest.mark.parametrize("call", [*CALLS, *CREATIONS])
@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "html", "malformed", "busy"])
def test_every_call_may_fail_once(hosting: Server, tmp_path: Path, call: str, kind: str) -> None:
    if kind == "busy":
        hosting.fail(call, "status", status=429, headers={"retry-after": "0"})
    else:
        hosting.fail(call, kind)
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    assert ask(options(hosting), jobs, folders(tmp_path)) == said()
    clean(hosting, jobs)
    assert (hosting.hosting.created, hosting.hosting.deployments) == (1, 3)


@pytest.mark.parametrize("call", [*CREATIONS, "deployment", "chat"])
def test_a_call_that_fails_for_good_leaves_nothing(
    hosting: Server, tmp_path: Path, call: str
) -> None:
    hosting.fail(call, "status", times=99, status=500)
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    with pytest.raises(ServerError):
        ask(options(hosting), jobs, folders(tmp_path))
    clean(hosting, jobs)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_deletes_the_endpoint(
    hosting: Server, tmp_path: Path, raised: type[BaseException]
) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)

    def stop(_: int) -> None:
        if hosting.hosting.asked:
            raise raised

    with pytest.raises(raised):
        ask(options(hosting), jobs, folders(tmp_path), advance=stop)
    clean(hosting, jobs)


def test_a_deletion_that_fails_is_told_and_done_by_the_next(
    hosting: Server, tmp_path: Path
) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    hosting.fail("delete_endpoint", "status", times=99, status=503)
    with pytest.raises(ServerError, match="may be open and billed") as error:
        ask(options(hosting), jobs, folders(tmp_path))
    assert "kedro jobs cleanup" in str(error.value)
    assert hosting.hosting.billed() == 0  # its replicas were taken away first
    [record] = jobs.endpoints.open()
    assert any("kedro jobs cleanup" in line for line in commands.list_jobs(jobs))
    hosting.faults.clear()
    assert commands.cleanup(jobs, options(hosting))[0].startswith(f"{record.name} is deleted")
    clean(hosting, jobs)
    assert commands.cleanup(jobs, options(hosting)) == ["no endpoint is open"]


def test_cleanup_waits_for_nobody_who_still_asks(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    refused: list[str] = []

    def meanwhile(_: int) -> None:
        if hosting.hosting.asked and not refused:
            with pytest.raises(TracetuneError) as error:
                commands.cleanup(jobs, options(hosting))
            refused.append(str(error.value))

    ask(options(hosting), jobs, folders(tmp_path), advance=meanwhile)
    assert "another run is at work" in refused[0]
    clean(hosting, jobs)


def test_a_record_of_another_address_is_left_to_that_one(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    with running_server(project="proj-1") as other:
        finished_jobs(other)
        other.fail("delete_endpoint", "status", times=99, status=503)
        with pytest.raises(ServerError):
            ask(options(other), jobs, folders(tmp_path))
        assert ask(options(hosting), jobs, folders(tmp_path)) == said()
        assert [record.base_url for record in jobs.endpoints.open()] == [other.url]
        other.faults.clear()
        commands.cleanup(jobs, options(hosting))
        clean(other, jobs)
    clean(hosting, jobs)


def test_the_budget_holds_for_endpoints_too(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    # 60 minutes and 30 idle ones at $3.99 an hour
    with pytest.raises(GateError, match=r"may cost \$5.99"):
        ask(options(hosting, budget_usd=5.98), jobs, folders(tmp_path))
    assert hosting.hosting.created == 0
    assert jobs.endpoints.all() == []
    ask(options(hosting, budget_usd=5.99), jobs, folders(tmp_path))
    clean(hosting, jobs)


def test_a_model_that_never_gets_ready_ends_with_the_time(hosting: Server, tmp_path: Path) -> None:
    hosting.hosting.ready_looks = None
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    with pytest.raises(ServerError, match="time of the endpoint is over"):
        ask(options(hosting, endpoint_minutes=0.01), jobs, folders(tmp_path))
    clean(hosting, jobs)


def test_what_cannot_be_hosted_says_so(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    hosting.hosting.fails = "no capacity"
    with pytest.raises(ServerError, match="no capacity"):
        ask(options(hosting), jobs, folders(tmp_path))
    hosting.hosting.fails = ""
    hosting.hosting.prices = {}
    with pytest.raises(ServerError, match="no configuration with a price"):
        ask(options(hosting), jobs, folders(tmp_path))
    local = tmp_path / "local"
    write_json(local / "manifest.json", {"method": "sft"})
    with pytest.raises(DataError, match="was not trained at Together AI"):
        ask(options(hosting), jobs, {"sft": local})
    hosting.project = None
    with pytest.raises(ConfigurationError, match=r"together\.project"):
        ask(options(hosting), jobs, folders(tmp_path))
    clean(hosting, jobs)


def test_a_kept_answer_that_was_cut_is_asked_again(hosting: Server, tmp_path: Path) -> None:
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    ask(options(hosting), jobs, folders(tmp_path))
    kept = jobs.endpoints.folder / "answers.jsonl"
    data = kept.read_bytes()
    kept.write_bytes(data[:-5])
    assert ask(options(hosting), jobs, folders(tmp_path)) == said()
    assert len(kept.read_bytes().splitlines()) == len(PROMPTS) * 3
    assert all(json.loads(line) for line in kept.read_bytes().splitlines())
    clean(hosting, jobs)
