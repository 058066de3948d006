"""A strict local server that speaks Together AI's files and fine-tuning API over real HTTP.

For whole pipelines::

    with running_server() as server:
        kedro run --params=backend=together,together.base_url={server.url}

with ``server.key`` as ``together.api_key`` in ``conf/local/credentials.yml``. Unknown parameters
and wrong formats are refused (:mod:`tests.backends.together_rules`); ``server.fail`` makes an
endpoint fail. ``server.paid()`` counts the jobs that cost money.
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import hashlib
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

from tests.backends import together_rules as rules
from tests.backends.together_hosting import ROUTES
from tests.backends.together_rules import Refusal, bad
from tests.backends.together_state import KEY, Fault, Server

__all__ = ["KEY", "Server", "running_server"]

FIXED = {
    ("GET", "/v3/whoami"): "whoami",
    ("GET", "/v1/fine-tunes/models/limits"): "limits",
    ("POST", "/v1/files"): "upload",
    ("POST", "/v1/fine-tunes/estimate-price"): "estimate",
    ("POST", "/v1/fine-tunes"): "create",
    ("GET", "/v1/fine-tunes"): "list",
    ("GET", "/v1/finetune/download"): "download",
}
NAMED = (
    ("PUT", r"/storage/([\w-]+)", "put"),
    ("POST", r"/v1/files/([\w-]+)/preprocess", "preprocess"),
    ("GET", r"/v1/files/([\w-]+)", "file"),
    ("DELETE", r"/v1/files/([\w-]+)", "delete_file"),
    ("GET", r"/v1/fine-tunes/([\w-]+)", "job"),
    ("POST", r"/v1/fine-tunes/([\w-]+)/cancel", "cancel"),
    ("GET", r"/v1/fine-tunes/([\w-]+)/events", "events"),
    ("GET", r"/v1/fine-tunes/([\w-]+)/metrics", "metrics"),
    ("GET", r"/v1/fine-tunes/([\w-]+)/checkpoints", "checkpoints"),
    *ROUTES,
)
HOSTING = {endpoint for _, _, endpoint in ROUTES}


class Handler(BaseHTTPRequestHandler):
    """Answers one request, or lets a fault do it."""

    protocol_version = "HTTP/1.1"
    server_state: Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
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
            if endpoint == "download":
                return self._download(answer, fault)
            if endpoint == "upload":
                headers = {"location": f"{state.url}/storage/{answer.id}?signature=s3cr3t"}
                headers["x-together-file-id"] = answer.id
                return self._deliver(b"", fault, status=302, headers=headers)
            self._deliver(json.dumps(answer).encode(), fault)

    def _work(self, endpoint: str, name: str, query: str, body: bytes) -> Any:
        state = self.server_state
        if endpoint == "put":
            if self.headers.get("authorization"):
                raise bad("a signed address takes no authorization")
            return state.put(name, body) or {}
        if self.headers.get("authorization") != f"Bearer {state.key}":
            raise Refusal(401, f"invalid key {self.headers.get('authorization')}")
        given = parse_qs(query, keep_blank_values=True)
        if endpoint == "limits":
            if set(given) != {"model_name"}:
                raise Refusal(422, "model_name is expected")
            return rules.limits(given["model_name"][0])
        if endpoint == "download":
            return state.download(given)
        if endpoint in HOSTING:
            with state.lock:
                content = json.loads(body) if body else None
                return state.hosting.answer(state, endpoint, name.split("/"), given, content)
        if given:
            raise Refusal(422, f"unexpected parameters {sorted(given)}")
        if endpoint == "upload":
            return state.begin_upload(_form(self.headers.get("content-type", ""), body))
        if endpoint in ("estimate", "create"):
            if self.headers.get("content-type") != "application/json":
                raise bad("content-type: application/json is expected")
            return getattr(state, endpoint)(json.loads(body))
        if endpoint == "whoami":
            return state.whoami()
        if endpoint == "list":
            return state.listing()
        if endpoint == "unknown":
            raise Refusal(404, "not found")
        return getattr(state, endpoint)(name)

    def _deliver(
        self,
        body: bytes,
        fault: Fault,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        if fault.kind == "hold_after":
            return self._hold()
        if fault.kind == "reset_after":
            return self._reset()
        if fault.kind == "status_after":
            return self._failing(fault)
        if fault.kind == "half_body":
            return self._send(200, body[: len(body) // 2], claimed=len(body) + 1)
        if fault.kind == "html":
            return self._send(200, b"<html>Welcome</html>", kind="text/html")
        if fault.kind == "malformed":
            return self._send(200, body[: len(body) // 2] or b"{")
        if fault.kind == "list":
            return self._send(200, b"[1, 2]")
        self._send(status, b"" if fault.kind == "empty" else body, headers)

    def _download(self, archive: bytes, fault: Fault) -> None:
        """The archive, or the part that is asked for."""
        if fault.kind in ("reset_after", "status_after", "html", "hold_after"):
            return self._deliver(archive, fault)
        etag = f'"{hashlib.sha256(archive).hexdigest()[:16]}"'
        headers = {"etag": etag, "accept-ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range") or "")
        known = self.headers.get("if-range") in (None, etag)
        status, body = 200, archive
        if asked and known and fault.kind != "no_range":
            start = int(asked[1])
            status, body = 206, archive[start:]
            headers["content-range"] = f"bytes {start}-{len(archive) - 1}/{len(archive)}"
        kind = "application/octet-stream"
        if fault.kind == "truncated":
            half = body[: len(body) // 2]
            return self._send(status, half, headers, kind=kind, claimed=len(body))
        if fault.kind == "garbled":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 255]) + body[middle + 1 :]
        self._send(status, body, headers, kind=kind)

    def _failing(self, fault: Fault) -> None:
        if fault.kind == "gateway":
            page = b"<html>Bad gateway</html>"
            return self._send(fault.status, page, fault.headers, kind="text/html")
        refusal = Refusal(fault.status, "please try again")
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
    if (method, path) in FIXED:
        return FIXED[method, path], ""
    for wanted, pattern, endpoint in NAMED:
        found = re.fullmatch(pattern, path)
        if method == wanted and found:
            return endpoint, "/".join(found.groups())
    return "unknown", ""


def _form(kind: str, body: bytes) -> dict[str, str]:
    if not kind.startswith("multipart/form-data"):
        raise bad("content-type: multipart/form-data is expected")
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(f"content-type: {kind}\r\n\r\n".encode() + body)
    fields = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        fields[str(name)] = str(part.get_payload(decode=True).decode())
    return fields


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
