"""Fine-tuned models and their base, asked at an endpoint of Together AI.

Every answer is kept on this machine at once, so that a run that was cut off, or another node of the
same run, does not pay for it again. An endpoint is opened only for answers that are missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_calls import Answer as Reply
from tracetune.backends.together_endpoint import Endpoint, endpoint_service
from tracetune.backends.together_endpoint_calls import EndpointService
from tracetune.backends.together_hardware import choose_config, project_of
from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import DataError, ServerError
from tracetune.files import append_bytes, end_of_lines, read_json, sha256_json
from tracetune.hosted_calls import Ambiguous, Refused
from tracetune.privacy import redact_counted

Document = dict[str, Any]

_ANSWERS = "answers.jsonl"
_BASE = "base"
_FINISHES = ("stop", "eos", "length")
_TOO_LONG = re.compile(
    r"context[ _-](length|window|size|limit)|maximum context|max_(new_)?tokens`? must be <="
    r"|(prompt|input|request|messages?) (is|are) too long",
    re.IGNORECASE,
)
"""How services say that a question does not fit a model; there is no code for it alone."""


class TogetherHost:
    """Where the models of some jobs are asked, one after the other.

    Args:
        models: Id of the fine-tuning job of each adapter, by name.
        options: Parameters of Together AI.
        service: The API.
        endpoint: Where the models are deployed, one at a time.
        kept: File with the answers that came so far.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        options: TogetherOptions,
        service: EndpointService,
        endpoint: Endpoint,
        kept: Path,
    ) -> None:
        self._models = models
        self._options = options
        self._service = service
        self._endpoint = endpoint
        self._kept = kept
        self._known = _read(kept)
        self._config: Reply | None = None
        self._deployed: tuple[str, str] = ("", "")

    def ask(
        self,
        model: str | None,
        questions: Sequence[Document],
        at_once: int,
        advance: Callable[[int], None],
    ) -> list[Mapping[str, Any]]:
        """Answers of one model; what was answered before is not asked again.

        Args:
            model: Name of an adapter; None for the base.
            questions: Each with ``messages``, ``max_tokens``, ``temperature`` and ``seed``.
            at_once: Questions asked at once.
            advance: Called with the number of questions just answered.

        Returns:
            For each question ``text``, ``tokens`` and ``finish``.

        Raises:
            GateError: The endpoint may cost more than the budget has left.
            ServerError: The endpoint cannot be had, or does not answer.
        """
        sent = [self._sent(question) for question in questions]
        job = self._models[model] if model else f"{_BASE} of {next(iter(self._models.values()))}"
        keys = [sha256_json([job, question]) for question in sent]
        missing = {
            key: question
            for key, question in zip(keys, sent, strict=True)
            if key not in self._known
        }
        advance(sum(key in self._known for key in keys))
        if missing:
            self._fetch(self._deploy(model), missing, at_once, advance)
        return [self._known[key] for key in keys]

    def _sent(self, question: Document) -> Document:
        """A question as it leaves the machine."""
        messages = _without_tools(question["messages"])
        if self._options.redact:
            messages = [
                {**message, "content": redact_counted(message["content"])[0]}
                for message in messages
            ]
        return {**question, "messages": messages}

    def _fetch(
        self,
        name: str,
        missing: Mapping[str, Document],
        at_once: int,
        advance: Callable[[int], None],
    ) -> None:
        """Asks what is missing; every answer is on disk as soon as it has come."""
        pool = ThreadPoolExecutor(max(1, at_once))
        calls: dict[Future[Document], str] = {
            pool.submit(self._one, name, question): key for key, question in missing.items()
        }
        try:
            for call in as_completed(calls):
                self._keep(calls[call], call.result())
                advance(1)
        except BaseException:
            # The endpoint is billed: it is deleted now, not when calls under way have given up.
            pool.shutdown(wait=False, cancel_futures=True)
            for call, key in calls.items():
                came = call.done() and not call.cancelled() and call.exception() is None
                if came and key not in self._known:
                    self._keep(key, call.result())
            raise
        pool.shutdown()

    def _keep(self, key: str, answer: Document) -> None:
        self._known[key] = answer
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        with self._kept.open("ab+") as handle:
            handle.truncate(end_of_lines(handle.fileno()))
            line = json.dumps({"key": key, **answer}) + "\n"
            append_bytes(handle.fileno(), line.encode("utf-8"))

    def _one(self, name: str, question: Document) -> Document:
        self._endpoint.check_time()
        return self._service.again("asking the endpoint", lambda: self._once(name, question))

    def _once(self, name: str, question: Document) -> Document:
        try:
            return _answer(self._service.chat(name, **question))
        except Refused as error:
            if _TOO_LONG.search(str(error)):
                return {"text": "", "tokens": 0, "finish": "too_long"}
            raise

    def _deploy(self, model: str | None) -> str:
        """The name by which a model answers; it takes the place of the one before it."""
        label = f"m-{(model or _BASE).replace('_', '-')}"
        if self._deployed[0] != label:
            job = self._models[model] if model else next(iter(self._models.values()))
            tuned, base = self._resources(job)
            if self._config is None:
                project = project_of(self._service, self._options)
                self._config = choose_config(self._service, base.rsplit("/", 1)[-1], project)
            wanted = tuned if model else base
            self._deployed = (label, self._endpoint.deploy(label, wanted, self._config))
        return self._deployed[1]

    def _resources(self, job: str) -> tuple[str, str]:
        """Resource names of a fine-tuned model and of its base."""
        service = self._service
        found = service.again("a look at the job", lambda: service.job(job))
        model = found.get("model_object_id") or found.get("adapter_object_id")
        if not model:
            raise self._unhosted(job, "the service names no registered model of it")
        project = project_of(service, self._options)
        registered = service.again(
            "reading the model", lambda: service.registered(str(model), project)
        )
        base = registered.get("baseModel")
        if not base:
            raise self._unhosted(job, "the service does not say what its base is")
        return f"projects/{registered.get('projectId') or project}/models/{model}", str(base)

    def _unhosted(self, job: str, why: str) -> ServerError:
        return ServerError(
            f"the model of {job} cannot be asked at an endpoint: {why}",
            where=self._service.address,
            remedy="name a local copy of the base in base_model.local and set "
            "together.judge_on=local, or leave the models unjudged",
        )


@contextmanager
def together_host(
    adapters: Mapping[str, Path], options: TogetherOptions, jobs: RemoteJobs
) -> Iterator[TogetherHost]:
    """Models of adapters that were trained at Together AI; the endpoint is gone in the end.

    Args:
        adapters: Adapter folders by name.
        options: Parameters of Together AI.
        jobs: Jobs and endpoints of the tenant and name, and the key.

    Raises:
        DataError: An adapter was not trained at Together AI.
        ServerError: A left-over endpoint cannot be deleted.
    """
    models = {name: _known_job(name, folder) for name, folder in adapters.items()}
    key = sha256_json(["endpoint", options.base_url, sorted(models.values())])
    with (
        endpoint_service(options, jobs) as service,
        Endpoint(jobs, options, service, key) as endpoint,
    ):
        yield TogetherHost(models, options, service, endpoint, jobs.endpoints.folder / _ANSWERS)


def job_of(folder: Path) -> str | None:
    """The job at Together AI that trained an adapter; None if it was trained elsewhere."""
    manifest = folder / "manifest.json"
    made: Any = read_json(manifest).get("remote") if manifest.is_file() else None
    if not isinstance(made, dict) or made.get("backend") != "together":
        return None
    return str(made["id"])


def _known_job(name: str, folder: Path) -> str:
    found = job_of(folder)
    if found is None:
        raise DataError(
            f"the adapter {name!r} was not trained at Together AI, so no endpoint has it",
            where=str(folder),
            remedy="set together.judge_on=local",
        )
    return found


def _without_tools(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Messages in which what tools gave stands as text of the user.

    A message of a tool needs the id of a call, and rows hold the calls as texts without ids. Some
    templates write outputs of tools in the same way, several of them as one turn.
    """
    found: list[dict[str, str]] = []
    after_tool = False
    for message in messages:
        if message["role"] != "tool":
            found.append(dict(message))
        else:
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            if after_tool:
                text = f"{found.pop()['content']}\n{text}"
            found.append({"role": "user", "content": text})
        after_tool = message["role"] == "tool"
    return found


def _answer(reply: Reply) -> Document:
    """The answer in a reply."""
    try:
        [choice] = reply["choices"]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        tokens = reply["usage"]["completion_tokens"]
    except (KeyError, TypeError, ValueError):
        raise Ambiguous("a reply without one answer") from None
    # A service that keeps the thought apart says nothing else when the thought was cut.
    text = "" if text is None else text
    if not isinstance(text, str) or not isinstance(tokens, int) or finish not in _FINISHES:
        raise Ambiguous("a reply that is not an answer in words")
    return {"text": text, "tokens": tokens, "finish": finish}


def _read(path: Path) -> dict[str, Document]:
    """The answers that were kept; a last line that was cut does not count."""
    found: dict[str, Document] = {}
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row.pop("key")] = row
    return found
