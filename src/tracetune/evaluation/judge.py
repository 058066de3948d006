"""The two steps of the judgement: answers of all models (``predict``), then figures and verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.errors import DataError
from tracetune.evaluation import metrics as figures_of
from tracetune.evaluation.asked import Asked
from tracetune.evaluation.baselines import (
    BASELINES,
    MajorityClass,
    NearestNeighbour,
    completion_text,
    user_text,
)
from tracetune.evaluation.gate import Gate, decide, unjudged
from tracetune.evaluation.generate import BASE, Answer, load_generator
from tracetune.evaluation.hosted import HostedGenerator
from tracetune.evaluation.likelihood import best_answers, reference_nats
from tracetune.evaluation.options import EvaluationOptions
from tracetune.evaluation.rewards import PairScore, preference_scores
from tracetune.evaluation.tables import frame
from tracetune.evaluation.targets import parse_answer
from tracetune.outputs import OutputSpec, Target, is_right, score
from tracetune.records import Example, Preference


@dataclass(frozen=True)
class RewardSpec:
    """Which models score the held-out pairs.

    Attributes:
        policy: The adapter trained by DPO.
        reference: What DPO started from: the SFT adapter, or ``base``.
        beta: Beta of the training.
    """

    policy: str
    reference: str
    beta: float


@dataclass(frozen=True)
class Predictions:
    """What the models said.

    Attributes:
        answers: Data frame with the columns of :data:`tracetune.evaluation.tables.ANSWERS`.
        rewards: One JSON object per held-out pair: ``row_id``, ``group``, ``policy``,
            ``reference``, ``beta``, ``chosen_reward`` and ``rejected_reward`` (nats times beta).
    """

    answers: Any
    rewards: list[dict[str, Any]]


@dataclass(frozen=True)
class Judgement:
    """Metrics as JSON values, and the verdict of the gate."""

    metrics: dict[str, Any]
    gate: Gate


def no_predictions() -> Predictions:
    """No answers and no rewards, for runs that have nothing to judge."""
    return Predictions(frame([]), [])


def predict(
    *,
    base: str | Path,
    adapters: Mapping[str, Path],
    train: Sequence[Example],
    test: Sequence[Example],
    pairs: Sequence[Preference],
    rewards: RewardSpec | None,
    output: OutputSpec,
    options: EvaluationOptions,
    weights_sha256: str | None = None,
    generator: Asked | None = None,
) -> Predictions:
    """Lets base, adapters and cheap baselines answer the same held-out rows.

    Args:
        base: Folder of the base model.
        adapters: Trained adapter folders by name (``sft``, ``dpo``); each is relative to the base.
        train: Training rows; only the cheap baselines learn from them.
        test: Held-out rows.
        pairs: Held-out pairs, scored if ``rewards`` is given.
        rewards: Models that score the pairs.
        output: What a valid answer looks like.
        options: Sizes and limits.
        weights_sha256: Hash of the base weights; an adapter trained on others is refused.
        generator: Base and adapters, if they are ready already; else they are loaded.

    Returns:
        The answers and rewards; none if there is no held-out row or no adapter.

    Raises:
        DataError: If a held-out row has no readable target, or a model folder is incomplete.
    """
    if not test or not adapters:
        return no_predictions()
    targets = [_target(row, output) for row in test]
    prompts = [row.prompt for row in test]
    models = (BASE, *adapters)
    total = len(test) * len(models) + (len(pairs) if rewards else 0)
    with _progress(total) as advance:
        generator = generator or load_generator(
            base,
            adapters,
            threads=options.threads,
            weights_sha256=weights_sha256,
        )
        timed = spread(len(test), options.latency_rows)
        answers: dict[str, list[Answer]] = {
            model: generator.answers(
                model,
                prompts,
                max_new_tokens=options.max_new_tokens,
                batch_size=options.batch_size,
                timed=timed,
                advance=advance,
            )
            for model in models
        }
        more = {
            model: _beyond_greedy(generator, model, test, targets, output, options)
            for model in models
        }
        scores = _scores(generator, pairs, rewards, options, advance)
    answers[MajorityClass.name] = MajorityClass(train, output).answers(prompts)
    answers[NearestNeighbour.name] = NearestNeighbour(train, output).answers(prompts)
    rows = [
        _prediction(row, target, model, answer, output) | beyond
        for model, given in answers.items()
        for row, target, answer, beyond in zip(
            test, targets, given, more.get(model) or [{}] * len(test), strict=True
        )
    ]
    return Predictions(frame(rows), scores)


def judge(
    predictions: Predictions,
    *,
    adapter: str | None,
    options: EvaluationOptions,
    output: OutputSpec | None = None,
    reason: str | None = None,
) -> Judgement:
    """Metrics and verdict of an adapter.

    Args:
        predictions: What :func:`predict` gave.
        adapter: The adapter to judge: the last one that was trained.
        options: Level, margin, seeds.
        output: What a valid answer looks like; decides which figure counts.
        reason: Why there is nothing to judge, if the caller knows (a dry run, a skipped stage).

    Returns:
        Metrics and gate; both say ``unjudged`` when there is nothing to judge.
    """
    if adapter is None or len(predictions.answers) == 0:
        why = reason or (
            "no adapter was trained" if adapter is None else "the test window has no row"
        )
        empty = {"status": "unjudged", "reason": why, "adapter": adapter, "n": 0}
        return Judgement(empty, unjudged(why, adapter))
    found = figures_of.compute(
        predictions.answers,
        predictions.rewards,
        adapter=adapter,
        options=options,
        output=output or OutputSpec(),
    )
    return Judgement(found, decide(found, options.gate, BASELINES))


def spread(n: int, count: int) -> list[int]:
    """Positions of ``count`` rows spread evenly over ``n``; all of them if there are fewer."""
    return sorted({place * n // count for place in range(count)}) if n and count else []


def _target(row: Example, output: OutputSpec) -> Target:
    target = parse_answer(completion_text(row), output).target
    if target is None:
        raise DataError(
            f"a held-out row names no target in the fields {list(output.target)}",
            where=row.id,
            remedy="make the output specification the same for extraction and evaluation",
        )
    return target


def _prediction(
    row: Example, target: Target, model: str, answer: Answer, output: OutputSpec
) -> dict[str, Any]:
    parsed = parse_answer(answer.text, output)
    agreement = score(parsed.target, target, output)
    return {
        "row_id": row.id,
        "group": row.provenance.group,
        "created_at": row.provenance.created_at,
        "model": model,
        "prompt": user_text(row.prompt),
        "target": target.label,
        "answer_text": answer.text,
        "answer": parsed.target.label if parsed.target else None,
        "valid_json": parsed.valid_json,
        "known": parsed.known,
        "correct": parsed.target is not None and is_right(agreement, output),
        "score": agreement,
        "slices": "\n".join(_slices(row, target, output)),
        "confidence": answer.confidence,
        "latency_ms": answer.latency_ms,
        "tokens": answer.tokens,
        "finish": answer.finish,
    }


def _slices(row: Example, target: Target, output: OutputSpec) -> list[str]:
    """Parts of the report: what the reference names, or the position of the turn."""
    return [f"turn {row.tags['turn']}"] if "turn" in row.tags else target.slices(output)


def _beyond_greedy(
    generator: Asked,
    model: str,
    test: Sequence[Example],
    targets: Sequence[Target],
    output: OutputSpec,
    options: EvaluationOptions,
) -> list[dict[str, Any]]:
    """Per row: whether a right answer is among the k best; for text how likely the approved was."""
    if output.compare == "text":
        nats = reference_nats(generator, model, test, batch_size=options.batch_size)
        return [{"reference_nats": value} for value in nats]
    found: list[dict[str, Any]] = [{} for _ in test]
    if options.top_k == 1 or isinstance(generator, HostedGenerator):
        return found
    chosen = spread(len(test), options.top_k_rows)
    best = best_answers(
        generator,
        model,
        [test[place].prompt for place in chosen],
        k=options.top_k,
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
    )
    for place, texts in zip(chosen, best, strict=True):
        scores = [
            score(parse_answer(text, output).target, targets[place], output) for text in texts
        ]
        found[place] = {"in_top_k": any(is_right(value, output) for value in scores)}
    return found


def _scores(
    generator: Asked,
    pairs: Sequence[Preference],
    rewards: RewardSpec | None,
    options: EvaluationOptions,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    if rewards is None or not pairs:
        return []
    found: list[PairScore] = preference_scores(
        generator,
        pairs,
        policy=rewards.policy,
        reference=rewards.reference,
        beta=rewards.beta,
        batch_size=max(1, options.batch_size // 2),
        advance=advance,
    )
    return [
        {
            "row_id": score.row_id,
            "group": score.group,
            "policy": rewards.policy,
            "reference": rewards.reference,
            "beta": rewards.beta,
            "chosen_reward": score.chosen,
            "rejected_reward": score.rejected,
        }
        for score in found
    ]


class _progress:
    """One progress bar over all models; gone when it is done."""

    def __init__(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self._bar = Progress(
            "[progress.description]{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            transient=True,
        )
        self._task = self._bar.add_task("answers on held-out rows", total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda count: self._bar.advance(self._task, count)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
