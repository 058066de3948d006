"""``kedro twin``: what trained heads say of conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.utils import env_option

from tracetune.errors import DataError
from tracetune.records.heads import HeadVariant


@click.group()
def twin() -> None:
    """Look at conversations with trained heads."""


@twin.command("style")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", default="demo", show_default=True, help="The thing that was trained.")
@click.option("--tenant", default="demo", show_default=True, help="Whose it is.")
@click.option(
    "--variant",
    type=click.Choice(["causal", "full"]),
    help="What the coordinates of document 001's JSONL may know: only the past, or the whole "
    "conversation (as document 001 makes them). Left out, reference.json beside FILE says it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per turn, with signature.")
@env_option
@click.pass_obj
def style(
    metadata: Any,
    file: Path,
    name: str,
    tenant: str,
    variant: HeadVariant | None,
    as_json: bool,
    env: str | None,
) -> None:
    """Say which patterns the turns of FILE show, and which conversations are alike in style.

    FILE is conversations.json of an export of ChatGPT or Claude, plain JSONL of conversations, or
    JSONL of document 001, whose coordinates are taken as they stand; they must be made as those
    that the heads were trained on. The heads are those that
    `kedro run --pipeline=heads` released; docs/heads.md says what their figures are worth.
    """
    from tracetune import twin_style
    from tracetune.cli import project_context, readable_errors
    from tracetune.privacy import PrivacyOptions
    from tracetune.runs import latest_trained
    from tracetune.training.heads.config import read_config

    with readable_errors():
        with project_context(metadata.project_path, env, tenant=tenant, name=name) as context:
            released = context.catalog.get("heads.release.adapter")
            heads = latest_trained(released.list_versions())
            privacy = PrivacyOptions.model_validate(context.params.get("privacy", {}))
        if heads is None:
            raise DataError(
                f"no heads were trained for tenant {tenant!r}, name {name!r}",
                where=str(released._filepath),
                remedy=f"kedro run --pipeline=heads --params=tenant={tenant},name={name}",
            )
        made = read_config(heads).reference
        rows = twin_style.turns_in(file, made, privacy, variant=variant)
        found = twin_style.styles(heads, rows, variant=made.variant)
        lines = twin_style.lines_of(found, twin_style.threshold_of(heads))
        click.echo("\n".join(twin_style.json_lines(found) if as_json else lines))
