"""An HTTP proxy in front of a server, which does to answers what networks do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Fault = Callable[["Handler", int, dict[str, str], bytes], None]


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        url: Its address.
        faults: Faults still to come for requests that contain ``part``, first to last.
        part: Which requests are hit: a part of the path, or of the body.
        hits: How many were.
        seen: All requests.
    """

    url: str
    part: str = "/spans"
    faults: list[Fault] = field(default_factory=list)
    forever: Fault | None = None
    hits: int = 0
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, request: str) -> Fault | None:
        with self.lock:
            fault = None
            # No single request is hit so often that it is given up.
            if self.part in request and (self.forever or self.seen.count(request) < 3):
                fault = self.faults.pop(0) if self.faults else self.forever
            self.seen.append(request)
            self.hits += fault is not None
            return fault


class Handler(BaseHTTPRequestHandler):
    """Forwards one request, or lets a fault answer it."""

    proxy: Proxy
    target: httpx.Client

    def do_GET(self) -> None:
        self._forward(b"")

    def do_POST(self) -> None:
        self._forward(self.rfile.read(int(self.headers["content-length"])))

    def _forward(self, body: bytes) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        answer = self.target.request(self.command, self.path, content=body, headers=headers)
        kept = {"content-type", "x-phoenix-server-version"}
        headers = {k: v for k, v in answer.headers.items() if k.lower() in kept}
        fault = self.proxy.next_fault(f"{self.path} {body.decode()}")
        (fault or reply)(self, answer.status_code, headers, answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests read the outcome, not the log."""


def reply(handler: Handler, status: int, headers: dict[str, str], content: bytes) -> None:
    """Passes the answer on."""
    handler.send_response(status)
    for name, value in {**headers, "content-length": str(len(content))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


def status(code: int, retry_after: str | None = None) -> Fault:
    """The server answers with an error status."""

    def fault(handler: Handler, _: int, headers: dict[str, str], content: bytes) -> None:
        extra = {"retry-after": retry_after} if retry_after else {}
        reply(handler, code, {"content-type": "text/plain", **extra}, b"not now")

    return fault


def slow(seconds: float) -> Fault:
    """The answer comes late."""

    def fault(handler: Handler, code: int, headers: dict[str, str], content: bytes) -> None:
        time.sleep(seconds)
        try:
            reply(handler, code, headers, content)
        except OSError:
            return  # the other side has gone, as it should

    return fault


def cut(handler: Handler, code: int, headers: dict[str, str], content: bytes) -> None:
    """The connection ends in the middle of the page."""
    handler.send_response(code)
    handler.send_header("content-length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.connection.close()


def cut_without_length(
    handler: Handler, code: int, headers: dict[str, str], content: bytes
) -> None:
    """The same, in a way that only the half document shows."""
    reply(handler, code, headers, content[: len(content) // 2])


def die(handler: Handler, code: int, headers: dict[str, str], content: bytes) -> None:
    """The server dies in the middle of the page: what comes after finds nobody."""
    handler.server.shutdown()
    handler.server.server_close()
    cut(handler, code, headers, content)


def afterwards(change: Callable[[], None]) -> Fault:
    """The answer is whole, and before the next one is asked for the data change."""

    def fault(handler: Handler, code: int, headers: dict[str, str], content: bytes) -> None:
        change()
        reply(handler, code, headers, content)

    return fault


@contextmanager
def proxy_for(url: str) -> Iterator[Proxy]:
    """A proxy in front of ``url``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as target:
        server.RequestHandlerClass = type("Bound", (Handler,), {"proxy": proxy, "target": target})
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown()
            server.server_close()
