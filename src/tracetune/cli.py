"""Commands of the project: ``kedro run`` with readable errors, and what people ask for directly."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import KedroCliError, env_option
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from tracetune.cli_jobs import jobs
from tracetune.cli_twin import twin
from tracetune.errors import ConfigurationError, DataError, TracetuneError

HARMLESS = (
    # `--pipeline` is the documented form of this project; Kedro 1.7 would like `--pipelines`.
    r"Option '--pipeline' is deprecated",
    # Kedro 1.7 with pydantic 2.11 and later.
    r"Accessing the 'model_fields' attribute on the instance is deprecated",
)


@click.group(name="tracetune")
def cli() -> None:
    """Commands of the tracetune project."""


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Turns errors that a user can act on into one message and exit code 1.

    Anything unexpected keeps its traceback.
    """
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    try:
        yield
    except KedroCliError:
        raise
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        raise click.ClickException(text) from None


@contextlib.contextmanager
def project_context(project: Path, env: str | None, **params: str) -> Iterator[Any]:
    """The project's catalog and parameters for these runtime parameters, without a run."""
    with KedroSession.create(project, env=env, runtime_params=params) as session:
        yield session.load_context()  # type: ignore[attr-defined]


def explain(error: BaseException) -> str | None:
    """The message for a person, or None for an error nobody foresaw."""
    from kedro.validation import ParameterValidationError

    link: BaseException | None = error
    while link is not None:
        if isinstance(link, TracetuneError):
            return str(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    if isinstance(error, OmegaConfBaseException):
        return f"configuration: {str(error).splitlines()[0]}"
    if isinstance(error, ParameterValidationError):
        return f"parameters: {error}\nWhat to do: correct --params or the file in conf/"
    if isinstance(error, DatasetError):
        return str(error)
    if isinstance(error, ImportError):
        return _unknown_pipeline(error)
    return None


def _unknown_pipeline(error: ImportError) -> str | None:
    """With ``--pipeline=x`` Kedro imports ``pipelines/x``; a wrong name is an import error."""
    named = re.search(rf"'{re.escape(__package__ or '')}\.pipelines\.([^']+)'", str(error))
    folder = Path(__file__).parent / "pipelines"
    if named is None or (folder / named[1]).is_dir():
        return None
    known = sorted(path.parent.name for path in folder.glob("*/pipeline.py"))
    return (
        f"--pipeline: there is no pipeline {named[1]!r}\n"
        f"What to do: choose one of: {', '.join(known)}"
    )


@cli.command("run", params=kedro_run.params, help=kedro_run.help)
def run(**options: Any) -> Any:
    """Kedro's run with the project's error messages."""
    assert kedro_run.callback is not None
    with readable_errors():
        return kedro_run.callback(**options)


@cli.command()
@click.argument("text")
@click.option("--name", default="demo", show_default=True, help="The thing that was trained.")
@click.option("--tenant", default="demo", show_default=True, help="Whose it is.")
@click.option(
    "--pipeline", default="dpo", show_default=True, help="Pipeline that made the adapter."
)
@click.option("--base", is_flag=True, help="Answer with the base model, without the adapter.")
@env_option
@click.pass_obj
def predict(
    metadata: Any, text: str, name: str, tenant: str, pipeline: str, base: bool, env: str | None
) -> None:
    """Answer TEXT with the released adapter, through the chat template used in training."""
    with readable_errors():
        click.echo(_answer(metadata.project_path, text, name, tenant, pipeline, base, env))


def _answer(
    project: Path, text: str, name: str, tenant: str, pipeline: str, base: bool, env: str | None
) -> str:
    from tracetune.evaluation.answer import answer_once
    from tracetune.runs import latest_trained

    if not text.strip():
        raise ConfigurationError("there is no text to answer", where="TEXT")
    with project_context(project, env, tenant=tenant, name=name) as context:
        catalog = context.catalog
        released = catalog.get(f"{pipeline}.release.adapter")
        if released is None:
            raise ConfigurationError(
                f"the pipeline {pipeline!r} releases no adapter",
                where="--pipeline",
                remedy="`kedro registry list` shows the pipelines",
            )
        adapter = latest_trained(released.list_versions())
        if adapter is None:
            raise DataError(
                f"nothing was trained for tenant {tenant!r}, name {name!r}",
                where=str(released._filepath),
                remedy=f"kedro run --pipeline={pipeline} --params=tenant={tenant},name={name}",
            )
        return answer_once(adapter, text, use_adapter=not base)


@cli.command()
@click.argument("text")
@click.option("--name", default="demo", show_default=True, help="The program: name of its schema.")
@click.option("--tenant", default="demo", show_default=True, help="Whose it is.")
@click.option("--repo", metavar="OWNER/NAME", help="Context: the repository.")
@click.option("--branch", help="Context: the branch that is checked out.")
@click.option("--pr", type=click.IntRange(min=1), help="Context: the branch's pull request.")
@env_option
@click.pass_obj
def ask(
    metadata: Any,
    text: str,
    name: str,
    tenant: str,
    repo: str | None,
    branch: str | None,
    pr: int | None,
    env: str | None,
) -> None:
    """Turn TEXT into a command of a program, with the exported model; nothing is ever run.

    Prints the answer as JSON, the command line it stands for, and how sure the model is.
    """
    from tracetune.ask import ask as answer

    with readable_errors():
        if not text.strip():
            raise ConfigurationError("there is nothing to turn into a command", where="TEXT")
        model, schema = _exported(metadata.project_path, tenant, name, env)
        found = answer(model, schema, text, context=_git_context(repo, branch, pr))
        click.echo(found.text)
        if found.command_line is not None:
            click.echo(found.command_line)
        for problem in found.problems:
            click.echo(f"not valid: {problem}")
        sure = "unknown" if found.confidence is None else f"{found.confidence:.2f}"
        click.echo(f"confidence {sure}, {found.latency_ms:.0f} ms", err=True)


def _exported(project: Path, tenant: str, name: str, env: str | None) -> tuple[Path, Any]:
    """The newest exported model of a program, and its schema."""
    with project_context(project, env, tenant=tenant, name=name) as context:
        schema = context.catalog.load("cli_schema")
        exported = context.catalog.get("cli.export.model")
        # A run that trained nothing leaves a folder without a file.
        models = (Path(version) for version in exported.list_versions())
        model = next((folder for folder in models if any(folder.glob("*.gguf"))), None)
        if model is None:
            raise DataError(
                f"no model of {name!r} was exported for tenant {tenant!r}",
                where=str(exported._filepath),
                remedy=f"kedro run --pipeline=cli --params=tenant={tenant},name={name}",
            )
        return model, schema


def _git_context(repo: str | None, branch: str | None, pr: int | None) -> Any:
    """What is known of the repository, or None."""
    from tracetune.cli_schema.context import Context, GitContext

    if repo is None and branch is None and pr is None:
        return None
    owner, slash, repository = (repo or "").partition("/")
    if repo is not None and not (owner and slash and repository):
        raise ConfigurationError(f"{repo!r} is not OWNER/NAME", where="--repo")
    return Context(
        git=GitContext(
            repo_owner=owner or None,
            repo_name=repository or None,
            current_branch=branch,
            current_pr=pr,
        )
    )


@cli.command()
@click.option("--tenant", default="demo", show_default=True, help="Whose candidates they are.")
@click.option("--name", default="demo", show_default=True, help="The thing that is trained.")
@click.option("--who", default=None, help="Who reviews.  [default: your login name]")
@click.option("--status", is_flag=True, help="Say how many are approved, rejected and open; stop.")
@click.option(
    "--export",
    "export_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write all candidates to a CSV file for a spreadsheet; stop.",
)
@click.option(
    "--import",
    "import_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the decisions that people filled in there; all of them or none.",
)
@env_option
@click.pass_obj
def review(
    metadata: Any,
    tenant: str,
    name: str,
    who: str | None,
    status: bool,
    export_file: Path | None,
    import_file: Path | None,
    env: str | None,
) -> None:
    """Approve or reject synthetic candidates, one at a time, before anything is trained on them.

    \b
    a approve   r reject, with a reason   e edit and approve   s skip
    u undo      arrows move               ? help               q quit

    Every decision is on the disk at once, and the next start goes on where you left. In place of
    the terminal, a spreadsheet can be filled in: --export, then --import. docs/review.md tells
    more.
    """
    from tracetune.review import command

    with readable_errors():
        reviews, options = _reviews(metadata.project_path, tenant, name, env)
        where = command.Review(reviews.store, options, tenant, name, env)
        if sum((status, export_file is not None, import_file is not None)) > 1:
            raise ConfigurationError("choose one of them", where="--status, --export, --import")
        if export_file is not None:
            lines = command.export(where, export_file)
        elif import_file is not None:
            lines = command.import_file(where, import_file, who)
        elif status:
            lines = command.status(where)
        else:
            lines = command.in_terminal(where, who)
        click.echo("\n".join(lines))


def _reviews(project: Path, tenant: str, name: str, env: str | None) -> tuple[Any, Any]:
    """The review of a tenant and name, and its options."""
    from tracetune.review.options import ReviewOptions

    with project_context(project, env, tenant=tenant, name=name) as context:
        try:
            options = ReviewOptions.model_validate(context.params.get("review", {}))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ConfigurationError(
                first["msg"], where=".".join(["review", *map(str, first["loc"])])
            ) from None
        return context.catalog.load("reviews"), options


@cli.group()
def schemas() -> None:
    """List, check and draft the schemas of command-line programs."""


@schemas.command("list")
@click.option("--tenant", default="demo", show_default=True, help="Whose schemas they are.")
@env_option
@click.pass_obj
def list_schemas(metadata: Any, tenant: str, env: str | None) -> None:
    """List the schemas of a tenant, and say which are not valid."""
    from tracetune.cli_schema import command
    from tracetune.resolvers import slug

    try:
        slug(tenant)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--tenant") from None
    with (
        readable_errors(),
        project_context(metadata.project_path, env, tenant=tenant) as context,
    ):
        raw_root = metadata.project_path / context.config_loader["globals"]["raw_root"]
        click.echo("\n".join(command.list_schemas(raw_root, tenant)))


@schemas.command("check")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def check_schema(file: Path) -> None:
    """Check a schema; every problem is named with its line."""
    from tracetune.cli_schema import command

    with readable_errors():
        click.echo("\n".join(command.check_schema(file)))


@schemas.command("draft")
@click.argument("program")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the draft there; a file that exists is not overwritten.",
)
@click.option(
    "--calls",
    default=60,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most help texts that are asked for.",
)
def draft_schema(program: str, out: Path | None, calls: int) -> None:
    """Draft a schema from the help of PROGRAM; nothing but --help is ever run."""
    from tracetune.cli_schema import command

    with readable_errors():
        click.echo("\n".join(command.draft(program, out, most_calls=calls)))


@cli.group()
def eisv() -> None:
    """Judge EISV expressions."""


@eisv.command("gate1")
@click.argument("results", metavar="RESULTS.json", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def judge_gate1(context: click.Context, results: Path) -> None:
    """Say whether RESULTS.json passes Gate 1: exit code 0 if it does, 1 if not, with the reasons.

    Gate 1 wants a mean coherence above 0.933 and at least 90 % of the answers in vocabulary. A run
    of the pipeline eisv leaves one document for each model, prompt and temperature in
    data/08_reporting/<tenant>/<name>/eisv/gate1. A document of your own is a JSON object with
    mean_coherence, valid_rate, pattern_accuracy, n_total, n_valid, per_shape_coherence and
    diversity; model, variant and temperature may be there.
    """
    from tracetune.eisv.command import judge_file

    with readable_errors():
        passed, lines = judge_file(results)
        click.echo("\n".join(lines))
    context.exit(0 if passed else 1)


cli.add_command(jobs)
cli.add_command(twin)
