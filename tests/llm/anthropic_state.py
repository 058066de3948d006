"""State of the test server: batches, what was paid, which answers are special, what fails next."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.llm.anthropic_answers import answer, prompt_of
from tests.llm.anthropic_rules import Refusal, bad, check_batch, check_message
from tests.strict_server import StrictState

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
class StoredBatch:
    """A batch of the server."""

    id: str
    requests: list[dict[str, Any]]
    created: datetime
    polls: int
    hidden: int
    status: str = "in_progress"
    rows: list[dict[str, Any]] = field(default_factory=list)


class Server(StrictState):
    """State and settings of a running server.

    Attributes:
        key: The key it takes.
        polls: Looks at a batch before it has ended.
        lag: Listings that do not show a new batch yet.
        status: ``processing_status`` of batches that are under way.
        paid: How often each prompt was worked on.
        sent: Parameters of all messages worked on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.key = KEY
        self.polls = 2
        self.lag = 0
        self.status = "in_progress"
        self.page = 1000
        self.answer: Callable[[dict[str, Any]], Any] = answer
        self.special: dict[str, str] = {}
        self.paid: Counter[str] = Counter()
        self.sent: list[dict[str, Any]] = []
        self.batches: dict[str, StoredBatch] = {}
        self._cached: set[str] = set()

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
