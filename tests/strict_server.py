"""What the strict local servers share: real HTTP on a free port, and faults on any endpoint.

A server has a state (its endpoints, what was paid) and a handler that says which endpoint a call is
for, does its work and sends the answer. Everything that goes wrong on the way is here.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

State = TypeVar("State", bound="StrictState")


class Refused(Exception):
    """An error reply: a status and a body."""

    status: int

    def body(self) -> dict[str, Any]:
        """As the service sends it."""
        raise NotImplementedError


@dataclass
class Fault:
    """Something that goes wrong with the next ``times`` calls of an endpoint, after ``skip`` calls.

    Kinds: ``status`` (an error reply of the service, with ``headers``), ``gateway`` (a status with
    HTML, not the service's own), ``reset_before``, or ``reset_after`` and ``status_after`` the work
    was done, ``half_body``, ``html``, ``malformed``, ``empty``, ``list`` (a JSON array);
    ``hold_before`` and ``hold_after``: no answer until ``server.release`` is set. A handler may
    know more of them.
    """

    kind: str
    times: int = 1
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    skip: int = 0


@dataclass
class StrictState:
    """What every server keeps.

    Attributes:
        url: Its address.
        calls: Endpoints called, in order.
        faults: What fails next, by endpoint.
        lock: For what must not happen at once.
        held: Set while a call is held by a fault.
        release: Set it to let held calls go.
    """

    url: str = ""
    calls: list[str] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def fail(self, endpoint: str, kind: str, times: int = 1, **more: Any) -> None:
        """Makes the next calls of an endpoint fail."""
        self.faults.setdefault(endpoint, []).append(Fault(kind, times, **more))

    def next_fault(self, endpoint: str) -> Fault | None:
        """The fault of this call, if any."""
        with self.lock:
            for fault in self.faults.get(endpoint, []):
                if fault.skip:
                    fault.skip -= 1
                    return None
                if fault.times:
                    fault.times -= 1
                    return fault
        return None


class StrictHandler(BaseHTTPRequestHandler):
    """Answers one request, or lets a fault do it."""

    protocol_version = "HTTP/1.1"
    always: ClassVar[dict[str, str]] = {}
    """Headers of every reply."""
    server_state: Any

    def route(self, path: str) -> tuple[str, str]:
        """The endpoint of a call, and the names in its path."""
        raise NotImplementedError

    def work(self, endpoint: str, name: str, query: str, body: bytes) -> Any:
        """Does what is asked; raises :class:`Refused` otherwise."""
        raise NotImplementedError

    def reply(self, endpoint: str, answer: Any, fault: Fault) -> None:
        """Sends what :meth:`work` gave."""
        self.deliver(json.dumps(answer).encode(), fault)

    def failure(self, status: int) -> Refused:
        """An error of the service's own."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests read the outcome, not the log."""

    def _answer(self) -> None:
        state = self.server_state
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        endpoint, name = self.route(parts.path)
        with state.lock:
            state.calls.append(endpoint)
        fault = state.next_fault(endpoint) or Fault("none")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if fault.kind == "hold_before":
                return self.hold()
            if fault.kind == "reset_before":
                return self.reset()
            if fault.kind in ("status", "gateway"):
                return self._failing(fault)
            try:
                answer = self.work(endpoint, name, parts.query, body)
            except Refused as refusal:
                return self.send(refusal.status, json.dumps(refusal.body()).encode())
            self.reply(endpoint, answer, fault)

    def deliver(
        self,
        body: bytes,
        fault: Fault,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Sends a body, or what the fault makes of it."""
        half = body[: len(body) // 2]
        if fault.kind == "hold_after":
            return self.hold()
        if fault.kind == "reset_after":
            return self.reset()
        if fault.kind == "status_after":
            return self._failing(fault)
        if fault.kind == "half_body":
            return self.send(200, half, claimed=len(body) + 1)
        if fault.kind == "html":
            return self.send(200, b"<html>Welcome</html>", kind="text/html")
        if fault.kind == "malformed":
            return self.send(200, half or b"{")
        if fault.kind == "list":
            return self.send(200, b"[1, 2]")
        self.send(status, b"" if fault.kind == "empty" else body, headers)

    def _failing(self, fault: Fault) -> None:
        if fault.kind == "gateway":
            page = b"<html>Bad gateway</html>"
            return self.send(fault.status, page, fault.headers, kind="text/html")
        refusal = self.failure(fault.status)
        self.send(fault.status, json.dumps(refusal.body()).encode(), fault.headers)

    def send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        kind: str = "application/json",
        claimed: int | None = None,
    ) -> None:
        """Sends a reply; ``claimed`` is a length that it says it has."""
        self.send_response(status)
        length = len(body) if claimed is None else claimed
        for name, value in {
            "content-type": kind,
            "content-length": str(length),
            **self.always,
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if claimed is not None:
            self.close_connection = True

    def hold(self) -> None:
        """Gives no answer until the test lets go."""
        self.server_state.held.set()
        self.server_state.release.wait(30)
        self.reset()

    def reset(self) -> None:
        """Ends the connection at once (RST)."""
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.shutdown(socket.SHUT_RD)
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed or cut off are what the tests are about."""


@contextmanager
def serving(state: State, handler: type[StrictHandler], **settings: Any) -> Iterator[State]:
    """A server on a free port of the loopback interface; ``settings`` are for its state."""
    for name, value in settings.items():
        setattr(state, name, value)
    bound = type("Bound", (handler,), {"server_state": state})
    server = _Quiet(("127.0.0.1", 0), bound)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()
