"""Where an endpoint runs: its project, and the cheapest hardware for a model."""

from __future__ import annotations

from tracetune.backends.together_calls import Answer, amount
from tracetune.backends.together_endpoint_calls import EndpointService
from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import ConfigurationError, ServerError


def project_of(service: EndpointService, options: TogetherOptions) -> str:
    """The project that endpoints belong to.

    Raises:
        ConfigurationError: The key names none, and no parameter does.
    """
    if options.project:
        return options.project
    who = service.again("asking whose key it is", service.whoami)
    found = (who.get("project") or {}).get("id") if isinstance(who.get("project"), dict) else None
    if not found:
        raise ConfigurationError(
            "endpoints belong to a project, and the key names none",
            where="together.project",
            remedy="set it to the id of the project, or use a key of the project",
        )
    return str(found)


def choose_config(service: EndpointService, model: str, project: str) -> Answer:
    """The cheapest configuration that the service lists for a model, with its price.

    Args:
        service: The API.
        model: Id of the base model in the registry.
        project: The project.

    Returns:
        ``path``, ``hardware``, ``usd_per_hour``.

    Raises:
        ServerError: There is none, or none with a price.
    """
    rows = service.again("listing the configurations", lambda: service.configs(model, project))
    types = service.again("reading the prices of the hardware", service.hardware)
    cents = {str(row.get("name")): amount(row.get("priceCentsPerHour")) for row in types}
    found = []
    for row in rows:
        picked = {part.get("key"): part.get("value") for part in row.get("selectors") or []}
        hardware = f"{picked.get('accelerator_count')}x{picked.get('accelerator_type')}"
        price = cents.get(hardware)
        if price is not None and row.get("id"):
            path = f"projects/{row.get('projectId')}/configs/{row['id']}"
            found.append((price / 100, path, hardware))
    if not found:
        raise ServerError(
            f"the service lists no configuration with a price for {model!r}",
            where=service.address,
            remedy="this model cannot be asked at an endpoint today: name a local copy in "
            "base_model.local, or set together.judge_on=local",
        )
    usd, path, hardware = min(found)
    return {"path": path, "hardware": hardware, "usd_per_hour": usd}
