"""What an endpoint answers, and fails to answer, as the judgement sees it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.backends.endpoint_helpers import conversation, finished_jobs, folders
from tests.backends.helpers import options
from tests.backends.together_server import KEY, Server, running_server
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_host import together_host
from tracetune.errors import ServerError
from tracetune.evaluation.generate import Answer
from tracetune.evaluation.hosted import HostedGenerator
from tracetune.records import Message


@pytest.fixture
def hosting() -> Iterator[Server]:
    with running_server(project="proj-1") as server:
        finished_jobs(server)
        yield server


def answers(
    server: Server, tmp_path: Path, prompts: Sequence[Sequence[Message]], at_once: int = 2
) -> list[Answer]:
    """What the SFT adapter answers."""
    jobs = RemoteJobs(tmp_path / "jobs", KEY)
    with together_host(folders(tmp_path), options(server), jobs) as host:
        return HostedGenerator(("sft", "dpo"), host).answers(
            "sft", prompts, max_new_tokens=5, batch_size=at_once
        )


def test_a_thought_is_no_part_of_the_answer(hosting: Server, tmp_path: Path) -> None:
    hosting.hosting.reply = lambda model, messages: "<think>\nShould I?\n</think>\n\nyes"
    [whole] = answers(hosting, tmp_path, [conversation("a")])
    assert (whole.text, whole.finish, whole.tokens) == ("yes", "stop", 3)
    hosting.hosting.finish = "length"
    hosting.hosting.reply = lambda model, messages: "<think>\nShould I? It could be"
    [cut] = answers(hosting, tmp_path, [conversation("b")])
    assert (cut.text, cut.finish) == ("", "length")
    # A service that keeps the thought apart has nothing else to say.
    hosting.hosting.reply = lambda model, messages: None
    [apart] = answers(hosting, tmp_path, [conversation("c")])
    assert (apart.text, apart.finish) == ("", "length")


def test_a_prompt_that_does_not_fit_is_not_answered(hosting: Server, tmp_path: Path) -> None:
    hosting.hosting.context = 60
    prompts = [conversation("a"), conversation("rain " * 20), conversation("b")]
    for _ in range(2):  # the second time nobody is asked
        found = answers(hosting, tmp_path, prompts)
        assert [answer.finish for answer in found] == ["stop", "too_long", "stop"]
        assert (found[1].text, found[1].tokens) == ("", 0)
    assert hosting.calls.count("chat") == 3
    # Any other refusal still ends the judgement.
    hosting.fail("chat", "status", times=99, status=400)
    with pytest.raises(ServerError, match="refuses asking the endpoint"):
        answers(hosting, tmp_path, [conversation("d")])


def test_what_tools_gave_is_sent_as_text(hosting: Server, tmp_path: Path) -> None:
    prompt = [
        Message(role="user", content="Which files are there?"),
        Message(role="assistant", content="list_files()"),
        Message(role="tool", content="a.py"),
        Message(role="tool", content="b.py of jane.doe@example.com"),
    ]
    [found] = answers(hosting, tmp_path, [prompt])
    assert found.finish == "stop"
    assert hosting.hosting.bodies[0]["messages"] == [
        {"role": "user", "content": "Which files are there?"},
        {"role": "assistant", "content": "list_files()"},
        {
            "role": "user",
            "content": "<tool_response>\na.py\n</tool_response>\n"
            "<tool_response>\nb.py of <EMAIL>\n</tool_response>",
        },
    ]


def test_answers_that_came_after_a_slow_one_are_kept(hosting: Server, tmp_path: Path) -> None:
    kept = RemoteJobs(tmp_path / "jobs", KEY).endpoints.folder / "answers.jsonl"
    hosting.fail("chat", "hold_before")
    seen: list[int] = []

    def look() -> None:
        until = time.monotonic() + 4
        while time.monotonic() < until and len(seen) < 2:
            seen[:] = range(len(kept.read_bytes().splitlines()) if kept.is_file() else 0)
            time.sleep(0.01)
        hosting.release.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    found = answers(hosting, tmp_path, [conversation(text) for text in ("a", "b", "c")])
    watcher.join()
    assert len(seen) == 2  # the others were on disk while one was under way
    assert [answer.finish for answer in found] == ["stop"] * 3
    assert len([json.loads(line) for line in kept.read_text().splitlines()]) == 3
