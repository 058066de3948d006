"""Calls of services that cost money, and what every way of failing means.

The clients of the vendors would try again by themselves, and so pay twice where a reply is lost.
Here they never do: a call ends in an answer, or in one of the errors below, which say whether it
may have cost anything.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tracetune.errors import ConfigurationError, ServerError

T = TypeVar("T")

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_CONNECT_SECONDS = 10.0


class CallFailed(Exception):
    """A call that brought no answer; the text says why."""


class NotTaken(CallFailed):
    """The call never arrived, or was refused for now: it cost nothing and may be made again.

    Attributes:
        wait: Seconds that the service asked to wait; None if it named none.
        failed: The service failed on the call, rather than refuse it. That is not paid, but what it
            was to create may be there.
    """

    def __init__(self, reason: str, wait: float | None = None, *, failed: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.failed = failed


class Refused(CallFailed):
    """The service refused the call for good: it cost nothing, and would be refused again."""


class Ambiguous(CallFailed):
    """The call was sent and no whole answer came: nobody knows what became of it."""


class Missing(Refused):
    """The service has nothing under this id or address.

    Attributes:
        real: Whether the service said so itself; else the address may be another server's.
    """

    def __init__(self, reason: str, *, real: bool) -> None:
        super().__init__(reason)
        self.real = real


@dataclass(frozen=True)
class Retry:
    """Patience with calls that may be made again.

    Attributes:
        attempts: Tries in all.
        until: Time (``time.monotonic``) after which nobody waits any more.
        stop: Set when nobody should wait any more.
    """

    attempts: int
    until: float
    stop: threading.Event

    def wait(self, attempt: int, asked: float | None) -> bool:
        """Waits before the next attempt; False if there is none."""
        if attempt + 1 >= self.attempts:
            return False
        seconds = backoff(attempt) if asked is None else asked
        if time.monotonic() + seconds > self.until:
            return False
        return not self.stop.wait(seconds)


def backoff(attempt: int) -> float:
    """Seconds before the attempt after ``attempt``: 0.5, 1, 2 … 60, with jitter."""
    return min(_FIRST_WAIT * float(2**attempt), _LONGEST_WAIT) * random.uniform(0.5, 1.0)


def retry_after(header: str | None) -> float | None:
    """Seconds in a ``retry-after`` header: a number, or a date; None if it names no time."""
    if not header:
        return None
    try:
        seconds = float(header)
        return None if math.isnan(seconds) else max(0.0, seconds)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def check_key(api_key: str | None, *, service: str, where: str, instead: str) -> str:
    """The key, if it can be sent.

    Args:
        api_key: As it stands in the credentials.
        service: Whose key it is, for messages.
        where: Its place in the credentials.
        instead: The parameter that does without the service.

    Raises:
        ConfigurationError: There is none, or it cannot stand in a header; it is not quoted.
    """
    key = (api_key or "").strip()
    if not key:
        raise ConfigurationError(
            f"there is no key for {service}",
            where=where,
            remedy="put it into conf/local/credentials.yml (see credentials.example.yml there), or "
            f"set {instead}",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "the API key holds characters that cannot stand in a header",
            where=where,
            remedy="copy the key again from the console of the service",
        )
    return key


def is_address(given: str) -> bool:
    """Whether it is an http(s) address of a host, without a name or password in it."""
    try:
        parts = urlsplit(given)
        named = parts.username is not None or (parts.port is not None and parts.port < 1)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not named


def address_of(given: str | None, *, vendor: str, where: str) -> str:
    """The address of a service.

    Args:
        given: From the parameters; None for the vendor's own.
        vendor: The vendor's own.
        where: The parameter, for messages.

    Raises:
        ConfigurationError: It is no http(s) address.
    """
    if given is None:
        return vendor
    if not is_address(given):
        raise ConfigurationError(
            "the address of the service is not an http(s) URL of a host",
            where=where,
            remedy="give it as https://host, or null for the vendor's own",
        )
    return given.rstrip("/")


def client_settings(sdk: Any, http: Any, address: str, seconds: float) -> dict[str, Any]:
    """Arguments of a vendor's client that never tries again by itself.

    Args:
        sdk: The vendor's module, with ``DefaultHttpxClient``.
        http: The module of HTTP that it uses, with ``Timeout`` and ``Limits``.
        address: Of the service.
        seconds: Without an answer before giving up.
    """
    local = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
    timeout = http.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))
    return {
        "base_url": address,
        "max_retries": 0,
        "timeout": timeout,
        # A kept connection that the service closes looks like a reply that is lost.
        "http_client": sdk.DefaultHttpxClient(
            timeout=timeout,
            trust_env=not local,
            limits=http.Limits(max_keepalive_connections=0),
        ),
    }


def of_transport(http: Any, error: BaseException) -> CallFailed:
    """What an error of the connection means; ``http`` is the module of HTTP that raised it."""
    name = type(error).__name__
    unsent = (http.ConnectError, http.ConnectTimeout, http.PoolTimeout, http.UnsupportedProtocol)
    if isinstance(error, unsent):
        return NotTaken(f"no connection ({name})")
    return Ambiguous(f"the connection was lost or too slow ({name})")


class HostedService(ABC):
    """What the calls of all services share: a key that is never shown, patience, errors.

    Args:
        key: Sent with every call; stands in no message, and is taken out of every answer.
        address: Of the service.
        remedy: What to do when no attempt brought an answer.
    """

    def __init__(self, key: str, address: str, remedy: str) -> None:
        self._key = key
        self._remedy = remedy
        self.address = address

    def __repr__(self) -> str:
        """Without the key."""
        return f"{type(self).__name__}({self.address!r})"

    def scrub(self, text: str) -> str:
        """``text`` without the key."""
        return text.replace(self._key, "[key]")

    @abstractmethod
    def _meaning(self, error: Exception) -> Exception | None:
        """What an error of the vendor's client means; None for an error that is not its own."""

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns every error of the vendor's client into one of this module, without the key."""
        try:
            yield
            return
        except Exception as error:
            found = self._meaning(error)
            if found is None:
                raise
        # Raised outside of the handler, so that nothing of the request hangs on it.
        raise found from None

    def _json(self, content: bytes) -> dict[str, Any]:
        """The object in an answer."""
        text = self.scrub(content.decode("utf-8", errors="replace"))
        try:
            body = json.loads(text)
        except ValueError:
            raise Ambiguous(f"an answer that is cut or is not JSON: {text[:60]!r}") from None
        if not isinstance(body, dict):
            raise Ambiguous("an answer that is not a JSON object")
        return body

    def _repeat(self, what: str, call: Callable[[], T], retry: Retry) -> T:
        """Makes a call that costs nothing until it brings an answer.

        Raises:
            ServerError: Every attempt failed.
            ConfigurationError: The key was refused.
            Refused: The service refused for good.
        """
        attempt = 0
        while True:
            try:
                return call()
            except (NotTaken, Ambiguous) as error:
                if not retry.wait(attempt, getattr(error, "wait", None)):
                    raise ServerError(
                        f"{what} failed: {error}", where=self.address, remedy=self._remedy
                    ) from None
                attempt += 1
