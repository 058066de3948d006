"""Two adapters that were trained at the strict server, and questions to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.backends.helpers import MODEL
from tests.backends.together_hosting import BASE
from tests.backends.together_state import Job, Server
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_host import together_host
from tracetune.backends.together_options import TogetherOptions
from tracetune.evaluation.hosted import HostedGenerator
from tracetune.files import write_json
from tracetune.records import Message

JOBS = {"sft": "ft-0001-abcd", "dpo": "ft-0002-abcd"}
PROMPTS = ["Where is it?", "And now?", "Why?"]


def finished_jobs(server: Server) -> None:
    """Jobs that have ended well, without their way there."""
    for number in JOBS.values():
        body = {"training_file": "", "training_method": {}, "training_type": {}}
        moment = datetime(2026, 11, 20, tzinfo=UTC)
        server.jobs[number] = Job(number, body, MODEL, moment, 0, status="completed")


def folders(tmp_path: Path) -> dict[str, Path]:
    """Their model folders, as far as an endpoint needs them."""
    for name, number in JOBS.items():
        made = {"backend": "together", "id": number, "model": MODEL}
        write_json(tmp_path / name / "manifest.json", {"remote": made})
    return {name: tmp_path / name for name in JOBS}


def conversation(text: str) -> list[Message]:
    """A prompt."""
    return [Message(role="system", content="Answer."), Message(role="user", content=text)]


def ask(
    options: TogetherOptions,
    jobs: RemoteJobs,
    adapters: Mapping[str, Path],
    *,
    prompts: Sequence[str] = PROMPTS,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, list[str]]:
    """What base and adapters answer."""
    asked = [conversation(text) for text in prompts]
    with together_host(adapters, options, jobs) as host:
        generator = HostedGenerator(tuple(adapters), host)
        return {
            name: [
                answer.text
                for answer in generator.answers(
                    name, asked, max_new_tokens=5, batch_size=2, advance=advance
                )
            ]
            for name in ("base", *adapters)
        }


def said() -> dict[str, list[str]]:
    """What the server's models answer."""
    found = {"base": [f"{BASE}: yes"] * len(PROMPTS)}
    for name, number in JOBS.items():
        found[name] = [f"projects/proj-1/models/ml_{number}: yes"] * len(PROMPTS)
    return found
