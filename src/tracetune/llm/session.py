"""What the two modes share while requests are written: jobs, budget, service, patience."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tracetune.errors import ConfigurationError, ServerError
from tracetune.hosted_calls import Missing, Refused, Retry
from tracetune.llm.calls import Service
from tracetune.llm.contracts import TextRequest
from tracetune.llm.entries import Counted, Planned, Price
from tracetune.llm.ledger import Ledger, count_key
from tracetune.llm.options import LlmOptions
from tracetune.llm.params import message_params
from tracetune.llm.schemas import AnswerForm
from tracetune.llm.spending import spending_of

logger = logging.getLogger("tracetune")

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A request and the form of its answer."""

    hash: str
    request: TextRequest
    form: AnswerForm


@dataclass(frozen=True)
class Offer:
    """A job with everything that is sent, and the most it can cost."""

    job: Job
    params: dict[str, Any]
    planned: Planned


@dataclass
class Budget:
    """What may still be spent.

    Attributes:
        limit: ``budget_usd``.
        used: Paid, perhaps paid, and under way, in US dollars.
    """

    limit: float
    used: float

    def fits(self, usd: float) -> bool:
        """Whether ``usd`` more cannot pass the limit."""
        return self.used + usd <= self.limit + 1e-9

    def shortage(self, usd: float) -> str:
        """Why a request is not sent, with the figures."""
        return (
            f"it can cost up to ${usd:.4f}; ${self.used:.4f} of llm.budget_usd=${self.limit:.4f} "
            "are spent or reserved"
        )


@dataclass
class Session:
    """One call of ``write``.

    Attributes:
        options: Parameters.
        ledger: Held while the session lasts.
        open_service: Makes the connection; asked for when it is first needed, so that requests
            whose replies are all kept need no key.
        failed: Requests that the service refused in this session, and why.
        over: Requests that did not fit into the budget, and why.
    """

    options: LlmOptions
    ledger: Ledger
    open_service: Callable[[], Service]
    failed: dict[str, str] = field(default_factory=dict)
    over: dict[str, str] = field(default_factory=dict)
    _service: Service | None = None

    def __post_init__(self) -> None:
        """Starts the clock."""
        self.stop = threading.Event()
        self.until = time.monotonic() + self.options.deadline_hours * 3600
        self.retry = Retry(self.options.attempts, self.until, self.stop)

    @property
    def service(self) -> Service:
        """The connection."""
        if self._service is None:
            self._service = self.open_service()
        return self._service

    def close(self) -> None:
        """Closes the connection."""
        if self._service is not None:
            self._service.close()

    @property
    def price(self) -> Price:
        """Price of the model in the mode of the options."""
        prices = self.options.prices
        model = prices.models[self.options.model]
        factor = prices.batch if self.options.mode == "batch" else 1.0
        return Price(
            input=model.input * factor,
            output=model.output * factor,
            cache_read=model.input * prices.cache_read * factor,
            cache_write=model.input * prices.cache_write * factor,
        )

    def budget(self) -> Budget:
        """The budget as the ledger stands now."""
        return Budget(self.options.budget_usd, spending_of(self.ledger.contents).most_usd)

    def offers(self, jobs: Sequence[Job]) -> list[Offer]:
        """The jobs with parameters and highest cost; those that the service refuses fail here."""
        cached = self._cached_systems(jobs)
        params = {
            job.hash: message_params(
                job.request,
                self.options,
                job.form.asked,
                cached=job.request.system in cached,
            )
            for job in jobs
        }
        tokens = self._count({key: _counted(value) for key, value in params.items()})
        price, found = self.price, []
        for job in jobs:
            if job.hash in tokens:
                dearest = price.input
                if job.request.system in cached:
                    dearest = max(price.input, price.cache_write)
                longest = params[job.hash]["max_tokens"]
                most = (tokens[job.hash] * dearest + longest * price.output) / 1_000_000
                planned = Planned(hash=job.hash, id=job.request.id, max_usd=most)
                found.append(Offer(job, params[job.hash], planned))
        return found

    def _cached_systems(self, jobs: Sequence[Job]) -> set[str]:
        """System texts that several jobs share and that are long enough to be cached."""
        prices = self.options.prices
        minimum = prices.cache_minimum.get(self.options.model, prices.cache_minimum_unknown)
        systems = [job.request.system for job in jobs]
        # A token has at least one byte, so a shorter text needs no count.
        shared = sorted(
            text
            for text in set(systems)
            if systems.count(text) > 1 and len(text.encode()) >= minimum
        )
        asked = {
            text: {
                "model": self.options.model,
                "system": [{"type": "text", "text": text}],
                "messages": [{"role": "user", "content": "."}],
            }
            for text in shared
        }
        counts = self._count(asked)
        return {text for text in shared if counts.get(text, 0) >= minimum}

    def _count(self, payloads: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Input tokens by key, counted by the service or known from before."""
        known = self.ledger.contents.counts
        keys = {name: count_key(self.options.model, body) for name, body in payloads.items()}
        missing = {keys[name]: body for name, body in payloads.items() if keys[name] not in known}
        names = {keys[name]: name for name in payloads}

        def count(item: tuple[str, dict[str, Any]]) -> tuple[str, int | Refused]:
            key, body = item
            try:
                return key, service.again(
                    "counting tokens", lambda: service.count_tokens(body), self.retry
                )
            except Refused as error:
                return key, error

        if missing:
            service = self.service
            logger.info("Counting the tokens of %d requests (free)", len(missing))
            with ThreadPoolExecutor(self.options.concurrency) as pool:
                try:
                    for key, answer in pool.map(count, missing.items()):
                        if isinstance(answer, int):
                            self.ledger.append([Counted(key=key, tokens=answer)])
                        elif isinstance(answer, Missing):
                            raise self.missing(answer)
                        else:
                            self.failed[names[key]] = str(answer)
                except BaseException:
                    self.stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        return {name: known[key] for name, key in keys.items() if key in known}

    def ask(self, what: str, call: Callable[[], T]) -> T:
        """Makes a call that costs nothing until it brings an answer.

        Raises:
            Missing: There is nothing under the id.
            ServerError: It is refused, or every attempt failed.
            ConfigurationError: The key is refused.
        """
        try:
            return self.service.again(what, call, self.retry)
        except Missing:
            raise
        except Refused as error:
            raise ServerError(
                f"{what} was refused: {error}",
                where=self.service.address,
                remedy="do what the message asks for, then run again; what was paid for is kept",
            ) from None

    def batches(self, after: str | None) -> tuple[list[dict[str, Any]], bool]:
        """A page of the batches of the account, newest first, and whether there are more."""
        try:
            return self.ask("listing batches", lambda: self.service.batches(after))
        except Missing as error:
            raise self.missing(error) from None

    def missing(self, error: Missing) -> ConfigurationError | ServerError:
        """What it means that the service knows no such thing."""
        if error.real:
            return ConfigurationError(
                f"the service does not know what was asked for ({error})",
                where=f"llm.model={self.options.model}",
                remedy="give the id of a model that the service offers to this key",
            )
        return ServerError(
            f"there is no Anthropic API at this address ({error})",
            where=self.service.address,
            remedy="check llm.base_url; null is the vendor's own address",
        )


def _counted(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "max_tokens"}


def unique(jobs: Iterable[Job]) -> list[Job]:
    """The jobs without repetitions, in order."""
    return list({job.hash: job for job in jobs}.values())
