"""A strict local server that speaks Anthropic's Messages and Message Batches API over real HTTP.

For whole pipelines::

    with running_server() as server:
        kedro run --params=llm.provider=anthropic,llm.base_url={server.url}

with ``server.key`` as ``anthropic.api_key`` in ``conf/local/credentials.yml``. Answers fit the
schema that is asked for (:mod:`tests.llm.anthropic_answers`), for synthesis
``{"items": [{"request": ..., "output": {...}}]}``; ``server.answer`` may be set to a function of
the parameters of a message that gives another value. ``server.special`` says, by a part of the
prompt, that an answer should be special (see ``SPECIAL`` in :mod:`tests.llm.anthropic_state`), and
``server.fail`` that an endpoint should fail (:mod:`tests.strict_server`; of results also
``cut_in_line``, ``cut_at_line``, ``hold_middle``, ``reset_middle`` and ``repeat``: lines come
twice, and one of a stranger).

What was worked on is counted in ``server.paid`` by prompt: 2 means paid twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import parse_qs

from tests.llm.anthropic_rules import Refusal, bad, check_headers, check_message
from tests.llm.anthropic_state import KEY, Server, tokens_of
from tests.strict_server import Fault, StrictHandler, serving

__all__ = ["KEY", "Server", "running_server"]


class Handler(StrictHandler):
    """The endpoints of Anthropic."""

    always: ClassVar[dict[str, str]] = {"request-id": "req_1"}
    server_state: Server

    def route(self, path: str) -> tuple[str, str]:
        """The endpoint of a call, and the batch in its path."""
        return _endpoint(self.command, path)

    def reply(self, endpoint: str, answer: Any, fault: Fault) -> None:
        """Sends what the work gave; results line by line."""
        if isinstance(answer, list):
            return self._stream(answer, fault)
        self.deliver(json.dumps(answer).encode(), fault)

    def failure(self, status: int) -> Refusal:
        """An error of the service's own."""
        kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        return Refusal(status, kind, "please try again")

    def work(self, endpoint: str, name: str, query: str, body: bytes) -> Any:
        """Does what is asked."""
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

    def _stream(self, lines: list[bytes], fault: Fault) -> None:
        """Results; without a length, so that their end is the end of the connection."""
        half = len(lines) // 2
        if fault.kind in ("hold_after", "reset_after", "html", "half_body", "empty", "malformed"):
            return self.deliver(b"".join(lines), fault)
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
            return self.hold()
        if fault.kind == "reset_middle":
            return self.reset()
        self.close_connection = True


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


@contextmanager
def running_server(**settings: Any) -> Iterator[Server]:
    """A server on a free port of the loopback interface; ``settings`` are attributes of it."""
    with serving(Server(), Handler, **settings) as state:
        yield state
