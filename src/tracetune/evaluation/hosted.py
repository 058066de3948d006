"""Answers of models that a service hosts: the same questions, asked there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tracetune.evaluation.generate import BASE, Answer, Finish
from tracetune.evaluation.thoughts import spoken
from tracetune.files import sha256_json
from tracetune.records import Message

_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "too_long": "too_long",
}

Document = dict[str, Any]


class Host(Protocol):
    """Where models are hosted."""

    def ask(
        self,
        model: str | None,
        questions: Sequence[Document],
        at_once: int,
        advance: Callable[[int], None],
    ) -> list[Mapping[str, Any]]:
        """Answers of one model.

        Args:
            model: Name of an adapter; None for the base.
            questions: Each with ``messages``, ``max_tokens``, ``temperature`` and ``seed``.
            at_once: Questions asked at once.
            advance: Called with the number of questions just answered.

        Returns:
            For each question ``text``, ``tokens`` and ``finish``: ``stop``, ``eos``, ``length``, or
            ``too_long`` if the question does not fit the model, which said nothing then.
        """
        ...


def _nothing(_: int) -> None:
    """Progress for those who do not look."""


class HostedGenerator:
    """A hosted base model and its fine-tuned models, ready to answer.

    It answers as :class:`tracetune.evaluation.generate.Generator` does, but knows no probabilities:
    confidence is None, and so is latency, which would be that of the network.

    Args:
        adapters: Names of the fine-tuned models.
        host: Where they are asked.
    """

    def __init__(self, adapters: Sequence[str], host: Host) -> None:
        self.adapters = tuple(adapters)
        self._host = host

    def answers(
        self,
        name: str,
        prompts: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        batch_size: int,
        timed: Sequence[int] = (),
        advance: Callable[[int], None] = _nothing,
    ) -> list[Answer]:
        """Answers every prompt at temperature 0.

        Args:
            name: An adapter, or ``base``.
            prompts: Conversations that end with a user turn.
            max_new_tokens: Longest answer in tokens.
            batch_size: Prompts asked at once.
            timed: Not used: the latency of a network says nothing about the model.
            advance: Called with the number of prompts just answered.

        Raises:
            ServerError: The endpoint does not answer.
        """
        asked = [_question(prompt, max_new_tokens, 0.0, 0) for prompt in prompts]
        return self._ask(name, asked, batch_size, advance)

    def sampled(
        self,
        name: str,
        prompts: Sequence[Sequence[Message]],
        temperatures: Sequence[float],
        *,
        seed: int,
        max_new_tokens: int,
        batch_size: int,
        advance: Callable[[int], None] = _nothing,
    ) -> list[list[Answer]]:
        """Answers each prompt once for every temperature, each with a seed of its own.

        Args:
            name: An adapter, or ``base``.
            prompts: Conversations that end with a user turn.
            temperatures: One per answer.
            seed: Of the random numbers; the service does not promise to honour it.
            max_new_tokens: Longest answer in tokens.
            batch_size: Prompts asked at once.
            advance: Called with the number of prompts just answered.
        """
        asked, each = [], len(temperatures)
        for prompt in prompts:
            seen: Counter[float] = Counter()
            for heat in temperatures:
                made = _question(prompt, max_new_tokens, float(heat), 0)
                own = sha256_json([seed, made["messages"], float(heat), seen[heat]])
                asked.append({**made, "seed": int(own[:7], 16)})
                seen[heat] += 1
        given = self._ask(name, asked, batch_size, _nothing)
        advance(len(prompts))
        return [given[start : start + each] for start in range(0, len(given), each)]

    def _ask(
        self,
        name: str,
        questions: Sequence[Document],
        at_once: int,
        advance: Callable[[int], None],
    ) -> list[Answer]:
        if name != BASE and name not in self.adapters:
            raise ValueError(f"no adapter {name!r} is hosted, only {list(self.adapters)}")
        model = None if name == BASE else name
        return [
            Answer(
                spoken(str(reply["text"])),
                tokens=int(reply["tokens"]),
                confidence=None,
                finish=_FINISHES[reply["finish"]],
            )
            for reply in self._host.ask(model, questions, at_once, advance)
        ]


def _question(prompt: Sequence[Message], most: int, heat: float, seed: int) -> Document:
    messages = [{"role": message.role, "content": message.content} for message in prompt]
    return {"messages": messages, "max_tokens": most, "temperature": heat, "seed": seed}
