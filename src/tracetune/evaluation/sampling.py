"""Sampled answers at given temperatures, several to each prompt, reproducible one by one.

Each answer has random numbers of its own, drawn from the seed, its prompt, its temperature and its
number among the answers at that temperature. So an answer depends neither on what else is asked nor
on the size of the batch, except where two tokens are so close that rounding decides: a batch of
another shape adds its numbers in another order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tracetune.errors import ConfigurationError
from tracetune.evaluation.asked import Asked
from tracetune.evaluation.generate import Answer, Generator, left_padded
from tracetune.evaluation.hosted import HostedGenerator
from tracetune.files import sha256_json
from tracetune.records import Message

if TYPE_CHECKING:
    import torch


def sampled_answers(
    generator: Asked,
    name: str,
    prompts: Sequence[Sequence[Message]],
    temperatures: Sequence[float],
    *,
    seed: int,
    max_new_tokens: int,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> list[list[Answer]]:
    """Answers each prompt once for every temperature that is given.

    A prompt is read once, whatever the number of its answers.

    Args:
        generator: The model with its adapters.
        name: An adapter, or ``base``.
        prompts: Conversations that end with a user turn.
        temperatures: One per answer; 0 takes the likeliest token of each step. A temperature that
            stands there several times gives several answers.
        seed: Of the random numbers.
        max_new_tokens: Longest answer in tokens.
        batch_size: Answers that are made at once, at least those to one prompt.
        advance: Called with the number of prompts just answered.

    Returns:
        The answers to each prompt in the order of the temperatures. Their confidence is what the
        model gives to their tokens at temperature 1.

    Raises:
        ConfigurationError: A temperature is negative or not finite, or there is none.
    """
    if not temperatures or not all(math.isfinite(t) and t >= 0 for t in temperatures):
        raise ConfigurationError(
            f"no temperatures to sample at: {list(temperatures)}",
            where="temperatures",
            remedy="give numbers of 0 or more",
        )
    if isinstance(generator, HostedGenerator):
        return generator.sampled(
            name,
            prompts,
            temperatures,
            seed=seed,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            advance=advance or (lambda _: None),
        )
    ids = [generator.prompt_ids(prompt) for prompt in prompts]
    room = math.inf if generator.context is None else generator.context - max_new_tokens
    fits = [place for place, row in enumerate(ids) if len(row) <= room]
    fits.sort(key=lambda place: (len(ids[place]), place))
    found: dict[int, list[Answer]] = {}
    at_once = max(1, batch_size // len(temperatures))
    with generator.use(name) as model:
        for start in range(0, len(fits), at_once):
            batch = fits[start : start + at_once]
            rows = [ids[place] for place in batch]
            answers = _batch(generator, model, rows, temperatures, seed, max_new_tokens)
            found.update(zip(batch, answers, strict=True))
            if advance is not None:
                advance(len(batch))
    too_long = Answer("", tokens=0, confidence=None, finish="too_long")
    return [found.get(place, [too_long] * len(temperatures)) for place in range(len(prompts))]


def _batch(
    generator: Generator,
    model: Any,
    rows: list[list[int]],
    temperatures: Sequence[float],
    seed: int,
    most: int,
) -> list[list[Answer]]:
    import torch
    from transformers import DynamicCache

    ids, mask = left_padded(rows, generator.pad_id, generator.device)
    each = len(temperatures)
    draws = torch.tensor(_draws(rows, temperatures, seed, most), device=generator.device)
    heat = torch.tensor(list(temperatures) * len(rows), dtype=torch.float64).to(generator.device)
    with torch.inference_mode():
        cache = DynamicCache(config=model.config)
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache.batch_repeat_interleave(each)
        logits = output.logits[:, -1].repeat_interleave(each, dim=0)
        mask = mask.repeat_interleave(each, dim=0)
        tokens: list[list[int]] = [[] for _ in range(len(mask))]
        logs: list[list[float]] = [[] for _ in range(len(mask))]
        alive = list(range(len(mask)))  # positions of the rows that are still in the batch
        for step in range(most):
            chosen, sure = _choose(logits, heat[alive], draws[alive, step])
            for place, token, log in zip(alive, chosen.tolist(), sure.tolist(), strict=True):
                tokens[place].append(token)
                logs[place].append(log)
            going = [
                i for i, place in enumerate(alive) if tokens[place][-1] not in generator.end_ids
            ]
            if not going or step + 1 == most:
                break
            if len(going) < len(alive):
                kept = torch.tensor(going, device=generator.device)
                cache.batch_select_indices(kept)
                chosen, mask = chosen[kept], mask[kept]
                alive = [alive[i] for i in going]
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
            logits = model(
                input_ids=chosen[:, None],
                attention_mask=mask,
                position_ids=mask.sum(-1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
    answers = [generator.answer_of(row, log, most) for row, log in zip(tokens, logs, strict=True)]
    return [answers[start : start + each] for start in range(0, len(answers), each)]


def _choose(
    logits: torch.Tensor, heat: torch.Tensor, draws: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row and its log-probability at temperature 1."""
    import torch

    scores = torch.log_softmax(logits.double(), dim=-1)
    best = scores.argmax(dim=-1)
    sharp = torch.softmax(scores / heat.clamp(min=1e-6)[:, None], dim=-1).cumsum(dim=-1)
    place = torch.searchsorted(sharp, (draws * sharp[:, -1])[:, None], right=True)[:, 0]
    chosen = torch.where(heat == 0, best, place.clamp(max=logits.shape[-1] - 1))
    return chosen, scores.gather(1, chosen[:, None])[:, 0]


def _draws(
    rows: Sequence[Sequence[int]], temperatures: Sequence[float], seed: int, most: int
) -> list[list[float]]:
    """Numbers from 0 to 1 for every answer and step."""
    import numpy as np

    found = []
    for row in rows:
        seen: Counter[float] = Counter()
        for temperature in temperatures:
            own = sha256_json([seed, list(row), float(temperature), seen[temperature]])
            seen[temperature] += 1
            found.append(np.random.default_rng(int(own[:32], 16)).random(most).tolist())
    return found
