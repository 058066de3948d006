"""A connection to a Phoenix server: requests with retries, and errors a person can act on."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tracetune.errors import ConfigurationError, ServerError

if TYPE_CHECKING:
    import httpx

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that another attempt may turn into a good one."""
ATTEMPTS = 6
CONNECT_ATTEMPTS = 3
LONGEST_WAIT = 60.0


def repair_surrogates(value: Any) -> tuple[Any, int]:
    """``value`` with lone surrogates replaced by U+FFFD, and the number of texts changed.

    JSON can name half a character (``\\ud83d``), which no file in UTF-8 can hold.
    """
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            # Through UTF-16, so that two escaped halves that do belong together become one.
            halves = value.encode("utf-16-le", "surrogatepass")
            return halves.decode("utf-16-le", "replace"), 1
        return value, 0
    if isinstance(value, list):
        items = [repair_surrogates(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        pairs = [(repair_surrogates(key), repair_surrogates(item)) for key, item in value.items()]
        return (
            {key: item for (key, _), (item, _) in pairs},
            sum(first + second for (_, first), (_, second) in pairs),
        )
    return value, 0


def _parse(content: bytes) -> tuple[Any, int]:
    import orjson

    try:
        return orjson.loads(content), 0
    except orjson.JSONDecodeError:
        # Lone surrogates are refused by the fast parser; a cut answer is refused by both.
        return repair_surrogates(json.loads(content))


def _wait(attempt: int, retry_after: str | None) -> float:
    """Seconds before the next attempt: what the server asks for, else 0.5, 1, 2 … with jitter."""
    if retry_after:
        try:
            return min(float(retry_after), LONGEST_WAIT)
        except ValueError:
            try:
                moment = parsedate_to_datetime(retry_after)
            except ValueError:
                moment = None
            if moment is not None and moment.tzinfo is not None:
                seconds = (moment - datetime.now(UTC)).total_seconds()
                return max(0.0, min(seconds, LONGEST_WAIT))
    return min(0.5 * float(2**attempt), LONGEST_WAIT) * random.uniform(0.5, 1.0)


def _address(url: str, setting: str) -> tuple[str, str]:
    """Host, and the address as it may be shown: without user, password and path."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigurationError(
            "the address of the Phoenix server is not an http(s) URL",
            where=setting,
            remedy="give it as http://host:port",
        )
    return host, f"{parts.scheme}://{host}" + (f":{port}" if port else "")


class PhoenixServer:
    """Requests to one server; safe to use from several threads.

    Args:
        url: Base address, such as ``http://127.0.0.1:6006``.
        api_key: Sent as bearer token; it stands in no message and no log line.
        timeout: Seconds that a single request may take.
        setting: The parameter that holds the address, for messages.
        instead: What can be done without a server, for messages.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 60.0,
        *,
        setting: str = "telemetry.url",
        instead: str = "telemetry.source=snapshot runs without a server",
    ) -> None:
        """Checks address and key; the first request makes the connection."""
        import httpx

        self.host, self.address = _address(url, setting)
        self._setting, self._instead = setting, instead
        key = (api_key or "").strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            # The HTTP library would quote the value in its error.
            raise ConfigurationError(
                "the API key holds characters that cannot stand in a header",
                where="credentials phoenix.api_key",
                remedy="copy the key again from the Phoenix settings page",
            )
        headers = {"authorization": f"Bearer {key}"} if key else {}
        local = self.host in ("127.0.0.1", "localhost", "::1")
        if local:
            # Compression costs the server more than the loopback interface does.
            headers["accept-encoding"] = "identity"
        self._client = httpx.Client(
            base_url=url, headers=headers, timeout=timeout, trust_env=not local
        )
        self.version = "unknown"
        self._timeout = timeout
        self._stop = threading.Event()

    def stop(self) -> None:
        """Lets no request wait for another attempt any more."""
        self._stop.set()

    def close(self) -> None:
        """Ends waiting attempts and closes the connections."""
        self.stop()
        self._client.close()

    def get(self, path: str, params: dict[str, Any] | None = None) -> tuple[Any, int]:
        """The JSON answer to a GET, and how many of its texts had lone surrogates replaced.

        Raises:
            ServerError: If the server is down, refuses, or fails on every attempt.
        """
        return self._request(path, lambda: self._client.get(path, params=params))

    def send(self, method: Literal["POST", "PUT"], path: str, body: Any = None) -> Any:
        """The JSON answer to a request that may be repeated without changing more.

        Args:
            method: HTTP method.
            path: Path on the server.
            body: JSON value, or None.

        Raises:
            ServerError: If the server is down, refuses, or fails on every attempt.
        """
        answer, _ = self._request(path, lambda: self._client.request(method, path, json=body))
        return answer

    def graphql(self, query: str, variables: dict[str, Any]) -> tuple[Any, int]:
        """The ``data`` of a GraphQL query (reads only, so it may be repeated).

        The number is that of :meth:`get`.

        Raises:
            ServerError: Also if the server answers with an error in place of data.
        """
        body = {"query": query, "variables": variables}
        answer, repaired = self._request(
            "/graphql", lambda: self._client.post("/graphql", json=body)
        )
        if answer.get("errors"):
            reason = answer["errors"][0].get("message", "no reason given")
            raise ServerError(
                f"the server refused a question about the project: {reason[:200]}",
                where=self.address,
                remedy="check that the server is Phoenix 20.26 or newer",
            )
        return answer["data"], repaired

    def pages(self, path: str, params: dict[str, Any]) -> Iterator[tuple[list[Any], int]]:
        """All pages of a listing, following its cursor.

        Raises:
            ServerError: Also if a cursor comes back again.
        """
        seen: set[str] = set()
        while True:
            answer, repaired = self.get(path, params)
            rows, cursor = answer["data"], answer.get("next_cursor")
            yield rows, repaired
            if cursor is None:
                return
            if cursor in seen or not rows:
                raise ServerError(
                    "the server repeats a page instead of going on",
                    where=f"{self.address}{path}",
                    remedy="run again; if it stays, restart the server",
                )
            seen.add(cursor)
            params = params | {"cursor": cursor}

    def _request(self, path: str, send: Callable[[], httpx.Response]) -> tuple[Any, int]:
        """Sends until there is a whole JSON answer, waiting longer each time."""
        import httpx

        reason = ""
        for attempt in range(ATTEMPTS):
            retry_after = None
            try:
                response = send()
                if response.is_success:
                    self.version = response.headers.get("x-phoenix-server-version", self.version)
                    return _parse(response.content)
                if response.status_code not in RETRIED:
                    raise self._refusal(path, response)
                reason = f"status {response.status_code}"
                retry_after = response.headers.get("retry-after")
            except (httpx.ConnectError, httpx.ConnectTimeout):
                reason = "no connection"
                if attempt + 1 >= CONNECT_ATTEMPTS:
                    break
            except httpx.TimeoutException:
                reason = f"no answer within {self._timeout:g} s"
            except httpx.TransportError as error:
                reason = f"connection lost ({type(error).__name__})"
            except ValueError:
                if "html" in response.headers.get("content-type", ""):
                    raise self._refusal(path, response) from None
                reason = "an answer that is cut or is not JSON"
            if attempt + 1 < ATTEMPTS and self._stop.wait(_wait(attempt, retry_after)):
                break
        raise ServerError(
            f"the Phoenix server does not answer {path}: {reason}",
            where=self.address,
            remedy=f"start it (make phoenix), or check {self._setting} and the network; "
            f"{self._instead}",
        ) from None

    def _refusal(self, path: str, response: httpx.Response) -> ServerError:
        status = response.status_code
        if status in (401, 403):
            return ServerError(
                f"the Phoenix server refused the API key (status {status})",
                where=self.address,
                remedy="put a valid key into conf/local/credentials.yml as phoenix.api_key",
            )
        if status == 404 or response.is_success or response.is_redirect:
            return ServerError(
                f"nothing is found at {path} (status {status}); "
                "the address may not be a Phoenix server, or what was asked for is gone",
                where=self.address,
                remedy=f"check {self._setting}, then run again",
            )
        return ServerError(
            f"the Phoenix server refused {path} with status {status}: {response.text[:200]}",
            where=self.address,
            remedy="check the version of the server (20.26 is tested)",
        )
