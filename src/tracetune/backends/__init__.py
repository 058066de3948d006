"""Backends: where a training job runs.

A backend takes a job and knows nothing of pipelines or sources. Four verbs: launch, poll, cancel,
fetch. The handle that ``launch`` returns is a JSON document, so that a run can stop and find its
job again later.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from tracetune.backends.base import Backend, JobHandle, JobState
from tracetune.backends.local import LocalBackend
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together import TogetherBackend
from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import ConfigurationError

__all__ = [
    "Backend",
    "JobHandle",
    "JobState",
    "LocalBackend",
    "RemoteJobs",
    "TogetherBackend",
    "TogetherOptions",
    "get",
]

_BACKENDS: dict[str, Callable[[TogetherOptions, RemoteJobs], Backend]] = {
    LocalBackend.name: lambda _options, _jobs: LocalBackend(),
    TogetherBackend.name: TogetherBackend,
}


def get(name: str, together: TogetherOptions, jobs: RemoteJobs) -> Backend:
    """The backend called ``name``.

    Args:
        name: ``local`` or ``together``.
        together: Parameters of Together AI.
        jobs: Jobs of the tenant and name that run elsewhere, and the key for them.

    Raises:
        ConfigurationError: There is none of that name.
    """
    if name not in _BACKENDS:
        close = difflib.get_close_matches(name, _BACKENDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(
            f"there is no backend {name!r}{hint}",
            where="backend",
            remedy=f"choose one of: {', '.join(_BACKENDS)}",
        )
    return _BACKENDS[name](together, jobs)
