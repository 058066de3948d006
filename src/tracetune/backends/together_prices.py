"""What a job may cost by the table, before anything is sent; nobody is asked, nothing is paid.

The service prices training by tokens: epochs x training rows + evaluations x validation rows
(docs.together.ai/docs/fine-tuning/pricing). The price that counts is the one that it states itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from tracetune.backends.endpoint_records import IDLE_MINUTES
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_models import table
from tracetune.backends.together_options import TogetherOptions
from tracetune.backends.together_prepare import Prepared, key_from, prepare
from tracetune.backends.together_request import essence
from tracetune.training.job import TRAIN_FILE, VALIDATION_FILE, TrainingJob


class Price(BaseModel):
    """What one stage may cost.

    Attributes:
        model: The hosted model.
        rows: Rows by file, as they would be sent.
        epochs: Passes over the training rows.
        evaluations: Passes over the validation rows.
        train_tokens: Tokens of the training rows that are billed per pass.
        validation_tokens: The same of the validation rows.
        tokens: All billed tokens.
        counted_by: ``tokenizer``, or ``bytes`` if the tokenizer of the model is not here.
        least_usd: By the cheapest rate for the size of the model; None if the table has none.
        most_usd: By the dearest rate.
        as_of: Day of the rates.
        budget_usd: ``together.budget_usd``.
        spent_usd: What earlier jobs and endpoints of the tenant and name cost or can cost.
        paid: Id of the job of an earlier run that is taken up, so that nothing more is paid; empty
            if a job would be created.
        endpoint_minutes: Most minutes for which the endpoint of the judgement is billed; None if
            none is wanted.
        endpoint_hour_usd: What the last endpoint cost an hour; None if there was none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    rows: dict[str, int]
    epochs: int
    evaluations: int
    train_tokens: int
    validation_tokens: int
    tokens: int
    counted_by: str
    least_usd: float | None
    most_usd: float | None
    as_of: str
    budget_usd: float
    spent_usd: float
    paid: str = ""
    endpoint_minutes: float | None = None
    endpoint_hour_usd: float | None = None


def price(job: TrainingJob, options: TogetherOptions, jobs: RemoteJobs, stage: str) -> Price:
    """The price of a job by the table; its rows are checked as for an upload.

    Args:
        job: The job.
        options: Parameters.
        jobs: Jobs of the tenant and name, for what was spent.
        stage: ``<pipeline>.<stage>``.

    Raises:
        ConfigurationError: The method, the model or a setting cannot be used.
        DataError: A row is wrong; the message has all of them.
    """
    prepared = prepare(job, options, stage)
    asked = essence(job, options, prepared.rows)
    train = _billed(prepared, TRAIN_FILE, asked)
    validation = _billed(prepared, VALIDATION_FILE, asked)
    tokens = asked["n_epochs"] * train + asked["n_evals"] * validation
    known = table()
    rate = known.rate(prepared.model)
    least = rate and round(tokens * rate.least / 1e6, 4)
    most = rate and round(tokens * rate.most / 1e6, 4)
    paid = _paid(prepared, options, jobs)
    at_endpoint = options.judge_on == "endpoint"
    opened = jobs.endpoints.all() if at_endpoint else []
    return Price(
        model=prepared.model,
        rows=prepared.rows,
        epochs=asked["n_epochs"],
        evaluations=asked["n_evals"],
        train_tokens=train,
        validation_tokens=validation,
        tokens=tokens,
        counted_by=prepared.counted_by,
        least_usd=0.0 if paid else least,
        most_usd=0.0 if paid else most,
        as_of=known.rates.as_of,
        budget_usd=options.budget_usd,
        spent_usd=jobs.spent(),
        paid=paid,
        endpoint_minutes=options.endpoint_minutes + IDLE_MINUTES if at_endpoint else None,
        endpoint_hour_usd=opened[-1].usd_per_hour if opened else None,
    )


def _paid(prepared: Prepared, options: TogetherOptions, jobs: RemoteJobs) -> str:
    """The job of an earlier run that this one would take up, unless it failed.

    A dry run does not know yet which job DPO will go on from: it may be any earlier one.
    """
    earlier = [job for job in jobs.all() if job.id]
    keys = [prepared.key]
    if prepared.job.method == "dpo" and not prepared.checkpoint:
        from_sft = [job.id for job in earlier if job.job.method == "sft"]
        keys += [key_from(prepared, options, checkpoint) for checkpoint in from_sft]
    healthy = (job for job in earlier if job.state not in ("failed", "cancelled"))
    return next((job.id for job in healthy if job.key in keys), "")


def _billed(prepared: Prepared, name: str, asked: dict[str, Any]) -> int:
    """Tokens of one pass; without packing every row counts as a full sequence."""
    if name not in prepared.rows:
        return 0
    if not asked["packing"]:
        return prepared.rows[name] * int(asked["max_seq_length"])
    return prepared.tokens[name]


def price_lines(prices: Sequence[tuple[str, Price]]) -> list[str]:
    """The prices of the stages of a dry run, their sum and the budget, for people."""
    lines = [_line(stage, found) for stage, found in prices]
    if not prices:
        return lines
    first = prices[0][1]
    if any(found.least_usd is None for _, found in prices):
        lines.append("The table has no rate for a model: the price is not known before the upload.")
        least = 0.0
    else:
        least = sum(found.least_usd or 0.0 for _, found in prices)
        most = sum(found.most_usd or 0.0 for _, found in prices)
        lines.append(
            f"Together AI: {_range(least, most)} by the rates of {first.as_of}. They are public "
            "per size of model only; the range goes from LoRA with SFT to all weights with DPO."
        )
    if first.endpoint_minutes is not None:
        lines.append(_endpoint(first.endpoint_minutes, first.endpoint_hour_usd))
    lines.append(
        f"Budget: ${first.budget_usd:.2f} (together.budget_usd), ${first.spent_usd:.2f} of it "
        "spent or reserved. The service states the price of a job before it is created."
    )
    if first.spent_usd + least > first.budget_usd + 1e-9:
        lines.append("Even the lowest price is above the budget: no job would be created.")
    return lines


def _endpoint(minutes: float, hour: float | None) -> str:
    """What the endpoint of the judgement costs at most; nobody is asked for its price yet."""
    start = "Endpoint for the judgement (together.judge_on=endpoint):"
    if hour is None:
        return (
            f"{start} billed for at most {minutes:g} minutes; the service states its price an hour "
            "before it is opened, and the most it can cost must fit into the budget."
        )
    return (
        f"{start} at most ${hour * minutes / 60:.2f}, for {minutes:g} minutes at ${hour:.2f} an "
        "hour, which the last one cost; it must fit into the budget."
    )


def _line(stage: str, found: Price) -> str:
    if found.paid:
        return (
            f"{stage.upper()} at Together AI ({found.model}): already paid, job {found.paid} of an "
            "earlier run is taken up, $0.00."
        )
    about = "" if found.counted_by == "tokenizer" else " (estimated from bytes)"
    epochs = "1 epoch" if found.epochs == 1 else f"{found.epochs} epochs"
    parts = f"{epochs} x {found.train_tokens:,} tokens"
    if found.evaluations:
        parts += f" + {found.evaluations} evaluations x {found.validation_tokens:,}"
    text = f"{stage.upper()} at Together AI ({found.model}): {parts} = {found.tokens:,}{about}"
    if found.least_usd is not None and found.most_usd is not None:
        text += f", {_range(found.least_usd, found.most_usd)}"
    return f"{text}."


def _range(least: float, most: float) -> str:
    return f"${least:.2f} to ${most:.2f}"
