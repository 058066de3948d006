"""A strict local server that speaks Anthropic's Messages and Message Batches API over real HTTP.

For whole pipelines::

    with running_server() as server:
        kedro run --params=llm.provider=anthropic,llm.base_url={server.url}

with ``server.key`` as ``anthropic.api_key`` in ``conf/local/credentials.yml``. Answers fit the
schema that is asked for (:mod:`tests.llm.anthropic_answers`), for synthesis
``{"items": [{"request": ..., "output": {...}}]}``; ``server.answer`` may be set to a function of
the parameters of a message that gives another value. ``server.special`` says, by a part of the
prompt, that an answer should be special (see :data:`SPECIAL`), and ``server.fail`` that an endpoint
should fail.

What was worked on is counted in ``server.paid`` by prompt: 2 means paid twice.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.llm.anthropic_answers import answer, prompt_of
from tests.llm.anthropic_rules import (
    Refusal,
    bad,
    check_batch,
    check_headers,
    check_message,
)

KEY = "sk-ant-test-0123456789abcdef"
SPECIAL = (
    "refusal",
    "max_tokens",
    "thinking",
    "invalid",
    "not_json",
    "no_usage",
    "stop_sequence",
    "errored",
    "expired",
    "canceled",
)
"""Special answers; the last three only in batches."""
CACHE_MINIMUM = 512


@dataclass
class Fault:
    """Something that goes wrong with the next ``times`` calls of an endpoint.

    Kinds: ``status`` (an error reply of the service, with ``headers``), ``gateway`` (a status with
    HTML, not the service's own), ``reset_before`` and ``reset_after`` the work was done,
    ``half_body``, ``html``, ``malformed``, ``empty``; of results ``cut_in_line``, ``cut_at_line``,
    ``reset_middle``, ``repeat`` (lines come twice, and one of a stranger); ``hold_before`` and
    ``hold_after``: no answer until ``server.release`` is set; ``hold_middle`` of results.
    """

    kind: str
    times: int = 1
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    skip: int = 0


@dataclass
class StoredBatch:
    """A batch of the server."""

    id: str
    requests: list[dict[str, Any]]
    created: datetime
    polls: int
    hidden: int
    status: str = "in_progress"
    rows: list[dict[str, Any]] = field(default_factory=list)


class Server:
    """State and settings of a running server.

    Attributes:
        url: Its address.
        key: The key it takes.
        polls: Looks at a batch before it has ended.
        lag: Listings that do not show a new batch yet.
        status: ``processing_status`` of batches that are under way.
        paid: How often each prompt was worked on.
        calls: Endpoints called, in order.
        sent: Parameters of all messages worked on.
        held: Set while a call is held by a fault.
        release: Set it to let held calls go.
    """

    def __init__(self) -> None:
        self.url = ""
        self.key = KEY
        self.polls = 2
        self.lag = 0
        self.status = "in_progress"
        self.page = 1000
        self.answer: Callable[[dict[str, Any]], Any] = answer
        self.special: dict[str, str] = {}
        self.paid: Counter[str] = Counter()
        self.calls: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.batches: dict[str, StoredBatch] = {}
        self.held, self.release = threading.Event(), threading.Event()
        self.lock = threading.RLock()
        self._faults: dict[str, list[Fault]] = {}
        self._cached: set[str] = set()

    def fail(self, endpoint: str, kind: str, times: int = 1, **how: Any) -> None:
        """Lets an endpoint fail: ``messages``, ``count``, ``create``, ``retrieve``, ``list``,
        ``results``, ``cancel``."""
        self._faults.setdefault(endpoint, []).append(Fault(kind, times, **how))

    def paid_twice(self) -> int:
        """Prompts that were worked on more than once."""
        return sum(count > 1 for count in self.paid.values())

    def add_stranger(self, count: int) -> StoredBatch:
        """A batch of somebody else in the same account."""
        with self.lock:
            params = {"model": "claude-haiku-5-5", "max_tokens": 9}
            turns = [{"role": "user", "content": "a stranger's"}]
            return self._add(
                [
                    {"custom_id": f"other-{n}", "params": {**params, "messages": turns}}
                    for n in range(count)
                ]
            )

    def next_fault(self, endpoint: str) -> Fault | None:
        with self.lock:
            for fault in self._faults.get(endpoint, []):
                if fault.skip:
                    fault.skip -= 1
                    return None
                if fault.times:
                    fault.times -= 1
                    return fault
            return None

    def work(self, params: dict[str, Any]) -> dict[str, Any]:
        """The message to ``params``, which is paid."""
        with self.lock:
            prompt = prompt_of(params)
            self.paid[prompt] += 1
            self.sent.append(params)
            special = self._special(prompt)
            value = self.answer(params) if special != "invalid" else {"something": "else"}
            text = value if isinstance(value, str) else json.dumps(value)
            stop = "end_turn"
            if special == "refusal":
                text, stop = "I would rather not.", "refusal"
            elif special == "max_tokens" or len(text) // 4 >= params["max_tokens"]:
                text, stop = text[: len(text) // 2], "max_tokens"
            elif special == "not_json":
                text = f"Here it is: {text}"
            elif special == "stop_sequence":
                stop = "stop_sequence"
            content = [{"type": "text", "text": text}]
            if special == "thinking":
                content.insert(0, {"type": "thinking", "thinking": "Hm.", "signature": "s"})
            message = {
                "id": f"msg_{len(self.sent):06d}",
                "type": "message",
                "role": "assistant",
                "model": params["model"],
                "content": content,
                "stop_reason": stop,
                "stop_sequence": None,
                "usage": self._usage(params, len(text) // 4 + 1),
            }
            if special == "no_usage":
                del message["usage"]
            return message

    def _special(self, prompt: str) -> str:
        return next((kind for part, kind in self.special.items() if part in prompt), "")

    def _usage(self, params: dict[str, Any], output: int) -> dict[str, int]:
        total, read, written = tokens_of(params), 0, 0
        for block in params.get("system", []):
            size = len(block["text"]) // 4
            if "cache_control" in block and size >= CACHE_MINIMUM:
                if block["text"] in self._cached:
                    read += size
                else:
                    written += size
                    self._cached.add(block["text"])
        return {
            "input_tokens": total - read - written,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": min(output, params["max_tokens"]),
        }

    def create(self, body: Any) -> dict[str, Any]:
        with self.lock:
            batch = self._add(check_batch(body))
            for request in batch.requests:
                batch.rows.append(
                    {"custom_id": request["custom_id"], "result": self._result(request["params"])}
                )
            random.Random(batch.id).shuffle(batch.rows)
            return self.describe(batch)

    def _add(self, requests: list[dict[str, Any]]) -> StoredBatch:
        name = f"msgbatch_{len(self.batches) + 1:06d}"
        now = datetime.now(UTC)
        self.batches[name] = StoredBatch(name, requests, now, self.polls, self.lag)
        return self.batches[name]

    def _result(self, params: dict[str, Any]) -> dict[str, Any]:
        try:
            check_message(params)
        except Refusal as refusal:
            return {"type": "errored", "error": refusal.body()}
        special = self._special(prompt_of(params))
        if special == "errored":
            error = Refusal(500, "api_error", "Internal server error")
            return {"type": "errored", "error": error.body()}
        if special in ("expired", "canceled"):
            return {"type": special}
        return {"type": "succeeded", "message": self.work(params)}

    def retrieve(self, name: str) -> dict[str, Any]:
        with self.lock:
            batch = self._batch(name)
            batch.polls -= 1
            if batch.polls < 0:
                batch.status = "ended"
                batch.rows = batch.rows or [
                    {"custom_id": item["custom_id"], "result": {"type": "canceled"}}
                    for item in batch.requests
                ]
            return self.describe(batch)

    def cancel(self, name: str) -> dict[str, Any]:
        with self.lock:
            batch = self._batch(name)
            batch.status = "canceling"
            return self.describe(batch)

    def _batch(self, name: str) -> StoredBatch:
        if name not in self.batches:
            raise Refusal(404, "not_found_error", f"no batch {name}")
        return self.batches[name]

    def listing(self, query: dict[str, list[str]]) -> dict[str, Any]:
        with self.lock:
            if set(query) - {"limit", "after_id", "before_id"}:
                raise bad("query: Extra inputs are not permitted")
            limit = int(query.get("limit", ["20"])[0])
            if not 1 <= limit <= 1000:
                raise bad("limit: 1 to 1000")
            shown = [batch for batch in self.batches.values() if not batch.hidden][::-1]
            for batch in self.batches.values():
                batch.hidden = max(0, batch.hidden - 1)
            if "after_id" in query:
                ids = [batch.id for batch in shown]
                shown = shown[ids.index(query["after_id"][0]) + 1 :]
            size = min(limit, self.page)
            data = [self.describe(batch) for batch in shown[:size]]
            return {
                "data": data,
                "has_more": len(shown) > size,
                "first_id": data[0]["id"] if data else None,
                "last_id": data[-1]["id"] if data else None,
            }

    def results(self, name: str) -> list[bytes]:
        with self.lock:
            batch = self._batch(name)
            if batch.status != "ended":
                raise Refusal(404, "not_found_error", "the batch has no results yet")
            return [json.dumps(row).encode() + b"\n" for row in batch.rows]

    def describe(self, batch: StoredBatch) -> dict[str, Any]:
        ended = batch.status == "ended"
        kinds = Counter(row["result"]["type"] for row in batch.rows) if ended else Counter()
        counts = {name: kinds[name] for name in ("succeeded", "errored", "canceled", "expired")}
        counts["processing"] = 0 if ended else len(batch.requests)
        under_way = self.status if batch.status == "in_progress" else batch.status
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else under_way,
            "request_counts": counts,
            "created_at": batch.created.isoformat(),
            "expires_at": (batch.created + timedelta(days=1)).isoformat(),
            "ended_at": datetime.now(UTC).isoformat() if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.url}/v1/messages/batches/{batch.id}/results" if ended else None,
        }


def tokens_of(params: dict[str, Any]) -> int:
    """Input tokens as this server counts them."""
    text = [params.get("system", ""), params["messages"], params.get("output_config", {})]
    # Marks for the cache are no text.
    return len(json.dumps(text).replace(', "cache_control": {"type": "ephemeral"}', "")) // 4


class Handler(BaseHTTPRequestHandler):
    """Answers one request, or lets a fault do it."""

    protocol_version = "HTTP/1.1"
    server_state: Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests read the outcome, not the log."""

    def _answer(self) -> None:
        state = self.server_state
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        endpoint, name = _endpoint(self.command, parts.path)
        with state.lock:
            state.calls.append(endpoint)
        fault = state.next_fault(endpoint) or Fault("none")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if fault.kind == "hold_before":
                return self._hold()
            if fault.kind == "reset_before":
                return self._reset()
            if fault.kind in ("status", "gateway"):
                return self._failing(fault)
            try:
                answer = self._work(endpoint, name, parts.query, body)
            except Refusal as refusal:
                return self._send(refusal.status, json.dumps(refusal.body()).encode())
            if isinstance(answer, list):
                return self._stream(answer, fault)
            self._deliver(json.dumps(answer).encode(), fault)

    def _work(self, endpoint: str, name: str, query: str, body: bytes) -> Any:
        state = self.server_state
        check_headers(self.headers, state.key)
        parsed: Any = None
        if self.command == "POST" and endpoint != "cancel":
            if self.headers.get("content-type") != "application/json":
                raise bad("content-type: application/json is expected")
            try:
                parsed = json.loads(body)
            except ValueError:
                raise bad("the body is not JSON") from None
        if endpoint == "messages":
            check_message(parsed)
            return state.work(parsed)
        if endpoint == "count":
            check_message(parsed, counting=True)
            return {"input_tokens": tokens_of(parsed)}
        if endpoint == "create":
            return state.create(parsed)
        if endpoint == "list":
            return state.listing(parse_qs(query))
        if endpoint in ("retrieve", "results", "cancel"):
            return getattr(state, endpoint)(name)
        raise Refusal(404, "not_found_error", "Not found")

    def _deliver(self, body: bytes, fault: Fault) -> None:
        if fault.kind == "hold_after":
            return self._hold()
        if fault.kind == "reset_after":
            return self._reset()
        if fault.kind == "half_body":
            return self._send(200, body[: len(body) // 2], claimed=len(body))
        if fault.kind == "html":
            return self._send(200, b"<html>Welcome</html>", kind="text/html")
        if fault.kind == "malformed":
            return self._send(200, body[: len(body) // 2])
        self._send(200, b"" if fault.kind == "empty" else body)

    def _stream(self, lines: list[bytes], fault: Fault) -> None:
        """Results; without a length, so that their end is the end of the connection."""
        half = len(lines) // 2
        if fault.kind in ("hold_after", "reset_after", "html", "half_body", "empty", "malformed"):
            return self._deliver(b"".join(lines), fault)
        shown = {
            "cut_at_line": lines[:half],
            "cut_in_line": [*lines[:half], lines[half][: len(lines[half]) // 2]],
            "hold_middle": [*lines[:half], lines[half][: len(lines[half]) // 2]],
            "reset_middle": lines[:half],
            "repeat": [*lines, *lines[:2], lines[0].replace(b'"custom_id": "', b'"custom_id": "x')],
        }.get(fault.kind, lines)
        self.send_response(200)
        self.send_header("content-type", "application/x-jsonl")
        self.send_header("connection", "close")
        self.end_headers()
        for line in shown:
            self.wfile.write(line)
        self.wfile.flush()
        if fault.kind == "hold_middle":
            return self._hold()
        if fault.kind == "reset_middle":
            return self._reset()
        self.close_connection = True

    def _failing(self, fault: Fault) -> None:
        if fault.kind == "gateway":
            page = b"<html>Bad gateway</html>"
            return self._send(fault.status, page, fault.headers, kind="text/html")
        kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(fault.status, "api_error")
        refusal = Refusal(fault.status, kind, "please try again")
        self._send(fault.status, json.dumps(refusal.body()).encode(), fault.headers)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        kind: str = "application/json",
        claimed: int | None = None,
    ) -> None:
        self.send_response(status)
        length = len(body) if claimed is None else claimed
        for name, value in {
            "content-type": kind,
            "content-length": str(length),
            "request-id": "req_1",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if claimed is not None:
            self.close_connection = True

    def _hold(self) -> None:
        self.server_state.held.set()
        self.server_state.release.wait(30)
        self._reset()

    def _reset(self) -> None:
        """Ends the connection at once (RST)."""
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.shutdown(socket.SHUT_RD)
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.close()


def _endpoint(method: str, path: str) -> tuple[str, str]:
    if method == "POST":
        fixed = {
            "/v1/messages": "messages",
            "/v1/messages/count_tokens": "count",
            "/v1/messages/batches": "create",
        }
        if path in fixed:
            return fixed[path], ""
    elif path == "/v1/messages/batches":
        return "list", ""
    found = re.fullmatch(r"/v1/messages/batches/([A-Za-z0-9_]+)(/results|/cancel)?", path)
    known = {
        ("GET", None): "retrieve",
        ("GET", "/results"): "results",
        ("POST", "/cancel"): "cancel",
    }
    return (known.get((method, found[2]), "unknown"), found[1]) if found else ("unknown", "")


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed or cut off are what the tests are about."""


@contextmanager
def running_server(**settings: Any) -> Iterator[Server]:
    """A server on a free port of the loopback interface; ``settings`` are attributes of it."""
    state = Server()
    for name, value in settings.items():
        setattr(state, name, value)
    handler = type("Bound", (Handler,), {"server_state": state})
    server = _Quiet(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()
