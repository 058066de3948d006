"""Too little telemetry, from a waiting run through people to a trained and judged adapter.

The tenant ``small`` has fifteen approved spans. People review in a real terminal or in a real
Phoenix; text is written by the offline generator, or by the real SDK of Anthropic against the
strict local server.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.llm.anthropic_server import KEY, running_server
from tests.phoenix_server import Server
from tests.project import EMBEDDED, Project, copy_project
from tests.review.terminal import Terminal
from tracetune.records import Example, Preference
from tracetune.review.items import Correction, ReviewedItem
from tracetune.review.phoenix_place import span_id
from tracetune.review.store import ReviewStore
from tracetune.runs import utc_now
from tracetune.splits import SplitManifest

pytestmark = pytest.mark.training

ROWS = "--to-nodes=" + ",".join(
    f"auto.{node}"
    for node in ("real.select_rows", "sft.select_rows", "dpo.select_rows", "prepare.select_test")
)
"""Up to the rows to train on: what comes after them is the same wherever people decided."""


@pytest.fixture(scope="module")
def desk(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One copy of the project for the reviews of this file, which have names of their own."""
    return copy_project(tmp_path_factory.mktemp("desk") / "project", finished.path / EMBEDDED)


def auto(
    project: Project, name: str, params: str = "", *, until: str = ""
) -> subprocess.CompletedProcess[str]:
    done = project.run(
        "--pipeline=auto",
        *([until] if until else []),
        params=",".join(filter(None, [f"tenant=small,name={name}", params])),
    )
    assert done.returncode == 0, done.stdout
    return done


def latest(project: Project, name: str, layer: str, dataset: str) -> Path:
    return project.latest(layer, dataset, f"small/{name}/auto")


def document(project: Project, name: str, layer: str, dataset: str) -> Any:
    return json.loads(latest(project, name, layer, dataset).read_text())


def rows(project: Project, name: str, layer: str, dataset: str, record: type) -> list[Any]:
    lines = latest(project, name, layer, dataset).read_text().splitlines()
    return [record.model_validate_json(line) for line in lines]


def store(project: Project, name: str) -> ReviewStore:
    return ReviewStore(project.path / f"data/test/reviews/small/{name}")


def assert_waiting(project: Project, name: str, output: str) -> None:
    decision = document(project, name, "05_model_input", "decision.json")
    assert decision["method"] == "waiting"
    status = latest(project, name, "06_models", "release/adapter") / "status.json"
    assert json.loads(status.read_text())["status"] == "waiting"
    assert f"kedro run --pipeline=auto --env=test --params=tenant=small,name={name}" in output
    report = latest(project, name, "08_reporting", "report.html").read_text()
    assert "candidates wait for people" in report


def assert_rows_are_what_was_approved(project: Project, name: str) -> list[ReviewedItem]:
    """Nothing unapproved got in, everything approved did, as it was approved."""
    reviewed = store(project, name).items()
    approved = {found.item.id: found.final for found in reviewed if found.state == "approved"}
    train = rows(project, name, "05_model_input", "sft/train.jsonl", Example)
    written = [row for row in train if row.provenance.source == "synthetic"]
    assert {row.provenance.ids["item_id"] for row in written} == set(approved)
    for row in written:
        item = approved[row.provenance.ids["item_id"]]
        assert (row.prompt, row.completion) == (item.prompt, item.answer)
    pairs = rows(project, name, "05_model_input", "dpo/train.jsonl", Preference)
    wanted = {key: item for key, item in approved.items() if item.rejected is not None}
    assert {row.provenance.ids["item_id"] for row in pairs} == set(wanted)
    assert all(row.rejected == wanted[row.provenance.ids["item_id"]].rejected for row in pairs)
    real = rows(project, name, "05_model_input", "real/train.jsonl", Example)
    assert real == [row for row in train if row.provenance.source == "phoenix"]
    test = rows(project, name, "05_model_input", "test.jsonl", Example)
    assert {row.provenance.source for row in test} == {"phoenix"}
    return reviewed


def assert_trained_and_judged(project: Project, name: str) -> None:
    for stage in ("real", "sft", "dpo"):
        folder = latest(project, name, "06_models", f"{stage}/adapter")
        assert json.loads((folder / "status.json").read_text())["status"] == "trained"
    metrics = document(project, name, "08_reporting", "metrics.json")
    assert metrics["status"] == "judged"
    assert {"base", "real", "sft", "dpo", "majority", "nearest"} <= set(metrics["models"])
    assert {"base", "real"} <= set(metrics["comparisons"])
    report = latest(project, name, "08_reporting", "report.html").read_text()
    assert "Without synthetic rows (SFT on the real rows alone)" in report
    distance = document(project, name, "08_reporting", "synthetic.json")["distance"]
    assert distance["status"] == "compared"
    assert distance["real"]["n"] == 9


def test_candidates_wait_people_decide_in_the_terminal_and_the_next_run_trains(desk):
    name = "terminal"
    first = auto(desk, name)
    assert_waiting(desk, name, first.stdout)
    assert f"kedro review --tenant=small --name={name}" in first.stdout
    total = len(store(desk, name).items())
    assert total >= 41
    assert "offline generator" in first.stdout
    held = {
        row.prompt[-1].content for row in rows(desk, name, "05_model_input", "test.jsonl", Example)
    }
    assert held
    nearest = {near.text for found in store(desk, name).items() for near in found.item.nearest}
    assert nearest
    assert not held & nearest

    # A second run before anybody decided writes nothing more.
    auto(desk, name)
    assert len(store(desk, name).items()) == total

    terminal = Terminal(desk, "--env=test", "--tenant=small", f"--name={name}")
    terminal.sees(f"1 of {total}")
    terminal.keys("r")
    terminal.sees("Why is it rejected?")
    terminal.keys("nobody talks like that", "\r")
    for decided in range(1, total):
        terminal.sees(f"{total - decided} open")
        terminal.keys("a")
    terminal.sees("0 open")
    terminal.keys("q")
    said = terminal.ends()
    assert "kedro run --pipeline=auto" in said
    counts = store(desk, name).counts()
    assert (counts["approved"], counts["rejected"]) == (total - 1, 1)

    second = auto(desk, name)
    reviewed = assert_rows_are_what_was_approved(desk, name)
    assert_trained_and_judged(desk, name)
    assert "Accuracy" in second.stdout
    assert {event.who for event in store(desk, name).history()} == {"rule", "ada"}
    [rejected] = [found for found in reviewed if found.state == "rejected"]
    assert rejected.why == "nobody talks like that"


@pytest.mark.phoenix
def test_people_decide_in_phoenix_and_the_next_run_takes_that(desk, phoenix_server: Server):
    name = "phoenix"
    place = f"review.place=phoenix,review.url={phoenix_server.url}"
    first = auto(desk, name, place)
    assert_waiting(desk, name, first.stdout)
    assert f"annotate the spans of small-{name}-review at {phoenix_server.url}" in first.stdout
    items = [found.item for found in store(desk, name).items()]
    project = f"small-{name}-review"
    verdicts = [
        {
            "span_id": span_id(project, item.id),
            "name": "human_approval",
            "annotator_kind": "HUMAN",
            "identifier": "grace",
            "result": {"label": "approved" if number else "rejected", "explanation": "stiff"},
        }
        for number, item in enumerate(items)
    ]
    answer = httpx.post(
        f"{phoenix_server.url}/v1/span_annotations?sync=true", json={"data": verdicts}, timeout=60
    )
    answer.raise_for_status()
    auto(desk, name, place, until=ROWS)
    assert f"review.place=phoenix,review.url={phoenix_server.url}" in first.stdout
    reviewed = assert_rows_are_what_was_approved(desk, name)
    assert {found.who for found in reviewed} == {"grace"}
    assert [found.state for found in reviewed].count("rejected") == 1


def approve_all(project: Project, name: str) -> None:
    reviews = store(project, name)
    for found in reviews.open_items():
        reviews.decide(found.item.id, True, who="ada", place="terminal", at=utc_now())


def test_a_large_model_writes_is_paid_once_and_its_key_is_nowhere(desk):
    name = "claude"
    credentials = desk.path / "conf/local/credentials.yml"
    credentials.write_text(f"anthropic: {{api_key: {KEY}}}\n")
    with running_server() as server:
        params = f"llm.provider=anthropic,llm.base_url={server.url},llm.poll_seconds=0.05"
        first = auto(desk, name, params)
        assert_waiting(desk, name, first.stdout)
        assert "Anthropic claude-haiku-5-5" in first.stdout
        assert server.paid_twice() == 0
        paid = len(server.paid)
        assert paid > 0
        # Started again without the candidates: everything is taken from the kept replies.
        (desk.path / f"data/test/reviews/small/{name}").rename(desk.path / "gone")
        again = auto(desk, name, params)
        assert_waiting(desk, name, again.stdout)
        assert (server.paid_twice(), len(server.paid)) == (0, paid)
        kept, lost = (
            (path / "items.jsonl").read_bytes()
            for path in (desk.path / f"data/test/reviews/small/{name}", desk.path / "gone")
        )
        assert kept == lost
        approve_all(desk, name)
        auto(desk, name, params, until=ROWS)
        assert len(server.paid) == paid
    assert_rows_are_what_was_approved(desk, name)
    credentials.unlink()

    manifests = sorted(
        (desk.path / f"data/test/08_reporting/small/{name}/auto/runs").glob("*.json")
    )
    spending = [json.loads(path.read_text())["spending"] for path in manifests]
    assert spending[0]["run"]["usd"] > 0
    assert [found["run"]["usd"] for found in spending[1:]] == [0, 0]
    assert {found["all_runs"]["usd"] for found in spending} == {spending[0]["run"]["usd"]}
    for path in desk.path.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    for run in (first, again):
        assert KEY not in run.stdout


def test_rejected_candidates_are_written_anew_by_the_next_run(desk):
    name = "anew"
    auto(desk, name)
    reviews = store(desk, name)
    before = reviews.items()
    for found in reviews.open_items():
        reviews.decide(
            found.item.id, False, who="ada", place="terminal", at=utc_now(), why="too stiff"
        )
    output = auto(desk, name).stdout
    assert_waiting(desk, name, output)
    found = store(desk, name).items()
    again = [item for item in found if item.state == "regenerated"]
    assert again
    assert {item.item.root for item in again} <= {item.item.id for item in before}
    assert {item.item.attempt for item in again} == {1}
    train = rows(desk, name, "05_model_input", "sft/train.jsonl", Example)
    assert {row.provenance.source for row in train} == {"phoenix"}


def test_a_dry_run_writes_nothing_and_says_what_it_would(desk):
    name = "dry"
    output = auto(desk, name, "dry_run=true,llm.provider=anthropic").stdout
    assert not (desk.path / f"data/test/reviews/small/{name}").exists()
    assert document(desk, name, "04_feature", "need.json")["state"] == "write"
    assert "Would write 52 new candidates" in output
    assert 0 < document(desk, name, "08_reporting", "generation.json")["most_usd"] < 1


def test_a_held_out_message_that_a_reviewer_writes_is_dropped_as_near_test(desk):
    name = "leak"
    auto(desk, name)
    held = rows(desk, name, "05_model_input", "test.jsonl", Example)[0]
    reviews = store(desk, name)
    first = reviews.open_items()[0]
    reviews.decide(
        first.item.id,
        True,
        who="ada",
        place="terminal",
        at=utc_now(),
        correction=Correction(request=held.prompt[-1].content),
    )
    approve_all(desk, name)
    auto(desk, name, until=ROWS)
    splits = SplitManifest.model_validate(document(desk, name, "05_model_input", "splits.json"))
    dropped = [place for place in splits.rows.values() if place.reason == "near_test"]
    assert {place.group for place in dropped} == {f"synthetic:{first.item.root}"}
    train = rows(desk, name, "05_model_input", "sft/train.jsonl", Example)
    assert held.prompt[-1] not in [row.prompt[-1] for row in train]
