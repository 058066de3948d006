"""Calls of Anthropic's API, and what every way of failing means.

The client of the vendor would try again by itself, and so pay twice where a reply is lost. Here it
never does: a call ends in an answer, or in one of three errors that say whether it cost anything.
"""

from __future__ import annotations

import json
import math
import random
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tracetune.errors import ConfigurationError, ServerError
from tracetune.llm.options import LlmOptions
from tracetune.llm.replies import error_text, is_error_body

if TYPE_CHECKING:
    import httpx2
    from anthropic import Anthropic

T = TypeVar("T")

_WAITING = frozenset({408, 409, 429})
"""Refusals of the service that a later attempt may turn into an answer."""
_GATEWAY_TIMEOUT = 504
_OVERLOADED = 529
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


def check_key(api_key: str | None) -> str:
    """The key, if it can be sent.

    Raises:
        ConfigurationError: There is none, or it cannot stand in a header; it is not quoted.
    """
    key = (api_key or "").strip()
    where = "credentials anthropic.api_key"
    if not key:
        raise ConfigurationError(
            "there is no key for Anthropic's API",
            where=where,
            remedy="put it into conf/local/credentials.yml (see credentials.example.yml there), or "
            "set llm.provider=offline",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "the API key holds characters that cannot stand in a header",
            where=where,
            remedy="copy the key again from the console of the service",
        )
    return key


class Service:
    """The API; safe to use from several threads.

    Args:
        options: Address and time limits.
        api_key: Sent with every call; stands in no message, and is taken out of every answer.

    Raises:
        ConfigurationError: Key or address cannot be used.
    """

    def __init__(self, options: LlmOptions, api_key: str | None) -> None:
        import anthropic
        import httpx2

        self._key = check_key(api_key)
        self._base = check_address(options.base_url)
        local = urlsplit(self._base).hostname in ("127.0.0.1", "localhost", "::1")
        timeout = httpx2.Timeout(options.timeout, connect=min(_CONNECT_SECONDS, options.timeout))
        self._client: Anthropic = anthropic.Anthropic(
            api_key=self._key,
            base_url=self._base,
            max_retries=0,
            timeout=timeout,
            open_telemetry=False,
            # A kept connection that the service closes looks like a reply that is lost.
            http_client=anthropic.DefaultHttpxClient(
                timeout=timeout,
                trust_env=not local,
                limits=httpx2.Limits(max_keepalive_connections=0),
            ),
        )
        self.address = self._base

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def scrub(self, text: str) -> str:
        """``text`` without the key."""
        return text.replace(self._key, "[key]")

    def _scrub_bytes(self, line: bytes) -> bytes:
        return self.scrub(line.decode("utf-8", "replace")).encode()

    def message(self, params: dict[str, Any]) -> str:
        """The raw body of an answer with status 200; it was paid, whatever it holds."""
        with self._errors():
            answer = self._client.messages.with_raw_response.create(**params)
            body = answer.http_response.content
        return self.scrub(body.decode("utf-8", errors="replace"))

    def count_tokens(self, params: dict[str, Any]) -> int:
        """Input tokens of a message; free."""
        counted = {name: value for name, value in params.items() if name != "max_tokens"}
        with self._errors():
            answer = self._client.messages.with_raw_response.count_tokens(**counted)
            body = self._json(answer.http_response)
        tokens = body.get("input_tokens")
        if type(tokens) is not int or tokens < 0:
            raise Ambiguous("a token count without a number")
        return tokens

    def create_batch(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """Creates a batch; the answer has been checked to name one."""
        with self._errors():
            create: Any = self._client.messages.batches.with_raw_response.create
            return self._batch(self._json(create(requests=requests).http_response))

    def batch(self, batch_id: str) -> dict[str, Any]:
        """A batch as it is now."""
        with self._errors():
            answer = self._client.messages.batches.with_raw_response.retrieve(batch_id)
            return self._batch(self._json(answer.http_response))

    def batches(self, after: str | None, limit: int = 100) -> tuple[list[dict[str, Any]], bool]:
        """A page of batches, newest first, and whether there are more."""
        more: dict[str, Any] = {"after_id": after} if after else {}
        with self._errors():
            answer = self._client.messages.batches.with_raw_response.list(limit=limit, **more)
            body = self._json(answer.http_response)
        if not isinstance(body.get("data"), list):
            raise Ambiguous("a listing of batches without data")
        return [self._batch(item) for item in body["data"]], bool(body.get("has_more"))

    def result_lines(self, batch_id: str) -> Generator[bytes, None, None]:
        """Lines of the results of a batch that has ended; the last one may lack its end.

        The address is built here: one that an answer names could lead the key to another host.
        """
        import httpx2

        with self._errors():
            answer = self._client.get(
                f"/v1/messages/batches/{batch_id}/results",
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=None,
                options={"headers": {"Accept": "application/binary"}},
            )
            response: Any = answer
            try:
                rest = b""
                for piece in response.iter_bytes():
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        yield self._scrub_bytes(line) + b"\n"
                if rest:
                    yield self._scrub_bytes(rest)
            finally:
                response.close()

    def again(self, what: str, call: Callable[[], T], retry: Retry) -> T:
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
                        f"{what} failed: {error}",
                        where=self.address,
                        remedy="check the network and llm.base_url, then run again; what was paid "
                        "for is kept",
                    ) from None
                attempt += 1

    def _batch(self, body: Any) -> dict[str, Any]:
        counts = body.get("request_counts") if isinstance(body, dict) else None
        if (
            not isinstance(counts, dict)
            or not all(type(count) is int for count in counts.values())
            or not isinstance(body.get("processing_status"), str)
            or not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", str(body.get("id", "")))
        ):
            raise Ambiguous("an answer that is not a batch")
        found: dict[str, Any] = body
        return found

    def _json(self, response: httpx2.Response) -> dict[str, Any]:
        text = self.scrub(response.content.decode("utf-8", errors="replace"))
        try:
            body = json.loads(text)
        except ValueError:
            raise Ambiguous(f"an answer that is cut or is not JSON: {text[:60]!r}") from None
        if not isinstance(body, dict):
            raise Ambiguous("an answer that is not a JSON object")
        return body

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns every error of the vendor's client into one of this module, without the key."""
        import anthropic
        import httpx2

        found: Exception
        try:
            yield
            return
        except anthropic.APIStatusError as error:
            found = self._of_status(error)
        except anthropic.APIConnectionError as error:
            cause = error.__cause__
            name = type(cause or error).__name__
            unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
            if isinstance(cause, (*unsent, httpx2.UnsupportedProtocol)):
                found = NotTaken(f"no connection ({name})")
            else:
                found = Ambiguous(f"the connection was lost or too slow ({name})")
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            found = Ambiguous(f"the connection was lost or too slow ({type(error).__name__})")
        # Raised outside of the handlers, so that nothing of the request hangs on it.
        raise found from None

    def _of_status(self, error: Any) -> Exception:
        status = int(error.status_code)
        real = is_error_body(error.body)
        words = self.scrub(error_text(error.body) if real else "no reason given")
        reason = f"status {status}, {words}"
        if status in (401, 403):
            return ConfigurationError(
                f"the service refused the API key ({reason})",
                where="credentials anthropic.api_key",
                remedy="put a valid key into conf/local/credentials.yml",
            )
        if status == _GATEWAY_TIMEOUT:
            return Ambiguous(f"{reason}; it may have been worked on all the same")
        if status in _WAITING or (status >= 500 and real):
            asked = _asked_wait(error.response.headers.get("retry-after"))
            return NotTaken(reason, asked, failed=status >= 500 and status != _OVERLOADED)
        if status >= 500:
            return Ambiguous(f"{reason}; the error is not the service's own")
        if status == 404:
            return Missing(reason, real=real)
        return Refused(reason)


def check_address(base_url: str | None) -> str:
    """The address of the service.

    Raises:
        ConfigurationError: It is no http(s) address.
    """
    if base_url is None:
        return "https://api.anthropic.com"
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        named = parts.username is not None or (parts.port is not None and parts.port < 1)
    except ValueError:
        good, named = False, False
    if not good or named:
        raise ConfigurationError(
            "the address of the service is not an http(s) URL of a host",
            where="llm.base_url",
            remedy="give it as https://host, or null for the vendor's own",
        )
    return base_url.rstrip("/")


def _asked_wait(header: str | None) -> float | None:
    """Seconds in a ``retry-after`` header: a number, or a date."""
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
