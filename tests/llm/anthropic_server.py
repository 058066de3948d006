"""A strict local server that speaks Anthropic's Messages and Message Batches API over real HTTP.

For whole pipelines::

    with running_server() as server:
        kedro run --params=llm.provider=anthropic,llm.base_url={server.url}

with ``server.key`` as ``anthropic.api_key`` in ``conf/local/credentials.yml``. Answers fit the
schema that is asked for (:mod:`tests.llm.anthropic_answers`), for synthesis
``{"items": [{"request": ..., "output": {...}}]}``; ``server.answer`` may be set to a function of
the parameters of a message that gives another value. ``server.special`` says, by a part of the
prompt, that an answer should be special (see ``SPECIAL`` in :mod:`tests.llm.anthropic_state`), and
``server.fail`` that an endpoint should fail.

What was worked on is counted in ``server.paid`` by prompt: 2 means paid twice.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.llm.anthropic_rules import Refusal, bad, check_headers, check_message
from tests.llm.anthropic_state import KEY, Fault, Server, tokens_of

__all__ = ["KEY", "Server", "running_server"]


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
        if fault.kind == "status_after":
            return self._failing(fault)
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
