"""A strict local server that speaks Together AI's files and fine-tuning API over real HTTP.

For whole pipelines::

    with running_server() as server:
        kedro run --params=backend=together,together.base_url={server.url}

with ``server.key`` as ``together.api_key`` in ``conf/local/credentials.yml``. Unknown parameters
and wrong formats are refused (:mod:`tests.backends.together_rules`); ``server.fail`` makes an
endpoint fail (:mod:`tests.strict_server`; of a download also ``truncated``, where the connection
ends early, ``garbled``, another byte, and ``no_range``, always from the start). ``server.paid()``
counts the jobs that cost money.
"""

from __future__ import annotations

import email.parser
import email.policy
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from tests.backends import together_rules as rules
from tests.backends.together_hosting import ROUTES
from tests.backends.together_rules import Refusal, bad
from tests.backends.together_state import KEY, Server
from tests.strict_server import Fault, StrictHandler, serving

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


class Handler(StrictHandler):
    """The endpoints of Together AI."""

    server_state: Server

    def route(self, path: str) -> tuple[str, str]:
        """The endpoint of a call, and the names in its path."""
        if (self.command, path) in FIXED:
            return FIXED[self.command, path], ""
        for wanted, pattern, endpoint in NAMED:
            found = re.fullmatch(pattern, path)
            if self.command == wanted and found:
                return endpoint, "/".join(found.groups())
        return "unknown", ""

    def reply(self, endpoint: str, answer: Any, fault: Fault) -> None:
        """Sends what the work gave; archives and places for files in their own way."""
        if endpoint == "download":
            return self._download(answer, fault)
        if endpoint == "upload":
            headers = {"location": f"{self.server_state.url}/storage/{answer.id}?signature=s3cr3t"}
            headers["x-together-file-id"] = answer.id
            return self.deliver(b"", fault, status=302, headers=headers)
        self.deliver(json.dumps(answer).encode(), fault)

    def failure(self, status: int) -> Refusal:
        """An error of the service's own."""
        return Refusal(status, "please try again")

    def work(self, endpoint: str, name: str, query: str, body: bytes) -> Any:
        """Does what is asked."""
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

    def _download(self, archive: bytes, fault: Fault) -> None:
        """The archive, or the part that is asked for."""
        if fault.kind in ("reset_after", "status_after", "html", "hold_after"):
            return self.deliver(archive, fault)
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
            return self.send(status, half, headers, kind=kind, claimed=len(body))
        if fault.kind == "garbled":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 255]) + body[middle + 1 :]
        self.send(status, body, headers, kind=kind)


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


@contextmanager
def running_server(**settings: Any) -> Iterator[Server]:
    """A server on a free port of the loopback interface; ``settings`` are attributes of it."""
    with serving(Server(), Handler, **settings) as state:
        yield state
