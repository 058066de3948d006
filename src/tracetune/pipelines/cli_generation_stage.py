"""The generation stage: CLI schema → examples by plan → training rows → split manifest."""

from __future__ import annotations

import itertools
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.cli_schema.cli_options import CliOptions
from tracetune.cli_schema.schema import CliSchema
from tracetune.cli_schema.screen import Rejected, Written
from tracetune.datasets.llm_dataset import LlmAccess
from tracetune.llm.options import LlmOptions
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.prepare_stage import checked_flag
from tracetune.records import Example
from tracetune.splits import SplitOptions

Document = dict[str, Any]


def write_examples(
    cli_schema: CliSchema,
    llm_access: LlmAccess,
    llm: LlmOptions,
    cli: CliOptions,
    seed: int,
    dry_run: bool,
) -> tuple[list[Written], list[Rejected], Document]:
    """Has examples written for every cell of the plan, and keeps those that are valid.

    A dry run asks nobody who wants money: it says what the first round would cost at most.

    Returns:
        Examples, what was refused with its reason, and the report.

    Raises:
        DataError: The examples are not varied enough to learn from.
    """
    from tracetune.cli_schema.diversity import check
    from tracetune.cli_schema.generate import first_requests, generate, is_complete
    from tracetune.llm.estimate import most_usd

    options = cli.generation
    writer = llm_access.open(llm, seed)

    def begun(attempt: int) -> bool:
        requests = first_requests(cli_schema, options=options, seed=seed, attempt=attempt)
        return bool(writer.known(requests))

    # The newest generation whose replies are kept goes on. Force begins the one after it, but
    # first finishes one that was interrupted: else what it paid for would be paid again.
    kept = sum(1 for _ in itertools.takewhile(begun, itertools.count()))
    attempt = max(0, kept - 1)
    if options.force and is_complete(
        cli_schema, writer, options=options, seed=seed, attempt=attempt
    ):
        attempt = kept
    if checked_flag(dry_run) and llm.provider != "offline":
        requests = first_requests(cli_schema, options=options, seed=seed, attempt=attempt)
        cost = {"requests": len(requests), "most_usd": most_usd(requests, llm)}
        return [], [], {"dry_run": cost, "writer": writer.label, "attempt": attempt}
    found = generate(cli_schema, writer, options=options, seed=seed, attempt=attempt)
    check(found.report.diversity, cli_schema, options)
    report = {**found.report.model_dump(mode="json"), "attempt": attempt}
    return found.examples, found.rejected, report


def make_rows(
    cli_schema: CliSchema, written: list[Written], cli: CliOptions, tenant: str, name: str
) -> list[Example]:
    """Training rows through the one prompt that training, judgement and asking share."""
    from tracetune.cli_schema.rows import make_rows as rows_of

    return rows_of(cli_schema, written, name=name, tenant=tenant, prompt=cli.prompt)


def split_rows(
    examples: list[Example], cli: CliOptions, splits: SplitOptions, seed: int
) -> Document:
    """The split manifest: whole clusters of like requests, by a seeded hash."""
    from tracetune.splits import assign_by_hash

    manifest = assign_by_hash(examples, test_share=cli.test_share, options=splits, seed=seed)
    return manifest.model_dump(mode="json")


def generation_stage(pipeline: str) -> Pipeline:
    """``cli_schema`` → ``written``, ``rejected``, ``generation``, ``examples``, ``splits``.

    Args:
        pipeline: Name of the pipeline.
    """
    return Pipeline(
        [
            Node(
                write_examples,
                inputs=[
                    *("cli_schema", "llm", "params:llm", "params:cli", "params:seed"),
                    "params:dry_run",
                ],
                outputs=["written", "rejected", "generation"],
                name="write_examples",
                tags=["generation", "remote"],
            ),
            Node(
                make_rows,
                inputs=["cli_schema", "written", "params:cli", "params:tenant", "params:name"],
                outputs="examples",
                name="make_rows",
                tags="generation",
            ),
            Node(
                split_rows,
                inputs=["examples", "params:cli", "params:splits", "params:seed"],
                outputs="splits",
                name="split_rows",
                tags="splits",
            ),
        ],
        namespace=f"{pipeline}.generation",
        inputs={"cli_schema", "llm"},
        outputs=shared(pipeline, "written", "rejected", "generation", "examples", "splits"),
        parameters={"llm", "cli", "seed", "dry_run", "tenant", "name", "splits"},
    )
