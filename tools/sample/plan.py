"""What the routing agent did: its sessions, turns and spans, from one seed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tools.sample.language import Grammar, Speaker
from tools.sample.private import PHRASES, in_requests
from tools.sample.spans import (
    ANCHOR,
    DAYS,
    OTHER_PROJECT,
    PROJECT,
    SEED,
    TEST_DAYS,
    Span,
    hex_id,
    nanoseconds,
    pause,
    working_moment,
)

SESSIONS = 555

# Where the old router sends a request by mistake: mostly one neighbour, whose words overlap.
CONFUSIONS = {
    "billing_agent": ["support_agent", "support_agent", "travel_agent", "hr_agent"],
    "calendar_agent": ["travel_agent", "travel_agent", "hr_agent", "support_agent"],
    "travel_agent": ["calendar_agent", "calendar_agent", "billing_agent", "weather_agent"],
    "support_agent": ["code_agent", "code_agent", "billing_agent", "search_agent"],
    "code_agent": ["support_agent", "support_agent", "search_agent"],
    "hr_agent": ["calendar_agent", "billing_agent", "billing_agent", "support_agent"],
    "weather_agent": ["search_agent", "search_agent", "travel_agent"],
    "search_agent": ["smalltalk_agent", "code_agent", "code_agent", "travel_agent"],
    "smalltalk_agent": ["search_agent", "search_agent", "weather_agent"],
}
ERROR_RATE = {"weather_agent": 0.17, "smalltalk_agent": 0.2, "code_agent": 0.22}
USUAL_ERROR_RATE = 0.28


@dataclass
class Routing:
    """A decision of the router, as reviewers see it.

    Attributes:
        span: Its span.
        truth: The agent that should have got the request.
        said: The agent the router named; None where the output names none.
        key: The key under which the output names it.
    """

    span: Span
    truth: str
    said: str | None
    key: str


@dataclass
class History:
    """What happened around the routing agent, in order of time."""

    spans: list[Span] = field(default_factory=list)
    routings: list[Routing] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)


class Planner:
    """Plays the history of the routing agent."""

    def __init__(self, grammar: Grammar) -> None:
        """Creates the planner; nothing is played yet."""
        self.grammar = grammar
        self.rng = random.Random(f"plan:{SEED}")
        self.speaker = Speaker(grammar, random.Random(f"words:{SEED}"))
        self.history = History()
        self.secrets = [
            self.rng.choice(PHRASES[kind]).format(it=value)
            for kind, values in in_requests().items()
            for value in values
        ]

    def run(self) -> History:
        """All spans, routing decisions and session ids."""
        weights = [0.75 + 0.6 * day / DAYS for day in range(DAYS)]
        starts = sorted(working_moment(self.rng, weights) for _ in range(SESSIONS))
        border = ANCHOR - timedelta(days=TEST_DAYS)
        # Sessions that reach over the border between the windows, and a turn exactly on it.
        starts += [border - timedelta(seconds=seconds) for seconds in (50, 100, 150)] + [border]
        for number, start in enumerate(starts):
            self._session(number, start)
        self._odd_spans()
        self._other_project()
        self.history.spans.sort(key=lambda span: (span.start, span.span_id))
        self.history.routings.sort(key=lambda item: (item.span.start, item.span.span_id))
        return self.history

    def _session(self, number: int, start: datetime) -> None:
        rng = self.rng
        session = self._session_id(number)
        if isinstance(session, str) and session.startswith("demo-"):
            self.history.sessions.append(session)
        agents = list(self.grammar.topics)
        weights = [self.grammar.topics[agent].weight for agent in agents]
        agent = rng.choices(agents, weights)[0]
        moment = start
        for turn in range(rng.choices([1, 2, 3, 4, 5, 6], [1, 4, 5, 4, 2, 1])[0]):
            if turn and rng.random() > 0.35:
                agent = rng.choices(agents, weights)[0]
            self._turn(number, turn, session, moment, agent)
            moment += pause(rng)

    def _session_id(self, number: int) -> str | int | None:
        odd = {
            11: None,
            47: "   ",
            83: "unknown",
            131: 90_210_417,
            178: None,
            260: "",
            333: "unknown",
        }
        return odd.get(number, f"demo-{hex_id(10, 'session', number)}")

    def _turn(
        self, number: int, turn: int, session: str | int | None, moment: datetime, agent: str
    ) -> None:
        rng = self.rng
        late = 0.15 if moment >= ANCHOR - timedelta(days=TEST_DAYS) else 0.0
        chance = rng.random()
        if turn and chance < 0.045:
            text = self.speaker.vague()
        elif chance < 0.105:
            others = [other for other in self.grammar.topics if other != agent]
            text = self.speaker.two_requests(agent, rng.choice(others), late=late)
        else:
            text = self.speaker.request(agent, late=late)
        if self.secrets and rng.random() < 0.035:
            text = f"{text.rstrip('?.')}, {self.secrets.pop(rng.randrange(len(self.secrets)))}"
        trace = hex_id(32, "trace", number, turn)
        said = self._routed(agent)
        key = "recommended_agent" if rng.random() < 0.03 else "agent"
        start, took = nanoseconds(moment), rng.randrange(180, 900) * 1_000_000
        attributes = {
            "input.value": text,
            "output.value": json.dumps({key: said}),
            "llm.model_name": "router-2026-06",
        }
        if session is not None:
            attributes["session.id"] = session
        if rng.random() < 0.15:
            attributes["metadata"] = json.dumps(
                {"channel": rng.choice(["web", "mobile", "chat"]), "client": {"version": "4.2"}}
            )
        span = Span(
            PROJECT, trace, hex_id(16, "routing", number, turn), None, "routing_agent",
            start, start + took, "OK", {"openinference.span.kind": "AGENT", **attributes},
        )  # fmt: skip
        self.history.spans.append(span)
        self.history.routings.append(Routing(span, agent, said, key))
        self._around(span, said, text, session, rng)

    def _routed(self, agent: str) -> str:
        if self.rng.random() >= ERROR_RATE.get(agent, USUAL_ERROR_RATE):
            return agent
        if self.rng.random() < 0.85:
            return self.rng.choice(CONFUSIONS[agent])
        return self.rng.choice([other for other in self.grammar.topics if other != agent])

    def _around(
        self, span: Span, said: str, text: str, session: str | int | None, rng: random.Random
    ) -> None:
        """The turn as the user saw it, and what went on below the decision."""
        turn: dict[str, Any] = {"openinference.span.kind": "CHAIN", "input.value": text}
        if session is not None:
            turn["session.id"] = session
        if rng.random() > 0.02:
            turn["output.value"] = self.speaker.reply(said)
        end = span.end + rng.randrange(400, 4_000) * 1_000_000
        self._add(span, "chat_turn", turn, span.start, end, parent=None)
        if rng.random() < 0.22:
            self._add(
                span,
                # A child of the same name, which is no routing decision of its own.
                rng.choice(["routing_agent", "routing_agent", "ChatCompletion"]),
                {
                    "openinference.span.kind": "LLM",
                    "input.value": text,
                    "output.value": span.attributes["output.value"],
                    "llm.token_count.prompt": rng.randrange(120, 400),
                    "llm.token_count.completion": rng.randrange(8, 14),
                },
                span.start + 20_000_000,
                span.end - 10_000_000,
            )
        if rng.random() < 0.05:
            self._add(
                span,
                "agent_lookup",
                {
                    "openinference.span.kind": "RETRIEVER",
                    "input.value": text,
                    "retrieval.documents.0.document.content": f"{said} handles such requests",
                    "retrieval.documents.0.document.score": round(rng.random(), 3),
                },
                span.start + 5_000_000,
                span.start + 15_000_000,
            )

    def _add(
        self, near: Span, name: str, attributes: dict[str, Any], start: int, end: int,
        parent: str | None = "",
    ) -> None:  # fmt: skip
        span_id = hex_id(16, name, near.span_id, len(self.history.spans))
        parent = near.span_id if parent == "" else parent
        self.history.spans.append(
            Span(near.project, near.trace_id, span_id, parent, name, start, end, "OK", attributes)
        )

    def _odd_spans(self) -> None:
        """Bends some decisions into what real telemetry holds too: broken, huge, mistyped."""
        rng = self.rng
        chosen = rng.sample(self.history.routings, 96)
        for index, item in enumerate(chosen):
            attributes, kind = item.span.attributes, index % 12
            item.said = None if kind not in (0, 1, 10) else item.said
            if kind in (0, 1):
                item.span.status, attributes["output.value"] = (
                    "ERROR",
                    attributes["output.value"] if kind else "",
                )
            elif kind == 2:
                attributes["output.value"] = rng.choice(
                    ["{'agent': ", "billing_agent", "{}", "null"]
                )
            elif kind == 3:
                attributes["output.value"] = rng.choice([["agent", "hr_agent"], 7, True, 0.5])
            elif kind == 4:
                attributes["input.value"] = rng.choice(["", "   ", "\n"])
            elif kind == 5:
                attributes["input.value"] = rng.choice([42, 3.5, True])
            elif kind == 6:
                del attributes["output.value"]
            elif kind == 7 and index < 48:
                attributes["input.value"] = (attributes["input.value"] + " ... ") * 700
            elif kind == 8:
                attributes["output.value"] = json.dumps({"agent": ["hr_agent", "billing_agent"]})
            elif kind == 9:
                attributes["output.value"] = json.dumps({"agent": None, "error": "no agent"})
            elif kind == 10:
                attributes["input.value"] += " 👩‍💻🇵🇹 \u202bשלום\u202c 日本語 e\u0301"
            elif kind == 11:
                attributes["input.value"] = {"query": "find it", "language": "en"}.get("query")
                attributes["openinference.span.kind"] = rng.choice(["CHAIN", "ROUTER", "agent "])
        big = chosen[7].span.attributes
        big["input.value"] = ("please read this log line and route it. " * 5_200)[:200_000]

    def _other_project(self) -> None:
        """Noise of a second project, which must never be read."""
        rng = self.rng
        for number in range(120):
            agent = rng.choice(list(self.grammar.topics))
            moment = ANCHOR - timedelta(minutes=rng.randrange(1, DAYS * 1440))
            start = nanoseconds(moment)
            span = Span(
                OTHER_PROJECT, hex_id(32, "other", number), hex_id(16, "other", number), None,
                "routing_agent", start, start + 300_000_000, "OK",
                {
                    "openinference.span.kind": "AGENT",
                    "input.value": self.speaker.request(agent, late=0.0),
                    "output.value": json.dumps({"agent": agent}),
                    "session.id": f"demo-staging-{number // 3}",
                },
            )  # fmt: skip
            self.history.spans.append(span)


def make_history() -> History:
    """The whole history of the routing agent; two calls give the same."""
    return Planner(Grammar.load()).run()
