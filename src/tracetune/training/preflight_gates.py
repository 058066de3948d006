"""The gates of the preflight report: each with its value, its limit, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from tracetune.records import Example, Preference, Rating
from tracetune.training.options import OverLength, PreflightOptions

if TYPE_CHECKING:
    from tracetune.training.base import BaseModelRef
    from tracetune.training.preflight import PreflightReport


class Gate(BaseModel):
    """One check: its value, its limit, and a text for people.

    Attributes:
        name: Short name.
        value: What was found.
        limit: Largest allowed value (for ``rows``: the smallest).
        passed: Whether the run may go on.
        text: What it means and, if it failed, what to do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    value: float
    limit: float
    passed: bool
    text: str


def gates(report: PreflightReport, policy: OverLength, limits: PreflightOptions) -> list[Gate]:
    """All gates, passed or not, in the order in which a person would read them."""
    rows = report.rows_in + len(report.dropped_rows)
    too_long = report.over_length if policy == "raise" else 0
    dropped = len(report.dropped_rows) / max(1, rows)
    other = 1 - report.trained_by_role.get("assistant", 0.0) if report.trained_tokens else 0.0
    other = round(other, 6)
    repeated = report.duplicates / max(1, report.rows_in)
    at_most = [
        (
            "over_length",
            too_long,
            0,
            f"{too_long} rows are longer than max_length = {report.max_length} tokens (longest "
            f"training row: {report.sequence_tokens['p100']}); raise trainer.max_length, or set "
            "over_length to drop or truncate",
        ),
        (
            "dropped",
            dropped,
            limits.max_dropped_share,
            f"{len(report.dropped_rows)} rows are left out ({report.dropped}); raise "
            "trainer.max_length, or allow it with preflight.max_dropped_share",
        ),
        (
            "lost_completion",
            report.lost_completion_share,
            limits.max_lost_completion_share,
            f"{report.lost_completion_tokens} answer tokens are cut off; raise trainer.max_length",
        ),
        (
            "end_of_turn",
            (report.end_untrained or 0) + (report.end_doubled or 0),
            limits.max_untrained_end,
            f"{report.end_untrained} sequences do not train their end-of-turn and "
            f"{report.end_doubled} train it twice: such a model does not stop where it should; "
            "correct the chat template",
        ),
        (
            "bos",
            report.bos_doubled or 0,
            0,
            f"{report.bos_doubled} sequences start with two beginning-of-sequence tokens; take it "
            "out of the chat template or out of the rows",
        ),
        (
            "prompt_prefix",
            report.prompt_mismatch or 0,
            limits.max_prompt_mismatch,
            f"{report.prompt_mismatch} prompts are rendered differently alone than before their "
            "answer, so serving would differ from training; correct the chat template",
        ),
        (
            "other_roles",
            other,
            limits.max_other_role_share,
            f"{other:.1%} of the trained tokens are not the assistant's; for SFT set "
            "trainer.assistant_only_loss, for DPO use answers of one turn",
        ),
        (
            "identical_pairs",
            report.identical_pairs,
            limits.max_identical_pairs,
            f"{report.identical_pairs} pairs have the same tokens on both sides and teach nothing; "
            "remove them",
        ),
        (
            "duplicates",
            repeated,
            limits.max_duplicate_share,
            f"{report.duplicates} rows repeat an earlier row; remove them at their source",
        ),
    ]
    few = Gate(
        name="rows",
        value=report.rows_used,
        limit=limits.min_rows,
        passed=report.rows_used >= limits.min_rows,
        text=f"{report.rows_used} training rows; at least {limits.min_rows} are needed: widen the "
        "window, or give more verdicts",
    )
    return [few] + [
        Gate(name=name, value=float(value), limit=float(limit), passed=value <= limit, text=text)
        for name, value, limit, text in at_most
    ]


def without_tokenizer(
    report: PreflightReport,
    found: list[Gate],
    base: BaseModelRef,
    rows: Sequence[Example | Preference | Rating],
) -> PreflightReport:
    """The report as far as it goes without a tokenizer, with a line that says so."""
    identical = sum(isinstance(row, Preference) and row.chosen == row.rejected for row in rows)
    lost = ("end_untrained", "end_doubled", "bos_doubled", "prompt_mismatch")
    unknown = ("end_of_turn", "bos", "prompt_prefix", "other_roles", "identical_pairs")
    said = Gate(
        name="tokenizer",
        value=0.0,
        limit=0.0,
        passed=True,
        text=f"the tokenizer of {base.id} is not on this machine: tokens are estimated from bytes, "
        f"and {', '.join(name.replace('_', ' ') for name in unknown)} are not checked; name a copy "
        "of the model or a folder with its tokenizer in base_model.local",
    )
    return report.model_copy(
        update={
            **dict.fromkeys(lost),
            "counted_by": "bytes",
            "trained_by_role": {},
            "identical_pairs": identical,
            "gates": [*(gate for gate in found if gate.name not in unknown), said],
        }
    )
