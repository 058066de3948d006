"""Answers of models that Together AI hosts: the same questions, asked at an endpoint.

Every answer is kept on this machine at once, so that a run that was cut off, or another node of the
same run, does not pay for it again. An endpoint is opened only for answers that are missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from tracetune.evaluation.generate import BASE, Answer, Finish
from tracetune.files import append_bytes, end_of_lines, read_json, sha256_json
from tracetune.hosted_calls import Ambiguous
from tracetune.privacy import redact_counted
from tracetune.records import Message

_FINISHES: dict[str, Finish] = {"stop": "stop", "eos": "stop", "length": "length"}
_ANSWERS = "answers.jsonl"


def _nothing(_: int) -> None:
    """Progress for those who do not look."""


class HostedGenerator:
    """A hosted base model and its fine-tuned models, ready to answer.

    It answers as :class:`tracetune.evaluation.generate.Generator` does, but knows no probabilities:
    confidence is None, and so is latency, which would be that of the network.

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
        self.adapters = tuple(models)
        self._models = models
        self._options = options
        self._service = service
        self._endpoint = endpoint
        self._kept = kept
        self._known = _read(kept)
        self._config: Reply | None = None
        self._deployed: tuple[str, str] = ("", "")

    def answers(
        self,
        name: str,
        prompts: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        batch_size: int,
        timed: Sequence[int] = (),
        advance: Callable[[int], None] = _nothing,
    ) -> list[Answer]:
        """Answers every prompt at temperature 0.

        Args:
            name: An adapter, or ``base``.
            prompts: Conversations that end with a user turn.
            max_new_tokens: Longest answer in tokens.
            batch_size: Prompts asked at once.
            timed: Not used: the latency of a network says nothing about the model.
            advance: Called with the number of prompts just answered.

        Raises:
            ServerError: The endpoint does not answer.
        """
        asked = [_Question(self._words(prompt), max_new_tokens, 0.0, 0) for prompt in prompts]
        return self._ask(name, asked, batch_size, advance)

    def sampled(
        self,
        name: str,
        prompts: Sequence[Sequence[Message]],
        temperatures: Sequence[float],
        *,
        seed: int,
        max_new_tokens: int,
        batch_size: int,
        advance: Callable[[int], None] = _nothing,
    ) -> list[list[Answer]]:
        """Answers each prompt once for every temperature, each with a seed of its own.

        Args:
            name: An adapter, or ``base``.
            prompts: Conversations that end with a user turn.
            temperatures: One per answer.
            seed: Of the random numbers; the service does not promise to honour it.
            max_new_tokens: Longest answer in tokens.
            batch_size: Prompts asked at once.
            advance: Called with the number of prompts just answered.
        """
        asked, each = [], len(temperatures)
        for prompt in prompts:
            words, seen = self._words(prompt), Counter[float]()
            for heat in temperatures:
                own = int(sha256_json([seed, words, float(heat), seen[heat]])[:7], 16)
                seen[heat] += 1
                asked.append(_Question(words, max_new_tokens, float(heat), own))
        given = self._ask(name, asked, batch_size, _nothing)
        advance(len(prompts))
        return [given[start : start + each] for start in range(0, len(given), each)]

    def _words(self, prompt: Sequence[Message]) -> list[dict[str, str]]:
        """A prompt as it leaves the machine."""
        return [
            {
                "role": message.role,
                "content": redact_counted(message.content)[0]
                if self._options.redact
                else message.content,
            }
            for message in prompt
        ]

    def _ask(
        self,
        name: str,
        questions: Sequence[_Question],
        at_once: int,
        advance: Callable[[int], None],
    ) -> list[Answer]:
        if name != BASE and name not in self._models:
            raise ValueError(f"no adapter {name!r} is hosted, only {list(self.adapters)}")
        base = f"{BASE} of {self._models[self.adapters[0]]}"
        keys = [question.key(self._models.get(name, base)) for question in questions]
        missing = {
            key: question
            for key, question in zip(keys, questions, strict=True)
            if key not in self._known
        }
        advance(sum(key in self._known for key in keys))
        if missing:
            self._fetch(self._deploy(name), missing, at_once, advance)
        return [self._known[key] for key in keys]

    def _fetch(
        self,
        model: str,
        missing: Mapping[str, _Question],
        at_once: int,
        advance: Callable[[int], None],
    ) -> None:
        """Asks what is missing; every answer is on disk before the next is waited for."""
        pool = ThreadPoolExecutor(max(1, at_once))
        try:
            for key, answer in pool.map(
                lambda item: (item[0], self._one(model, item[1])), missing.items()
            ):
                self._keep(key, answer)
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)

    def _keep(self, key: str, answer: Answer) -> None:
        self._known[key] = answer
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        with self._kept.open("ab+") as handle:
            handle.truncate(end_of_lines(handle.fileno()))
            line = json.dumps({"key": key, **vars(answer)}) + "\n"
            append_bytes(handle.fileno(), line.encode("utf-8"))

    def _one(self, model: str, question: _Question) -> Answer:
        self._endpoint.check_time()

        def call() -> Answer:
            return _answer(
                self._service.chat(
                    model,
                    question.words,
                    max_tokens=question.most,
                    temperature=question.heat,
                    seed=question.seed,
                )
            )

        return self._service.again("asking the endpoint", call)

    def _deploy(self, name: str) -> str:
        """The name by which a model answers; it takes the place of the one before it."""
        if self._deployed[0] != name:
            model, base = self._resources(self._models.get(name) or self._models[self.adapters[0]])
            if self._config is None:
                project = project_of(self._service, self._options)
                self._config = choose_config(self._service, base.rsplit("/", 1)[-1], project)
            wanted = base if name == BASE else model
            label = f"m-{name.replace('_', '-')}"
            self._deployed = (name, self._endpoint.deploy(label, wanted, self._config))
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


class _Question:
    """What is asked of one model.

    Args:
        words: The prompt as it leaves the machine.
        most: Longest answer in tokens.
        heat: Temperature.
        seed: Seed.
    """

    def __init__(self, words: list[dict[str, str]], most: int, heat: float, seed: int) -> None:
        self.words, self.most, self.heat, self.seed = words, most, heat, seed

    def key(self, model: str) -> str:
        """Hash of the question to a model."""
        return sha256_json([model, self.words, self.most, self.heat, self.seed])


@contextmanager
def hosted_generator(
    adapters: Mapping[str, Path], options: TogetherOptions, jobs: RemoteJobs
) -> Iterator[HostedGenerator]:
    """Models of adapters that were trained at Together AI, asked there.

    Args:
        adapters: Adapter folders by name.
        options: Parameters of Together AI.
        jobs: Jobs and endpoints of the tenant and name, and the key.

    Raises:
        DataError: An adapter was not trained at Together AI.
        ServerError: A left-over endpoint cannot be deleted.
    """
    models = {name: _job_of(name, folder) for name, folder in adapters.items()}
    key = sha256_json(["endpoint", options.base_url, sorted(models.values())])
    with (
        endpoint_service(options, jobs) as service,
        Endpoint(jobs, options, service, key) as endpoint,
    ):
        kept = jobs.endpoints.folder / _ANSWERS
        yield HostedGenerator(models, options, service, endpoint, kept)


def _job_of(name: str, folder: Path) -> str:
    manifest = folder / "manifest.json"
    made: Any = read_json(manifest).get("remote") if manifest.is_file() else None
    if not isinstance(made, dict) or made.get("backend") != "together":
        raise DataError(
            f"the adapter {name!r} was not trained at Together AI, so no endpoint has it",
            where=str(folder),
            remedy="set together.judge_on=local",
        )
    return str(made["id"])


def _answer(reply: Reply) -> Answer:
    """The answer in a reply."""
    try:
        [choice] = reply["choices"]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        tokens = reply["usage"]["completion_tokens"]
    except (KeyError, TypeError, ValueError):
        raise Ambiguous("a reply without one answer") from None
    if not isinstance(text, str) or not isinstance(tokens, int) or finish not in _FINISHES:
        raise Ambiguous("a reply that is not an answer in words")
    return Answer(text.strip(), tokens=tokens, confidence=None, finish=_FINISHES[finish])


def _read(path: Path) -> dict[str, Answer]:
    """The answers that were kept; a last line that was cut does not count."""
    found: dict[str, Answer] = {}
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        key = row.pop("key")
        found[key] = Answer(**row)
    return found
