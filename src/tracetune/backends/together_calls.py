"""Calls of Together AI's API through its SDK, and what every way of failing means.

The SDK would try again by itself, POSTs too, and so pay twice where a reply is lost. Here it never
does: a call ends in an answer, or in one of the errors of :mod:`tracetune.llm.calls`, which say
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
from urllib.parse import urlsplit

from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import ConfigurationError, DataError, ServerError
from tracetune.llm.calls import Ambiguous, Missing, NotTaken, Refused, Retry

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
_CONNECT_SECONDS = 10.0
_LONGEST_RETRY_SECONDS = 900.0
_LONGEST_ASKED_WAIT = 120.0
_SHOWN = 200


def check_key(api_key: str | None) -> str:
    """The key, if it can be sent.

    Raises:
        ConfigurationError: There is none, or it cannot stand in a header; it is not quoted.
    """
    key = (api_key or "").strip()
    if not key:
        raise ConfigurationError(
            "there is no key for Together AI",
            where=KEY,
            remedy="put it into conf/local/credentials.yml (see credentials.example.yml there), or "
            "set backend=local",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "the API key holds characters that cannot stand in a header",
            where=KEY,
            remedy="copy the key again from the console of the service",
        )
    return key


class Service:
    """The API.

    Args:
        options: Address, time limits, patience.
        api_key: Sent with every call; stands in no message, and is taken out of every answer.

    Raises:
        ConfigurationError: The key cannot be used, or the SDK is not installed.
    """

    def __init__(self, options: TogetherOptions, api_key: str | None) -> None:
        self._key = check_key(api_key)
        self._options = options
        self.address = options.base_url or ADDRESS
        try:
            import httpx
            import together
        except ImportError:
            raise ConfigurationError(
                "the SDK of Together AI is not installed",
                where="backend=together",
                remedy='pip install --constraint constraints.txt ".[together]"',
            ) from None
        local = urlsplit(self.address).hostname in ("127.0.0.1", "localhost", "::1")
        timeout = httpx.Timeout(options.timeout, connect=min(_CONNECT_SECONDS, options.timeout))
        self._client: Together = together.Together(
            api_key=self._key,
            base_url=self.address,
            max_retries=0,
            timeout=timeout,
            # A kept connection that the service closes looks like a reply that is lost.
            http_client=together.DefaultHttpxClient(
                timeout=timeout,
                trust_env=not local,
                limits=httpx.Limits(max_keepalive_connections=0),
            ),
        )

    def __repr__(self) -> str:
        """Without the key."""
        return f"Service({self.address!r})"

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def scrub(self, text: str) -> str:
        """``text`` without the key."""
        return text.replace(self._key, "[key]")

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
        attempt = 0
        while True:
            try:
                return call()
            except Refused as error:
                if refusals:
                    raise
                raise ServerError(
                    f"the service refuses {what}: {error}",
                    where=self.address,
                    remedy="correct what it names, or run again later; a job that was created is "
                    "found again, nothing is paid twice",
                ) from None
            except (NotTaken, Ambiguous) as error:
                if not retry.wait(attempt, getattr(error, "wait", None)):
                    raise ServerError(
                        f"{what} failed: {error}",
                        where=self.address,
                        remedy="check the network and together.base_url, then run again; a job "
                        "that was created is found again, nothing is paid twice",
                    ) from None
                attempt += 1

    def _read(self, call: Callable[[], Any]) -> Answer:
        with self._errors():
            response = call().http_response
            text = self.scrub(response.content.decode("utf-8", errors="replace"))
        try:
            body = json.loads(text)
        except ValueError:
            raise Ambiguous("an answer that is cut or is not JSON") from None
        if not isinstance(body, dict):
            raise Ambiguous("an answer that is not a JSON object")
        return body

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

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns every error of the SDK into one of ours, without the key."""
        import httpx
        import together
        from together.lib.types.error import DownloadError, FileTypeError

        found: Exception
        try:
            yield
            return
        except together.APIStatusError as error:
            found = self._of_status(error)
        except together.APIConnectionError as error:
            found = _of_transport(error.__cause__ or error)
        except httpx.HTTPError as error:
            found = _of_transport(error)
        except FileTypeError:
            found = DataError("the SDK refuses the file", where="together", remedy="report it")
        except (json.JSONDecodeError, together.APIResponseValidationError, DownloadError) as error:
            found = Ambiguous(f"an answer that is cut or is not JSON ({type(error).__name__})")
        # Raised outside of the handlers, so that nothing of the request hangs on it.
        raise found from None

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
            return NotTaken(reason, _asked(error.response.headers.get("retry-after")))
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


def _of_transport(error: BaseException) -> Exception:
    import httpx

    name = type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
        return NotTaken(f"no connection ({name})")
    return Ambiguous(f"the connection was lost or too slow ({name})")


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


def _asked(header: str | None) -> float | None:
    """Seconds in a ``retry-after`` header."""
    try:
        return min(max(0.0, float(header or "")), _LONGEST_ASKED_WAIT)
    except ValueError:
        return None
