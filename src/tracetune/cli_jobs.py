"""``kedro jobs``: the commands on training jobs that run elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.utils import env_option
from pydantic import ValidationError

from tracetune.errors import ConfigurationError


@click.group()
def jobs() -> None:
    """See and steer training jobs and endpoints that run elsewhere (backend=together)."""


def _job_options(command: Any) -> Any:
    """The options that all commands on jobs have."""
    name = click.option("--name", default="demo", show_default=True, help="What is trained.")
    tenant = click.option("--tenant", default="demo", show_default=True, help="Whose it is.")
    return tenant(name(env_option(click.pass_obj(command))))


@contextlib.contextmanager
def _jobs(metadata: Any, tenant: str, name: str, env: str | None) -> Iterator[tuple[Any, Any]]:
    """The jobs of a tenant and name, and the parameters of Together AI."""
    from tracetune.backends.together_options import TogetherOptions
    from tracetune.cli import project_context, readable_errors

    with (
        readable_errors(),
        project_context(metadata.project_path, env, tenant=tenant, name=name) as context,
    ):
        try:
            options = TogetherOptions.model_validate(context.params.get("together", {}))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ConfigurationError(
                first["msg"], where=".".join(["together", *map(str, first["loc"])])
            ) from None
        yield context.catalog.load("jobs"), options


@jobs.command("list")
@_job_options
def list_jobs(metadata: Any, tenant: str, name: str, env: str | None) -> None:
    """List the jobs of a tenant and name, as they were last seen."""
    from tracetune.backends import commands

    with _jobs(metadata, tenant, name, env) as (found, _):
        click.echo("\n".join(commands.list_jobs(found)))


@jobs.command("show")
@click.argument("job")
@_job_options
def show_job(metadata: Any, job: str, tenant: str, name: str, env: str | None) -> None:
    """Show a JOB (its id, or the start of it): arguments, events, metrics, checkpoints."""
    from tracetune.backends import commands

    with _jobs(metadata, tenant, name, env) as (found, options):
        click.echo("\n".join(commands.show(found, options, job)))


@jobs.command("wait")
@click.argument("job")
@_job_options
def wait_for_job(metadata: Any, job: str, tenant: str, name: str, env: str | None) -> None:
    """Wait until a JOB has ended; exit code 1 if it gave no model."""
    from tracetune.backends import commands

    with _jobs(metadata, tenant, name, env) as (found, options):
        click.echo("\n".join(commands.wait(found, options, job)))


@jobs.command("cancel")
@click.argument("job")
@_job_options
def cancel_job(metadata: Any, job: str, tenant: str, name: str, env: str | None) -> None:
    """Ask for the end of a JOB; steps that were done are billed."""
    from tracetune.backends import commands

    with _jobs(metadata, tenant, name, env) as (found, options):
        click.echo("\n".join(commands.cancel(found, options, job)))


@jobs.command("fetch")
@click.argument("job")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where to put the model folder.  [default: beside the record of the job]",
)
@_job_options
def fetch_job(
    metadata: Any, job: str, out: Path | None, tenant: str, name: str, env: str | None
) -> None:
    """Download the adapter of a completed JOB, and print its folder."""
    from tracetune.backends import commands

    with _jobs(metadata, tenant, name, env) as (found, options):
        click.echo("\n".join(commands.fetch(found, options, job, out)))


@jobs.command("cleanup")
@_job_options
def clean_up(metadata: Any, tenant: str, name: str, env: str | None) -> None:
    """Delete endpoints that a run which was cut off left open; they are billed by the minute."""
    from tracetune.backends import commands

    with _jobs(metadata, tenant, name, env) as (found, options):
        click.echo("\n".join(commands.cleanup(found, options)))


@jobs.command("check")
@click.option("--model", metavar="ID", help="Hosted model.  [default: together.model, else all]")
@_job_options
def check_jobs(metadata: Any, model: str | None, tenant: str, name: str, env: str | None) -> None:
    """Check the connection, the key, and what the service states of its models today."""
    from tracetune.backends import commands

    with _jobs(metadata, tenant, name, env) as (found, options):
        click.echo("\n".join(commands.check(found, options, model)))
