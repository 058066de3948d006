"""Whether and how base and adapters of a run can be asked: here, at a hosted endpoint, or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import ConfigurationError
from tracetune.runs import no_release
from tracetune.training.options import BaseModelOptions

if TYPE_CHECKING:
    from tracetune.evaluation.asked import Asked

Document = dict[str, Any]


def check_places(backend: str, base: BaseModelOptions, together: TogetherOptions) -> None:
    """Refuses places of training and judgement that do not go together, before anything is done.

    Args:
        backend: Where models are trained.
        base: Which base model.
        together: Which hosted model it is, and where the models are asked.

    Raises:
        ConfigurationError: An endpoint cannot have what is trained here, or no hosted model is
            known for the base.
    """
    if backend == "together":
        from tracetune.backends.together_models import hosted_name

        folder = Path(base.id).expanduser()
        hosted_name(folder.resolve().name if folder.is_dir() else base.id, together.model)
    elif together.judge_on == "endpoint":
        raise ConfigurationError(
            f"an endpoint has only what was trained there, and backend={backend} trains elsewhere",
            where="together.judge_on",
            remedy="set together.judge_on=local, or backend=together",
        )


def why_unasked(base: Document, together: TogetherOptions) -> str:
    """Why nobody can ask the models of a run, and what to do about it; empty if they can be asked.

    Args:
        base: The base model.
        together: Says whether a hosted endpoint is asked.
    """
    if base["kind"] != "hosted" or together.judge_on == "endpoint":
        return ""
    return (
        f"the weights of {base['id']} are not on this machine, so its adapters cannot be asked "
        "here; name a local copy in base_model.local, or set together.judge_on=endpoint to ask "
        "them at Together AI (billed by the minute), and run again: what was trained stays"
    )


def askable(previous: Document, asked_at: str) -> Document:
    """The adapter released before; none if it cannot be asked where the others are.

    Args:
        previous: The adapter, or none with the reason.
        asked_at: ``local`` or ``endpoint``.
    """
    if previous["path"] is None or asked_at == "local":
        return previous
    from tracetune.backends.together_host import job_of

    if job_of(Path(previous["path"])):
        return previous
    return no_release(
        f"version {previous['version']} of {previous['pipeline']} was not trained at Together AI, "
        "so no endpoint has it"
    )


@contextmanager
def asked(
    base: Document,
    adapters: Mapping[str, Path | str],
    together: TogetherOptions,
    jobs: RemoteJobs,
    *,
    threads: int | None = None,
) -> Iterator[Asked]:
    """Base and adapters, ready to answer; an endpoint that this opens is gone when it ends.

    Args:
        base: The base model.
        adapters: Adapter folders by name.
        together: Parameters of Together AI.
        jobs: Jobs and endpoints of the tenant and name, and the key.
        threads: CPU threads for local answers.

    Raises:
        ConfigurationError: The base is hosted and no endpoint is wanted, or cannot be had.
        DataError: An adapter belongs to another base, or was not trained at Together AI.
        GateError: The endpoint may cost more than the budget has left.
        ServerError: The service cannot be reached, or the endpoint does not get ready.
    """
    folders = {name: Path(path) for name, path in adapters.items()}
    if together.judge_on == "endpoint":
        from tracetune.backends.together_host import together_host
        from tracetune.evaluation.hosted import HostedGenerator

        with together_host(folders, together, jobs) as host:
            yield HostedGenerator(tuple(folders), host)
        return
    from tracetune.evaluation.generate import load_generator

    yield load_generator(
        base["path"], folders, threads=threads, weights_sha256=base["weights_sha256"]
    )
