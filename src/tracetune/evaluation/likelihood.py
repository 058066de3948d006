"""Beyond the one greedy answer: the k best answers, and how likely the approved one was."""

from __future__ import annotations

from collections.abc import Sequence

from tracetune.evaluation.asked import Asked
from tracetune.evaluation.generate import left_padded
from tracetune.evaluation.hosted import HostedGenerator
from tracetune.evaluation.rewards import answer_log_probs, divided_ids
from tracetune.records import Example, Message


def best_answers(
    generator: Asked,
    name: str,
    prompts: Sequence[Sequence[Message]],
    *,
    k: int,
    max_new_tokens: int,
    batch_size: int,
) -> list[list[str]]:
    """The ``k`` most likely answers to each prompt, best first, by beam search of that width.

    A hosted model gives none: it searches nothing.

    Args:
        generator: The model with its adapters.
        name: The adapter, or ``base``.
        prompts: Conversations that end with a user turn. One that does not fit gets no answers.
        k: Number of answers and width of the beam.
        max_new_tokens: Longest answer in tokens.
        batch_size: Prompts answered at once.
    """
    import torch

    if isinstance(generator, HostedGenerator):
        return [[] for _ in prompts]
    ids = [generator.prompt_ids(prompt) for prompt in prompts]
    found: list[list[str]] = [[] for _ in prompts]
    fits = [
        place
        for place, row in enumerate(ids)
        if generator.context is None or len(row) + max_new_tokens <= generator.context
    ]
    fits.sort(key=lambda place: (len(ids[place]), place))
    with generator.use(name) as model, torch.inference_mode():
        for start in range(0, len(fits), batch_size):
            batch = fits[start : start + batch_size]
            tokens, mask = left_padded(
                [ids[place] for place in batch], generator.pad_id, generator.device
            )
            output = model.generate(
                input_ids=tokens,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                num_beams=k,
                num_return_sequences=k,
                early_stopping=True,
            )
            texts = generator.tokenizer.batch_decode(
                output[:, tokens.shape[1] :].tolist(), skip_special_tokens=True
            )
            for number, place in enumerate(batch):
                found[place] = [text.strip() for text in texts[number * k : (number + 1) * k]]
    return found


def reference_nats(
    generator: Asked,
    name: str,
    rows: Sequence[Example],
    *,
    batch_size: int,
) -> list[float | None]:
    """Negative log-probability of each row's right answer, in nats per token.

    Args:
        generator: The model with its adapters.
        name: The adapter, or ``base``.
        rows: Held-out rows.
        batch_size: Rows scored at once.

    Returns:
        One figure per row; None for a row that does not fit the model, and for a hosted model,
        which shows no probabilities.
    """
    if isinstance(generator, HostedGenerator):
        return [None] * len(rows)
    ids = [divided_ids(generator.tokenizer, r.prompt, r.completion, r.id) for r in rows]
    found: list[float | None] = [None] * len(rows)
    fits = [
        place
        for place, (prompt, answer) in enumerate(ids)
        if generator.context is None or len(prompt) + len(answer) <= generator.context
    ]
    for start in range(0, len(fits), batch_size):
        batch = fits[start : start + batch_size]
        logs = answer_log_probs(generator, name, [ids[place] for place in batch])
        for place, log in zip(batch, logs, strict=True):
            found[place] = -log / len(ids[place][1])
    return found
