"""What will be learned, before anything is trained or paid.

The rows are rendered exactly as the trainer renders them; the report counts what is trained, lost,
repeated or unable to stop, and its gates stop the run with a text that says what to do.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from tracetune.errors import GateError
from tracetune.records import Example, Preference, Rating
from tracetune.training import preflight_gates
from tracetune.training.options import Method, OverLength, PreflightOptions, StageOptions
from tracetune.training.preflight_gates import Gate

if TYPE_CHECKING:
    from tracetune.training.base import BaseModelRef
    from tracetune.training.rendering import Estimated, Rendered, Renderer

QUANTILES = (0.5, 0.9, 0.99, 1.0)


class PreflightReport(BaseModel):
    """The report on one stage. Counts are of training rows unless said otherwise.

    Attributes:
        method: ``sft`` or ``dpo``.
        counted_by: ``tokenizer``; or ``bytes`` where the tokenizer of the base model is not here:
            then lengths are estimated, and what only a tokenizer can tell is None.
        rows_in: Rows given.
        rows_used: Rows that will be trained on.
        validation_rows: Validation rows that will be used.
        dropped: Rows left out, by reason (validation rows included).
        dropped_rows: Ids of the rows left out, with the reason.
        over_length: Rows longer than ``max_length``.
        max_length: Longest sequence in tokens; null for no limit.
        sequence_tokens: Quantiles of the length of prompt + answer in tokens.
        completion_tokens: Quantiles of the length of the answer in tokens.
        total_tokens: Tokens of all used training sequences (a pair is two), padding not counted.
        trained_tokens: Of those, tokens with a loss.
        trained_by_role: Share of the trained tokens by the role of their turn.
        lost_completion_tokens: Answer tokens cut off.
        lost_completion_share: The same as a share of all answer tokens.
        end_untrained: Sequences (not cut) with an answer whose end-of-turn is not trained.
        end_doubled: Sequences that train more end-of-turn tokens than they have answers.
        bos_per_row: Smallest and largest number of beginning-of-sequence tokens; null if the
            tokenizer has none.
        bos_doubled: Sequences that start with two of them.
        prompt_mismatch: Sequences whose prompt alone is rendered differently.
        duplicates: Rows that repeat an earlier row.
        identical_pairs: Pairs whose two answers are the same tokens.
        gates: The checks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method
    counted_by: Literal["tokenizer", "bytes"] = "tokenizer"
    rows_in: int
    rows_used: int
    validation_rows: int
    dropped: dict[str, int]
    dropped_rows: dict[str, str]
    over_length: int
    max_length: int | None
    sequence_tokens: dict[str, int]
    completion_tokens: dict[str, int]
    total_tokens: int
    trained_tokens: int
    trained_by_role: dict[str, float]
    lost_completion_tokens: int
    lost_completion_share: float
    end_untrained: int | None
    end_doubled: int | None
    bos_per_row: tuple[int, int] | None
    bos_doubled: int | None
    prompt_mismatch: int | None
    duplicates: int
    identical_pairs: int
    gates: list[Gate]

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return all(gate.passed for gate in self.gates)


@dataclass(frozen=True)
class RenderedRow:
    """A row with its sequences: one for SFT and KTO, chosen and rejected for DPO.

    Attributes:
        row: The row.
        sequences: Rendered sequences, not truncated.
        answers: Number of assistant turns in each completion.
    """

    row: Example | Preference | Rating
    sequences: list[Rendered]
    answers: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(sequence.ids) for sequence in self.sequences)


def render_rows(
    renderer: Renderer | Estimated, rows: Sequence[Example | Preference | Rating]
) -> list[RenderedRow]:
    """Renders rows as the trainer does; for pairs both sides share where the prompt ends."""
    from tracetune.training.rendering import as_dicts

    rendered = []
    for row in rows:
        prompt, *sides = (
            row.parted() if isinstance(row, Preference) else (row.prompt, row.completion)
        )
        before = as_dicts(prompt)
        sequences = [renderer.render(before, as_dicts(side)) for side in sides]
        answers = [sum(turn.role == "assistant" for turn in side) for side in sides]
        rendered.append(RenderedRow(row, sequences, answers))
    return rendered


def drop_reason(row: RenderedRow, max_length: int | None, policy: OverLength) -> str | None:
    """Why a row is left out of training: ``over_length``, ``nothing_trained``, or None."""
    if max_length is None or row.length <= max_length:
        return None
    if policy == "drop":
        return "over_length"
    if policy == "truncate":
        if not isinstance(row.row, Example):
            # TRL drops what has a prompt that alone fills the sequence, whatever its answers.
            full = min(s.prompt_length for s in row.sequences) >= max_length
        else:
            full = not any(row.sequences[0].truncated(max_length).mask)
        return "nothing_trained" if full else None
    return None  # with "raise" the gate stops the run, so nothing is dropped


def inspect(
    train: Sequence[Example] | Sequence[Preference] | Sequence[Rating],
    validation: Sequence[Example] | Sequence[Preference] | Sequence[Rating],
    base: BaseModelRef,
    method: Method,
    stage: StageOptions,
    options: PreflightOptions | None = None,
) -> PreflightReport:
    """The preflight report of one stage.

    Args:
        train: Training rows.
        validation: Validation rows; may be empty.
        base: The base model (its tokenizer and template are used, if they are here).
        method: ``sft`` with examples, ``dpo`` with preferences or ``kto`` with ratings.
        stage: Parameters of the stage; the profile of ``base`` fills what they leave open.
        options: Thresholds of the gates.

    Raises:
        ConfigurationError: A trainer argument is wrong.
        GateError: The template cannot render what the arguments ask for.
    """
    from tracetune.training import arguments
    from tracetune.training.base import load_tokenizer
    from tracetune.training.rendering import Estimated, MaskRule, Renderer

    trainer = arguments.trainer_arguments(method, stage.trainer, base.profile)
    tokenizer = load_tokenizer(base) if base.path else None
    rule = MaskRule(*arguments.mask_switches(method, trainer))
    renderer = Renderer(tokenizer, rule) if tokenizer else Estimated()
    max_length = trainer.get("max_length")
    rendered = render_rows(renderer, train)
    held_out = render_rows(renderer, validation)
    dropped = {
        row.row.id: reason
        for row in [*rendered, *held_out]
        if (reason := drop_reason(row, max_length, stage.over_length))
    }
    kept = [row for row in rendered if row.row.id not in dropped]
    ends, bos = (_ends(tokenizer, base), tokenizer.bos_token_id) if tokenizer else (set(), None)
    facts = _facts(kept, max_length, ends, bos)
    facts["over_length"] = sum(
        1 for row in [*rendered, *held_out] if max_length and row.length > max_length
    )
    seen = Counter(row.provenance.content_hash for row in train)
    report = PreflightReport(
        method=method,
        rows_in=len(train),
        rows_used=len(kept),
        validation_rows=sum(row.row.id not in dropped for row in held_out),
        dropped=dict(sorted(Counter(dropped.values()).items())),
        dropped_rows=dict(sorted(dropped.items())),
        max_length=max_length,
        duplicates=sum(count - 1 for count in seen.values()),
        gates=[],
        **facts,
    )
    found = preflight_gates.gates(report, stage.over_length, options or PreflightOptions())
    if tokenizer is None:
        return preflight_gates.without_tokenizer(report, found, base, train)
    return report.model_copy(update={"gates": found})


def _ends(tokenizer: object, base: BaseModelRef) -> set[int]:
    """Ids of the tokens that end a turn: the tokenizer's and the generation settings'."""
    from pathlib import Path

    from tracetune.files import read_json

    ends = {tokenizer.eos_token_id}  # type: ignore[attr-defined]
    settings = Path(base.path) / "generation_config.json"
    if settings.is_file():
        more = read_json(settings).get("eos_token_id")
        ends.update(more if isinstance(more, list) else [more])
    return {end for end in ends if end is not None}


def _facts(
    rows: list[RenderedRow], max_length: int | None, ends: set[int], bos: int | None
) -> dict[str, object]:
    """What is counted over the rendered sequences."""
    trained: Counter[str] = Counter()
    lengths, answers_lengths, bos_counts = [], [], []
    total = lost = untrained = doubled = double_bos = mismatch = identical = 0
    for row in rows:
        for whole, answers in zip(row.sequences, row.answers, strict=True):
            cut = whole.truncated(max_length)
            trained.update(role for role, bit in zip(cut.roles, cut.mask, strict=True) if bit)
            total += len(cut.ids)
            lengths.append(len(whole.ids))
            answers_lengths.append(len(whole.ids) - whole.prompt_length)
            lost += min(len(whole.ids) - len(cut.ids), answers_lengths[-1])
            found = sum(bit and token in ends for token, bit in zip(cut.ids, cut.mask, strict=True))
            whole_row = len(cut.ids) == len(whole.ids)
            untrained += whole_row and found < answers
            doubled += whole_row and found > answers
            mismatch += not whole.prompt_matches
            if bos is not None:
                bos_counts.append(whole.ids.count(bos))
                double_bos += whole.ids[:2] == [bos, bos]
        if len(row.sequences) == 2:
            first, second = (sequence.truncated(max_length).ids for sequence in row.sequences)
            identical += first == second
    all_trained = sum(trained.values())
    return {
        "sequence_tokens": _quantiles(lengths),
        "completion_tokens": _quantiles(answers_lengths),
        "total_tokens": total,
        "trained_tokens": all_trained,
        "trained_by_role": {role: n / all_trained for role, n in sorted(trained.items())},
        "lost_completion_tokens": lost,
        "lost_completion_share": lost / sum(answers_lengths) if answers_lengths else 0.0,
        "end_untrained": untrained,
        "end_doubled": doubled,
        "bos_per_row": (min(bos_counts), max(bos_counts)) if bos_counts else None,
        "bos_doubled": double_bos,
        "prompt_mismatch": mismatch,
        "identical_pairs": identical,
    }


def _quantiles(values: list[int]) -> dict[str, int]:
    ordered = sorted(values)
    return {
        f"p{q * 100:g}": ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else 0
        for q in QUANTILES
    }


def enforce(report: PreflightReport) -> None:
    """Stops the run if a gate failed.

    Raises:
        GateError: Names every failed gate.
    """
    failed = [gate for gate in report.gates if not gate.passed]
    if failed:
        raise GateError(
            "; ".join(f"[{gate.name}] {gate.text}" for gate in failed),
            where=f"preflight of {report.method}",
            remedy="correct the rows or the parameters named above; nothing has been trained",
        )
