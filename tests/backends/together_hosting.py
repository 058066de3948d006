"""Endpoints of the strict server: v2 of the API, as SDK 3.1 documents it, inside a project.

What is deployed is billed until its replicas are taken away; an endpoint with deployments is not
deleted. ``Hosting.billed`` and ``Hosting.endpoints`` say what is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.backends.together_rules import Refusal, bad

_P = r"/v2/projects/([\w-]+)"
_E = rf"{_P}/endpoints/([\w-]+)"
ROUTES = (
    ("GET", r"/v2/public/(inference-instance-types)", "hardware"),
    ("POST", r"/v1/chat/(completions)", "chat"),
    ("GET", rf"{_P}/models/([\w-]+)", "registered"),
    ("GET", rf"{_P}/configs", "configs"),
    ("GET", rf"{_P}/endpoints", "endpoints"),
    ("POST", rf"{_P}/endpoints", "create_endpoint"),
    ("DELETE", _E, "delete_endpoint"),
    ("GET", rf"{_E}/deployments", "deployments"),
    ("POST", rf"{_E}/deployments", "deploy"),
    ("GET", rf"{_E}/deployments/([\w-]+)", "deployment"),
    ("PATCH", rf"{_E}/deployments/([\w-]+)", "stop"),
    ("DELETE", rf"{_E}/deployments/([\w-]+)", "delete_deployment"),
)
BASE = "projects/public/models/ml_base"
CHAT = {
    "model",
    "messages",
    "max_tokens",
    "temperature",
    "seed",
    "context_length_exceeded_behavior",
}
_PAGE = 2


@dataclass
class Deployment:
    """A model on an endpoint."""

    id: str
    name: str
    model: str
    replicas: int = 1
    looks: int = 0
    gone: bool = False
    listings: int = 0


@dataclass
class Hosting:
    """What the account hosts.

    Attributes:
        endpoints: Name by id of those that exist.
        deployed: Deployments by endpoint.
        ready_looks: Looks at a deployment before it is ready; None: it never is.
        fails: Reason why deployments fail; empty if they do not.
        leaving: Listings that still show a deployment after it was deleted.
        prices: Cents an hour by hardware.
        reply: What a deployed model answers to messages, if anything; gets its resource name too.
        finish: Why it stops.
        context: Most characters of messages and answer that it takes; None for any number.
        asked: Prompts that were answered, with the model.
        bodies: The requests that were answered.
        created: Endpoints that were ever created.
        deployments: Deployments that were ever created.
    """

    endpoints: dict[str, str] = field(default_factory=dict)
    deployed: dict[str, list[Deployment]] = field(default_factory=dict)
    ready_looks: int | None = 1
    fails: str = ""
    leaving: int = 1
    prices: dict[str, int] = field(
        default_factory=lambda: {"1xnvidia-h100-80gb": 399, "2xnvidia-h100-80gb": 798}
    )
    reply: Callable[[str, list[dict[str, str]]], str | None] = lambda model, messages: (
        f"{model}: yes"
    )
    finish: str = "stop"
    context: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    created: int = 0
    deployments: int = 0

    def billed(self) -> int:
        """Replicas that are billed now."""
        return sum(one.replicas for many in self.deployed.values() for one in many)

    def answer(
        self, server: Any, call: str, names: list[str], query: dict[str, list[str]], body: Any
    ) -> dict[str, Any]:
        """The reply to a call."""
        if call not in ("hardware", "chat"):
            project, *names = names
            if project != server.project:
                raise Refusal(404, f"no project {project}")
        known = {"endpoints": {"filter", "after"}, "deployments": {"after"}, "stop": {"updateMask"}}
        known["configs"] = {"referenceModelId", "after"}
        if set(query) - known.get(call, set()):
            raise Refusal(422, f"unexpected parameters {sorted(query)}")
        given = {name: values[0] for name, values in query.items()}
        return getattr(self, f"_{call}")(server, names, given, body)

    def _hardware(self, *_: Any) -> dict[str, Any]:
        rows = [
            {"id": f"it-{name}", "name": name, "priceCentsPerHour": cents, "gpuCount": int(name[0])}
            for name, cents in self.prices.items()
        ]
        return {"object": "list", "data": rows}

    def _registered(self, server: Any, names: list[str], *_: Any) -> dict[str, Any]:
        job = server.jobs.get(names[0].removeprefix("ml_"))
        if job is None or job.status != "completed":
            raise Refusal(404, f"no model {names[0]}")
        return {"id": names[0], "projectId": server.project, "name": "x", "baseModel": BASE}

    def _configs(self, server: Any, names: list[str], query: Any, body: Any) -> dict[str, Any]:
        if query.get("referenceModelId") != "ml_base":
            return {"data": []}
        rows = [
            {
                "id": f"cr-{count}",
                "projectId": "public",
                "selectors": [
                    {"key": "accelerator_type", "value": "nvidia-h100-80gb"},
                    {"key": "accelerator_count", "value": str(count)},
                ],
            }
            for count in (2, 4, 1)
        ]
        return _page(rows, query)

    def _endpoints(self, server: Any, names: list[str], query: Any, body: Any) -> dict[str, Any]:
        wanted = re.fullmatch(r'name="([a-z0-9-]+)"', query.get("filter", ""))
        if wanted is None:
            raise bad('filter: name="..." is expected by these tests')
        rows = [
            {"id": key, "name": f"trials/{name}", "projectId": server.project}
            for key, name in self.endpoints.items()
            if wanted[1] in name
        ]
        return _page(rows, query)

    def _create_endpoint(
        self, server: Any, names: list[str], query: Any, body: Any
    ) -> dict[str, Any]:
        if set(body) != {"name", "visibility"} or body["visibility"] != "VISIBILITY_PRIVATE":
            raise Refusal(422, f"unexpected fields {sorted(body)}")
        if not re.fullmatch(r"[a-z0-9-]{1,63}", body["name"]):
            raise bad("name: lower-case letters, digits and hyphens")
        if body["name"] in self.endpoints.values():
            raise Refusal(409, "an endpoint of that name exists")
        self.created += 1
        key = f"ep_{self.created}"
        self.endpoints[key] = body["name"]
        self.deployed[key] = []
        return {"id": key, "name": f"trials/{body['name']}", "deployments": []}

    def _of(self, names: list[str]) -> list[Deployment]:
        if names[0] not in self.endpoints:
            raise Refusal(404, f"no endpoint {names[0]}")
        return self.deployed[names[0]]

    def _one(self, names: list[str]) -> Deployment:
        for found in self._of(names):
            if found.id == names[1] and not found.gone:
                return found
        raise Refusal(404, f"no deployment {names[1]}")

    def _delete_endpoint(self, server: Any, names: list[str], *_: Any) -> dict[str, Any]:
        if self._of(names):
            raise bad("the endpoint has deployments; delete them first")
        del self.endpoints[names[0]], self.deployed[names[0]]
        return {}

    def _deployments(self, server: Any, names: list[str], query: Any, body: Any) -> dict[str, Any]:
        found = self._of(names)
        rows = [self._row(names[0], one) for one in found]
        for one in found:
            one.listings += one.gone
        kept = [one for one in found if not one.gone or one.listings < self.leaving]
        self.deployed[names[0]] = kept
        return _page(rows, query)

    def _deploy(self, server: Any, names: list[str], query: Any, body: Any) -> dict[str, Any]:
        if set(body) != {"name", "model", "config", "autoscaling", "inactiveTimeout"}:
            raise Refusal(422, f"unexpected fields {sorted(body)}")
        if body["autoscaling"] != {"minReplicas": 1, "maxReplicas": 1}:
            raise bad("autoscaling: one replica is expected by these tests")
        if not 30 <= body["inactiveTimeout"] <= 1440:
            raise bad("inactiveTimeout: 30 to 1440")
        if not re.fullmatch(r"projects/public/configs/cr-[124]", body["config"]):
            raise bad("config: not one of this model")
        mine = re.fullmatch(rf"projects/{server.project}/models/ml_([\w-]+)", body["model"])
        if body["model"] != BASE and (mine is None or mine[1] not in server.jobs):
            raise Refusal(404, f"no model {body['model']}")
        if any(one.name == body["name"] for one in self._of(names)):
            raise Refusal(409, "a deployment of that name exists")
        self.deployments += 1
        made = Deployment(f"dep_{self.deployments}", body["name"], body["model"])
        self.deployed[names[0]].append(made)
        return self._row(names[0], made)

    def _deployment(self, server: Any, names: list[str], *_: Any) -> dict[str, Any]:
        found = self._one(names)
        found.looks += 1
        return self._row(names[0], found)

    def _stop(self, server: Any, names: list[str], query: Any, body: Any) -> dict[str, Any]:
        found = self._one(names)
        if query != {"updateMask": "autoscaling"}:
            raise bad("updateMask: autoscaling is expected by these tests")
        if body != {"autoscaling": {"minReplicas": 0, "maxReplicas": 0}}:
            raise bad("autoscaling: no replica is expected by these tests")
        found.replicas = 0
        return self._row(names[0], found)

    def _delete_deployment(self, server: Any, names: list[str], *_: Any) -> dict[str, Any]:
        found = self._one(names)
        if found.replicas:
            raise bad("the deployment has replicas; scale it to 0 first")
        found.gone, found.name = True, f"{found.name}-leaving"
        if not self.leaving:
            self._of(names).remove(found)
        return {}

    def _row(self, endpoint: str, one: Deployment) -> dict[str, Any]:
        state = "PROVISIONING"
        if one.gone or not one.replicas:
            state = "STOPPING"
        elif self.fails:
            state = "FAILED"
        elif self.ready_looks is not None and one.looks > self.ready_looks:
            state = "READY"
        status = {"state": f"DEPLOYMENT_STATE_{state}", "message": self.fails}
        name = f"trials/{self.endpoints[endpoint]}/{one.name}"
        return {"id": one.id, "name": name, "model": one.model, "status": status}

    def _chat(self, server: Any, names: list[str], query: Any, body: Any) -> dict[str, Any]:
        if set(body) != CHAT:
            raise Refusal(422, f"unexpected fields {sorted(set(body) ^ CHAT)}")
        _check_messages(body["messages"])
        length = sum(len(message["content"] or "") for message in body["messages"])
        if self.context is not None and length + body["max_tokens"] > self.context:
            raise bad(
                f"This model's maximum context length is {self.context} tokens. However, you "
                f"requested {length + body['max_tokens']} tokens."
            )
        rows = [(self._row(key, one), one) for key in self.endpoints for one in self.deployed[key]]
        for row, one in rows:
            if row["name"] == body["model"] and row["status"]["state"].endswith("_READY"):
                text = self.reply(one.model, body["messages"])
                self.bodies.append(body)
                self.asked.append((one.model, body["messages"][-1]["content"]))
                choice = {"index": 0, "finish_reason": self.finish, "message": {"content": text}}
                return {"id": "c1", "choices": [choice], "usage": {"completion_tokens": 3}}
        raise Refusal(404, f"no model {body['model']}")


def _check_messages(messages: list[Any]) -> None:
    """Refuses messages that the SDK's types do not describe, and outputs of calls nobody made."""
    called: set[str] = set()
    for place, message in enumerate(messages):
        role, given = message.get("role"), set(message) - {"role", "name"}
        known = {"content"}
        if role == "assistant":
            known |= {"reasoning", "reasoning_content", "tool_calls"}
            called |= {call["id"] for call in message.get("tool_calls") or []}
        elif role == "tool":
            known |= {"tool_call_id"}
            if message.get("tool_call_id") not in called:
                raise bad(f"messages[{place}]: tool_call_id of a call is required")
        elif role not in ("system", "user"):
            raise bad(f"messages[{place}]: unknown role {role!r}")
        if given - known:
            raise Refusal(422, f"messages[{place}]: unexpected fields {sorted(given - known)}")
        text = message.get("content")
        if not (isinstance(text, str) and text) and not message.get("tool_calls"):
            raise bad(f"messages[{place}]: content is required")
    if not messages or messages[-1]["role"] not in ("user", "tool"):
        raise bad("messages: the last one must be of the user or of a tool")


def _page(rows: list[Any], query: dict[str, str]) -> dict[str, Any]:
    start = int(query.get("after", 0))
    more = {"next_cursor": str(start + _PAGE)} if start + _PAGE < len(rows) else {}
    return {"data": rows[start : start + _PAGE], **more}
