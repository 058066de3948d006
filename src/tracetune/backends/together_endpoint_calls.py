"""Calls of Together AI's API about endpoints: v2, inside a project (``together`` 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tracetune.backends.endpoint_records import IDLE_MINUTES
from tracetune.backends.together_calls import Answer, Service
from tracetune.hosted_calls import Ambiguous, Missing

_MOST_PAGES = 100


class EndpointService(Service):
    """The API with endpoints, deployments, registered models and chat."""

    def registered(self, model_id: str, project: str) -> Answer:
        """A model of the registry of a project."""
        calls = self._client.models.with_raw_response
        return self._with_id(
            self._read(lambda: calls.retrieve(model_id, project_id=project)), "model"
        )

    def configs(self, model_id: str, project: str) -> list[Answer]:
        """The configurations that a model can be deployed with."""
        calls = self._client.models.configs.with_raw_response
        return self._pages(
            lambda after: calls.list(
                project_id=project, reference_model_id=model_id, **_given(after)
            )
        )

    def hardware(self) -> list[Answer]:
        """Instance types with their prices."""
        calls = self._client.endpoints.hardware.with_raw_response
        return self._rows(lambda: calls.list(), "data")

    def endpoints(self, project: str, name: str) -> list[Answer]:
        """The endpoints of a project that may have a name; the caller compares it."""
        calls = self._client.endpoints.with_raw_response
        return self._pages(
            lambda after: calls.list(project_id=project, filter=f'name="{name}"', **_given(after))
        )

    def create_endpoint(self, project: str, name: str) -> str:
        """Creates an endpoint, once; its id. It costs nothing until something is deployed on it."""
        calls = self._client.endpoints.with_raw_response
        found = self._read(
            lambda: calls.create(project_id=project, name=name, visibility="VISIBILITY_PRIVATE")
        )
        return self._id(found.get("id"), "endpoint")

    def delete_endpoint(self, project: str, endpoint: str) -> None:
        """Deletes an endpoint; one that is not there is deleted already."""
        calls = self._client.endpoints.with_raw_response
        self._gone(lambda: calls.delete(endpoint, project_id=project))

    def deployments(self, project: str, endpoint: str) -> list[Answer]:
        """What is deployed on an endpoint; nothing if it is not there."""
        calls = self._client.endpoints.deployments.with_raw_response
        try:
            return self._pages(
                lambda after: calls.list(endpoint, project_id=project, **_given(after))
            )
        except Missing as error:
            if not error.real:
                raise
            return []

    def deploy(self, project: str, endpoint: str, name: str, model: str, config: str) -> str:
        """Creates a deployment with one replica, once; its id. From here on it is billed."""
        calls = self._client.endpoints.deployments.with_raw_response
        found = self._read(
            lambda: calls.create(
                endpoint,
                project_id=project,
                name=name,
                model=model,
                config=config,
                autoscaling={"min_replicas": 1, "max_replicas": 1},
                inactive_timeout=IDLE_MINUTES,
            )
        )
        return self._id(found.get("id"), "deployment")

    def deployment(self, project: str, endpoint: str, deployment: str) -> Answer:
        """A deployment as it is now."""
        calls = self._client.endpoints.deployments.with_raw_response
        return self._with_id(
            self._read(
                lambda: calls.retrieve(deployment, project_id=project, endpoint_id=endpoint)
            ),
            "deployment",
        )

    def stop(self, project: str, endpoint: str, deployment: str) -> None:
        """Takes the replicas of a deployment away, which ends its bill."""
        calls = self._client.endpoints.deployments.with_raw_response
        self._gone(
            lambda: calls.update(
                deployment,
                project_id=project,
                endpoint_id=endpoint,
                autoscaling={"min_replicas": 0, "max_replicas": 0},
                update_mask="autoscaling",
            )
        )

    def delete_deployment(self, project: str, endpoint: str, deployment: str) -> None:
        """Deletes a deployment; one that is not there is deleted already."""
        calls = self._client.endpoints.deployments.with_raw_response
        self._gone(lambda: calls.delete(deployment, project_id=project, endpoint_id=endpoint))

    def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
    ) -> Answer:
        """One answer; ``model`` is the name of a deployment."""
        calls: Any = self._client.chat.completions.with_raw_response
        return self._read(
            lambda: calls.create(
                model=model,
                messages=[dict(message) for message in messages],
                max_tokens=max_tokens,
                temperature=temperature,
                seed=seed,
                context_length_exceeded_behavior="error",
            )
        )

    def _gone(self, call: Callable[[], Any]) -> None:
        try:
            self._read(call)
        except Missing as error:
            if not error.real:
                raise

    def _pages(self, call: Callable[[str | None], Any]) -> list[Answer]:
        """The rows of all pages of a listing."""
        rows: list[Answer] = []
        after: str | None = None
        for _ in range(_MOST_PAGES):
            page = self._read(partial(call, after))
            found = page.get("data") or []
            if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
                raise Ambiguous("a listing without data")
            rows += found
            after = page.get("next_cursor")
            if not after:
                return rows
        raise Ambiguous("a listing without an end")


def _given(after: str | None) -> dict[str, Any]:
    return {} if after is None else {"after": after}
