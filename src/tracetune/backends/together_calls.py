"""Calls of Together AI's API through its SDK, and what every way of failing means.

The SDK would try again by itself, POSTs too, and so pay twice where a reply is lost. Here it never
does: a call ends in an answer, or in one of the errors of :mod:`tracetune.hosted_calls`, which say
whether it may be made again. The SDK takes an HTML page for an answer, so answers are read here.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import ConfigurationError, DataError, ServerError
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

if TYPE_CHECKING:
    import httpx
    from together import Together

T = TypeVar("T")
Answer = dict[str, Any]

ADDRESS = "https://api.together.ai"
KEY = "credentials together.api_key"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_WAITING = frozenset({425, 429})
_TIMED_OUT = 408
_LONGEST_RETRY_SECONDS = 900.0
_LONGEST_ASKED_WAIT = 120.0
_SHOWN = 200


class Service(HostedService):
    """The API.

    Args:
        options: Address, time limits, patience.
        api_key: Sent with every call; stands in no message, and is taken out of every answer.

    Raises:
        ConfigurationError: The key cannot be used, or the SDK is not installed.
    """

    def __init__(self, options: TogetherOptions, api_key: str | None) -> None:
        super().__init__(
            check_key(api_key, service="Together AI", where=KEY, instead="backend=local"),
            address_of(options.base_url, vendor=ADDRESS, where="together.base_url"),
            "check the network and together.base_url, then run again; a job that was created is "
            "found again, nothing is paid twice",
        )
        self._options = options
        try:
            import httpx
            import together
        except ImportError:
            raise ConfigurationError(
                "the SDK of Together AI is not installed",
                where="backend=together",
                remedy='pip install --constraint constraints.txt ".[together]"',
            ) from None
        self._client: Together = together.Together(
            api_key=self._key, **client_settings(together, httpx, self.address, options.timeout)
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def whoami(self) -> Answer:
        """Whose key it is."""
        return self._read(lambda: self._client.with_raw_response.whoami())

    def limits(self, model: str) -> Answer:
        """Limits of a model; also says whether it is trained at all."""
        calls = self._client.fine_tuning.with_raw_response
        return self._read(lambda: calls.model_limits(model_name=model))

    def file(self, file_id: str) -> Answer:
        """A file as it is now."""
        calls = self._client.files.with_raw_response
        return self._with_id(self._read(lambda: calls.retrieve(file_id)), "file")

    def delete_file(self, file_id: str) -> None:
        """Removes a file; one that is not there is removed already."""
        calls = self._client.files.with_raw_response
        try:
            self._read(lambda: calls.delete(file_id))
        except Missing as error:
            if not error.real:
                raise

    def upload(self, path: Path) -> tuple[str, bool]:
        """Uploads a file, or finds the one of the same content; costs nothing.

        Returns:
            Its id, and whether it was there before.
        """
        from together.lib.resources.files import FileAlreadyExistsError

        with self._errors():
            try:
                found = self._client.files.upload(
                    path, purpose="fine-tune", check=True, raise_if_already_exists=True
                )
            except FileAlreadyExistsError as error:
                return self._id(error.file_id, "file"), True
            except (AssertionError, AttributeError, KeyError, TypeError) as error:
                # What the SDK makes of an answer that is a page, or JSON of another form.
                raise Ambiguous(f"an answer that is not a file ({type(error).__name__})") from None
        return self._id(getattr(found, "id", None), "file"), False

    def estimate(self, arguments: Mapping[str, Any]) -> Answer:
        """The price of a job before it is created; free."""
        calls: Any = self._client.fine_tuning.with_raw_response
        return self._read(lambda: calls.estimate_price(**arguments))

    def create(self, arguments: Mapping[str, Any], limits: Answer) -> str:
        """Creates a job, once; its id. This is what is paid for."""
        from together.types import FinetuneModelLimits

        create: Any = self._client.fine_tuning.create
        # Given here, the SDK does not ask for them once more.
        known = FinetuneModelLimits.construct(**limits)
        with self._errors():
            try:
                found = create(**arguments, model_limits=known)
            except (AttributeError, TypeError) as error:
                raise Ambiguous(f"an answer that is not a job ({type(error).__name__})") from None
        return self._id(getattr(found, "id", None), "job")

    def job(self, job_id: str) -> Answer:
        """A job as it is now."""
        calls = self._client.fine_tuning.with_raw_response
        return self._with_id(self._read(lambda: calls.retrieve(job_id)), "job")

    def jobs(self) -> list[Answer]:
        """All jobs of the account."""
        calls = self._client.fine_tuning.with_raw_response
        return self._rows(lambda: calls.list(), "data")

    def cancel(self, job_id: str) -> Answer:
        """Asks for the end of a job; steps that were done are paid."""
        calls = self._client.fine_tuning.with_raw_response
        return self._read(lambda: calls.cancel(job_id))

    def events(self, job_id: str) -> list[Answer]:
        """What happened to a job."""
        calls = self._client.fine_tuning.with_raw_response
        return self._rows(lambda: calls.list_events(job_id), "data")

    def metrics(self, job_id: str) -> list[Answer]:
        """Losses and other figures by step."""
        calls = self._client.fine_tuning.with_raw_response
        return self._rows(lambda: calls.list_metrics(job_id), "metrics")

    def checkpoints(self, job_id: str) -> list[Answer]:
        """What can be downloaded."""
        calls = self._client.fine_tuning.with_raw_response
        return self._rows(lambda: calls.list_checkpoints(job_id), "data")

    @contextmanager
    def archive(self, job_id: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The adapter of a job, as a stream; ``headers`` may ask for a part of it."""
        calls = self._client.fine_tuning.with_streaming_response
        with (
            self._errors(),
            calls.content(
                ft_id=job_id,
                checkpoint="adapter",
                extra_headers={"Accept-Encoding": "identity", **headers},
            ) as answer,
        ):
            yield answer.http_response

    def again(self, what: str, call: Callable[[], T], *, refusals: bool = False) -> T:
        """Makes a call that costs nothing until it brings an answer.

        Args:
            what: What is done, for messages.
            call: The call.
            refusals: The caller looks at :class:`Refused` itself.

        Raises:
            ServerError: Every attempt failed, or the service refused for good.
            ConfigurationError: The key was refused.
            Refused: The service refused for good, and ``refusals`` is set.
        """
        retry = Retry(
            self._options.attempts, time.monotonic() + _LONGEST_RETRY_SECONDS, threading.Event()
        )
        try:
            return self._repeat(what, call, retry)
        except Refused as error:
            if refusals:
                raise
            raise ServerError(
                f"the service refuses {what}: {error}",
                where=self.address,
                remedy="correct what it names, or run again later; a job that was created is "
                "found again, nothing is paid twice",
            ) from None

    def _read(self, call: Callable[[], Any]) -> Answer:
        with self._errors():
            content = call().http_response.content
        return self._json(content)

    def _rows(self, call: Callable[[], Any], name: str) -> list[Answer]:
        rows = self._read(call).get(name) or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Ambiguous(f"a listing without {name}")
        return rows

    def _with_id(self, body: Answer, what: str) -> Answer:
        self._id(body.get("id"), what)
        return body

    def _id(self, found: object, what: str) -> str:
        # It becomes part of addresses and of names of files.
        if not isinstance(found, str) or not _ID.fullmatch(found):
            raise Ambiguous(f"an answer that is not a {what}")
        return found

    def _meaning(self, error: Exception) -> Exception | None:
        import httpx
        import together
        from together.lib.types.error import DownloadError, FileTypeError

        cut = (json.JSONDecodeError, together.APIResponseValidationError, DownloadError)
        if isinstance(error, together.APIStatusError):
            return self._of_status(error)
        if isinstance(error, together.APIConnectionError):
            return of_transport(httpx, error.__cause__ or error)
        if isinstance(error, httpx.HTTPError):
            return of_transport(httpx, error)
        if isinstance(error, FileTypeError):
            return DataError("the SDK refuses the file", where="together", remedy="report it")
        if isinstance(error, cut):
            return Ambiguous(f"an answer that is cut or is not JSON ({type(error).__name__})")
        return None

    def _of_status(self, error: Any) -> Exception:
        status = int(error.status_code)
        words = _words(_body(error))
        reason = self.scrub(f"status {status}, {words or 'no reason given'}")
        if status in (401, 403):
            return ConfigurationError(
                f"the service refused the API key ({reason})",
                where=KEY,
                remedy="put a valid key into conf/local/credentials.yml; see whether the account "
                "has credit",
            )
        if status in _WAITING:
            asked = retry_after(error.response.headers.get("retry-after"))
            return NotTaken(reason, None if asked is None else min(asked, _LONGEST_ASKED_WAIT))
        if status >= 500 or status < 400 or status == _TIMED_OUT:
            # Neither an error of the service's own nor a time-out of something in between says
            # whether a job was created before it.
            return Ambiguous(reason)
        if status == 404:
            return Missing(reason, real=bool(words))
        return Refused(reason)


def amount(found: object) -> float | None:
    """What an answer states as a price, if it is one."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found < math.inf else None


def _body(error: Any) -> object:
    """The answer with an error; of uploads the SDK does not read it."""
    if not isinstance(error.body, str):
        return error.body
    try:
        return json.loads(error.body)
    except ValueError:
        return None


def _words(body: object) -> str:
    """The message of an error, if the answer is one of the service's own."""
    error = body.get("error", body) if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(message).split())[:_SHOWN] if message else ""
