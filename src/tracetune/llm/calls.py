"""Calls of Anthropic's API, and what every way of failing means.

A call ends in an answer, or in one of the errors of :mod:`tracetune.hosted_calls`, which say
whether it cost anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from tracetune.errors import ConfigurationError
from tracetune.hosted_calls import (
    Ambiguous,
    HostedService,
    Missing,
    NotTaken,
    Refused,
    Retry,
    address_of,
    check_key,
    client_settings,
    of_transport,
    retry_after,
)
from tracetune.llm.options import LlmOptions
from tracetune.llm.replies import error_text, is_error_body

if TYPE_CHECKING:
    from anthropic import Anthropic

T = TypeVar("T")

ADDRESS = "https://api.anthropic.com"
KEY = "credentials anthropic.api_key"
_WAITING = frozenset({408, 409, 429})
"""Refusals of the service that a later attempt may turn into an answer."""
_GATEWAY_TIMEOUT = 504
_OVERLOADED = 529


class Service(HostedService):
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

        super().__init__(
            check_key(
                api_key, service="Anthropic's API", where=KEY, instead="llm.provider=offline"
            ),
            address_of(options.base_url, vendor=ADDRESS, where="llm.base_url"),
            "check the network and llm.base_url, then run again; what was paid for is kept",
        )
        self._client: Anthropic = anthropic.Anthropic(
            api_key=self._key,
            open_telemetry=False,
            **client_settings(anthropic, httpx2, self.address, options.timeout),
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

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
            body = self._json(answer.http_response.content)
        tokens = body.get("input_tokens")
        if type(tokens) is not int or tokens < 0:
            raise Ambiguous("a token count without a number")
        return tokens

    def create_batch(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """Creates a batch; the answer has been checked to name one."""
        with self._errors():
            create: Any = self._client.messages.batches.with_raw_response.create
            return self._batch(self._json(create(requests=requests).http_response.content))

    def batch(self, batch_id: str) -> dict[str, Any]:
        """A batch as it is now."""
        with self._errors():
            answer = self._client.messages.batches.with_raw_response.retrieve(batch_id)
            return self._batch(self._json(answer.http_response.content))

    def batches(self, after: str | None, limit: int = 100) -> tuple[list[dict[str, Any]], bool]:
        """A page of batches, newest first, and whether there are more."""
        more: dict[str, Any] = {"after_id": after} if after else {}
        with self._errors():
            answer = self._client.messages.batches.with_raw_response.list(limit=limit, **more)
            body = self._json(answer.http_response.content)
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
        return self._repeat(what, call, retry)

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

    def _meaning(self, error: Exception) -> Exception | None:
        import anthropic
        import httpx2

        if isinstance(error, anthropic.APIStatusError):
            return self._of_status(error)
        if isinstance(error, anthropic.APIConnectionError):
            return of_transport(httpx2, error.__cause__ or error)
        if isinstance(error, httpx2.HTTPError | httpx2.StreamError):
            return of_transport(httpx2, error)
        return None

    def _of_status(self, error: Any) -> Exception:
        status = int(error.status_code)
        real = is_error_body(error.body)
        words = self.scrub(error_text(error.body) if real else "no reason given")
        reason = f"status {status}, {words}"
        if status in (401, 403):
            return ConfigurationError(
                f"the service refused the API key ({reason})",
                where=KEY,
                remedy="put a valid key into conf/local/credentials.yml",
            )
        if status == _GATEWAY_TIMEOUT:
            return Ambiguous(f"{reason}; it may have been worked on all the same")
        if status in _WAITING or (status >= 500 and real):
            asked = retry_after(error.response.headers.get("retry-after"))
            return NotTaken(reason, asked, failed=status >= 500 and status != _OVERLOADED)
        if status >= 500:
            return Ambiguous(f"{reason}; the error is not the service's own")
        if status == 404:
            return Missing(reason, real=real)
        return Refused(reason)
