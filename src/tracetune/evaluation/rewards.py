"""Implicit rewards of held-out pairs (Rafailov et al. 2023, equation 5).

The reward of an answer y to a prompt x is ``beta * (log pi(y|x) - log pi_ref(y|x))``; the reference
is the model DPO started from: the SFT adapter, or the base. A pair is judged right if the chosen
answer has the higher reward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracetune.errors import DataError
from tracetune.evaluation.asked import Asked
from tracetune.evaluation.generate import Generator, left_padded, render
from tracetune.evaluation.hosted import HostedGenerator
from tracetune.records import Message, Preference

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PairScore:
    """Rewards of one pair; differences of log-probabilities in nats, times beta.

    Attributes:
        row_id: Id of the pair.
        group: Its session or trace.
        chosen: Reward of the better answer.
        rejected: Reward of the worse one.
    """

    row_id: str
    group: str
    chosen: float
    rejected: float

    @property
    def margin(self) -> float:
        """How much higher the better answer stands."""
        return self.chosen - self.rejected


def preference_scores(
    generator: Asked,
    pairs: Sequence[Preference],
    *,
    policy: str,
    reference: str,
    beta: float,
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[PairScore]:
    """Rewards of chosen and rejected answers.

    Args:
        generator: The model with its adapters.
        pairs: Held-out pairs.
        policy: The adapter trained by DPO.
        reference: What it started from: the SFT adapter, or ``base``.
        beta: Strength of the KL term, as in training.
        batch_size: Pairs scored at once.
        advance: Called with the number of pairs just scored.

    Returns:
        One score per pair; none of a hosted model, which shows no probabilities.
    """
    if isinstance(generator, HostedGenerator):
        return []
    scores = []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        rows = [
            token_ids(generator, prompt, answer, pair.id)
            for pair in batch
            for prompt, *answers in [pair.parted()]
            for answer in answers
        ]
        ours = answer_log_probs(generator, policy, rows)
        theirs = answer_log_probs(generator, reference, rows)
        rewards = [beta * (mine - other) for mine, other in zip(ours, theirs, strict=True)]
        scores += [
            PairScore(pair.id, pair.provenance.group, rewards[2 * place], rewards[2 * place + 1])
            for place, pair in enumerate(batch)
        ]
        advance(len(batch))
    return scores


def answer_log_probs(
    generator: Generator, name: str, rows: Sequence[tuple[list[int], list[int]]]
) -> list[float]:
    """Log-probability of each completion given its prompt, summed over tokens, in nats.

    Args:
        generator: The model with its adapters.
        name: The adapter, or ``base``.
        rows: Token ids of (prompt, completion).
    """
    import torch

    keep = max(len(completion) for _, completion in rows)
    ids, mask = left_padded(
        [prompt + completion for prompt, completion in rows], generator.pad_id, generator.device
    )
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode(), generator.use(name) as model:
        # All completions end in the last column, so only the logits before them are needed.
        logits: torch.Tensor = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            logits_to_keep=keep + 1,
        ).logits[:, -keep - 1 : -1]
        targets = ids[:, -keep:]
        chosen = logits.float().gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        logs = chosen - torch.logsumexp(logits.float(), -1)
        lengths = torch.tensor([len(completion) for _, completion in rows], device=ids.device)
        ours = torch.arange(keep, device=ids.device) >= keep - lengths.unsqueeze(1)
        total: list[float] = (logs.double() * ours).sum(-1).tolist()
    return total


def token_ids(
    generator: Generator, prompt: Sequence[Message], answer: Sequence[Message], row: str
) -> tuple[list[int], list[int]]:
    """Ids of prompt and completion, divided where training divides them.

    Raises:
        DataError: Prompt and answer cannot be told apart, or do not fit the model.
    """
    start, rest = divided_ids(generator.tokenizer, prompt, answer, row)
    if generator.context is not None and len(start) + len(rest) > generator.context:
        raise DataError(
            f"a held-out pair has {len(start) + len(rest)} tokens, the model reads "
            f"{generator.context}",
            where=row,
            remedy="lower telemetry.max_chars or take a model with a longer context",
        )
    return start, rest


def divided_ids(
    tokenizer: Any, prompt: Sequence[Message], answer: Sequence[Message], row: str
) -> tuple[list[int], list[int]]:
    """Ids of prompt and completion, however long they are.

    Raises:
        DataError: The tokens of the prompt are not those that the whole begins with.
    """
    start, whole = (
        list(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (
            render(tokenizer, prompt, generation=True),
            render(tokenizer, [*prompt, *answer]),
        )
    )
    if whole[: len(start)] != start or len(whole) == len(start):
        raise DataError(
            "the tokens of the prompt are not the beginning of prompt and answer, so the answer "
            "cannot be scored alone",
            where=row,
            remedy="use a model whose chat template writes the same text with and without answer",
        )
    return start, whole[len(start) :]
