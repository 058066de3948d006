"""Is a GGUF file the model it was made from? Token ids, probabilities, words; a failed gate stops.

Token ids must be equal. Log-probabilities at float32 and float16 may differ by what rounding gives,
greedy answers only where two tokens were as good as equal. What quantization changes is measured
and not gated: how much is acceptable depends on the use.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.errors import GateError
from tracetune.export import merge
from tracetune.export.runtime import GgufModel

if TYPE_CHECKING:
    import numpy

LIMITS = {"f32": 5e-4, "f16": 5e-2}
"""Largest difference of a log-probability by number format. Measured over trained Llama, Qwen2 and
Qwen3 of width 256: 5.5e-6 and 1.5e-3 (reference ``export.md``, section 3); over random weights
1.4e-5 and 1.7e-2; it grows with depth. A wrong conversion is off by far more."""

GREEDY_TOKENS = 24
"""Length of the greedy answers that are compared."""

_TINY = -50.0
"""Log-probabilities below are noise of the float32 exponential and are not compared."""

STRINGS = (
    "Where is my invoice?",
    " leading and trailing blanks  ",
    "two  spaces,   three    four",
    "\ttabs\t\tand\nlines\n\n\nend\r\n",
    "don't WE'LL they've I'D you're",
    "1234567890 3.14159 1,000,000 0x1F 2026-11-20T08:15:02Z",
    "snake_case camelCase SCREAMING kebab-case",
    "!!!???...---___ (a) [b] {c} <d>",
    '{"agent": "billing", "n": [1, -2.5e3, null], "t": "\\u00e9\\n"}',
    "https://example.com/a/b.html?c=d&e=%20#f",
    "C:\\temp\\new 'quoted' \"twice\" `code`",
    "SELECT * FROM t WHERE a <> b; -- why?",
    "Grüße, naïve façade, Ωμέγα, привет, Żółć",
    "你好,世界。こんにちは 안녕하세요",
    "שלום עולם مرحبا हिन्दी ไทย",
    "👩🏽‍💻 🇩🇪 🎉🎉 ✌️ 🏴‍☠️",
    "½ ² ٣ Ⅷ ™ ﬁ x̄ e\u0301",
    "zero\u200bwidth no\u00a0break \ufeffmark\u2028line",
    "a" * 200 + " " * 40 + "0" * 30,
)
"""Texts on which tokenizers that look alike come apart."""


@dataclass(frozen=True)
class Reference:
    """What the Hugging Face model says, computed once.

    Attributes:
        tokenizer: Its tokenizer.
        conversations: Conversations that its template takes.
        prompts: Their token ids, ready for an answer.
        answers: Greedy answers, token ids with the end token.
        logs: For each prompt the log-probabilities before each token of its answer and after the
            last, shape (answer + 1, vocabulary).
        nll: Mean negative log-likelihood of the scored tokens, in nats.
        scored: Sequences and the positions in them that are scored.
    """

    tokenizer: Any
    conversations: list[list[dict[str, str]]]
    prompts: list[list[int]]
    answers: list[list[int]]
    logs: list[numpy.ndarray[Any, Any]]
    nll: float
    scored: list[tuple[list[int], list[int]]]

    @property
    def count(self) -> int:
        """Number of scored tokens."""
        return sum(len(places) for _, places in self.scored)

    @property
    def longest(self) -> int:
        """Context in tokens that all comparisons need."""
        return max(map(len, self.prompts)) + GREEDY_TOKENS + 8


def reference(folder: Path, instruction: str | None, nll_tokens: int) -> Reference:
    """Runs the merged model once over everything that is compared.

    Args:
        folder: The merged model.
        instruction: System turn of the release, if it has one.
        nll_tokens: Tokens over which the negative log-likelihood is taken.
    """
    from tracetune.evaluation.generate import end_of_turn_ids
    from tracetune.training.base import load_tokenizer

    tokenizer: Any = load_tokenizer(folder)
    model = _load(folder)
    ends = end_of_turn_ids(tokenizer, model.generation_config)
    conversations = merge.accepted(tokenizer, instruction)
    prompts = [merge.prompt_ids(tokenizer, messages) for messages in conversations]
    answers = [_greedy(model, prompt, ends) for prompt in prompts]
    logs, scored, total, count = [], [], 0.0, 0
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = [*prompt, *answer]
        found = _log_probabilities(model, ids)
        logs.append(found[len(prompt) - 1 :].copy())
        # the end of a sequence first: it holds the answer
        places = list(range(len(ids) - 1, 0, -1))[: max(0, nll_tokens - count)]
        scored.append((ids, sorted(places)))
        total -= float(sum(found[place - 1, ids[place]] for place in places))
        count += len(places)
    return Reference(tokenizer, conversations, prompts, answers, logs, total / count, scored)


def _load(folder: Path) -> Any:
    from tracetune.training import quiet

    with quiet.offline(), quiet.quiet():
        import torch
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        return model.eval()


def _greedy(model: Any, prompt: list[int], ends: list[int]) -> list[int]:
    """The greedy answer without the sampling settings that a model may bring along."""
    import torch

    ids, cache = torch.tensor([prompt]), None
    answer: list[int] = []
    with torch.inference_mode():
        while len(answer) < GREEDY_TOKENS and (not answer or answer[-1] not in ends):
            output = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            answer.append(int(output.logits[0, -1].argmax()))
            ids = torch.tensor([[answer[-1]]])
    return answer


def _log_probabilities(model: Any, ids: list[int]) -> numpy.ndarray[Any, Any]:
    """Shape (tokens, vocabulary)."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
        found: numpy.ndarray[Any, Any] = logits.log_softmax(-1).numpy()
    return found


def check_tokens(model: GgufModel, known: Reference, normalizer: str | None) -> int:
    """Token ids of difficult strings and of whole prompts are those of Hugging Face.

    Args:
        model: The loaded file.
        known: What Hugging Face says.
        normalizer: Unicode form that the tokenizer makes first; the strings get it before both.

    Returns:
        Number of texts compared.

    Raises:
        GateError: One differs; names it and the first token that does.
    """
    specials = [str(token) for token in known.tokenizer.all_special_tokens]
    strings = [*STRINGS, f"a{'b '.join(specials)} c", " ".join(specials)]
    for text in strings:
        if normalizer == "NFC":
            text = unicodedata.normalize("NFC", text)
        ours, theirs = model.tokenize(text), known.tokenizer(text)["input_ids"]
        _same_ids(ours, list(theirs), f"the string {text!r}", model.path)
    for messages, prompt in zip(known.conversations, known.prompts, strict=True):
        if normalizer == "NFC" and not unicodedata.is_normalized("NFC", str(messages)):
            continue
        ours = model.tokenize(model.render(messages))
        _same_ids(ours, prompt, f"the conversation {messages!r}", model.path)
    return len(strings) + len(known.prompts)


def _same_ids(ours: list[int], theirs: list[int], what: str, path: Path) -> None:
    if ours == theirs:
        return
    place = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    raise GateError(
        f"llama.cpp reads {what} differently: token {place} of {len(theirs)} is "
        f"{ours[place : place + 3]} and should be {theirs[place : place + 3]}",
        where=str(path),
        remedy="do not use the file; the tokenizer of this base model has no equal in llama.cpp",
    )


def largest_delta(model: GgufModel, known: Reference) -> tuple[float, int]:
    """Largest difference of a log-probability after the prompts, and the prompt it is of."""
    import numpy

    worst, where = 0.0, 0
    for number, (prompt, logs) in enumerate(zip(known.prompts, known.logs, strict=True)):
        ours, theirs = model.next_log_probabilities(prompt), logs[0]
        if len(ours) != len(theirs):
            return float("inf"), number
        compared = theirs > _TINY
        delta = float(numpy.abs(ours - theirs)[compared].max())
        if not delta <= worst:  # also when it is no number
            worst, where = delta, number
    return worst, where


def check_probabilities(model: GgufModel, known: Reference, kind: str) -> float:
    """Log-probabilities differ by rounding only; the largest difference.

    Raises:
        GateError: They differ by more; names the prompt and the figures.
    """
    delta, number = largest_delta(model, known)
    if not delta <= LIMITS[kind]:
        raise GateError(
            f"at {kind} a log-probability differs by {delta:.2g} from the Hugging Face model, "
            f"rounding gives at most {LIMITS[kind]:.0e}; prompt: "
            f"{known.tokenizer.decode(known.prompts[number])!r}",
            where=str(model.path),
            remedy="do not use the file; report this with the config.json of the base model",
        )
    return delta


def greedy_equal(model: GgufModel, known: Reference, kind: str | None = None) -> int:
    """Number of prompts that are answered with the same tokens.

    Args:
        model: The loaded file.
        known: What Hugging Face says.
        kind: ``f32`` or ``f16``: another answer is an error unless it begins at two tokens that
            rounding can turn around; such an answer counts as the same. None: only count.

    Raises:
        GateError: See ``kind``; names the prompt, both answers and how far apart the tokens were.
    """
    equal = 0
    for prompt, answer, logs in zip(known.prompts, known.answers, known.logs, strict=True):
        ours = model.greedy(prompt, len(answer))
        if ours == answer:
            equal += 1
            continue
        if kind is None:
            continue
        place = next(
            (i for i, (a, b) in enumerate(zip(ours, answer, strict=False)) if a != b), None
        )
        gap = (
            float("inf") if place is None else logs[place, answer[place]] - logs[place, ours[place]]
        )
        if gap > 2 * LIMITS[kind]:
            decode = known.tokenizer.decode
            raise GateError(
                f"at {kind} the greedy answer is {decode(ours)!r} and should be "
                f"{decode(answer)!r} (the tokens are {gap:.2g} nats apart); prompt: "
                f"{decode(prompt)!r}",
                where=str(model.path),
                remedy="do not use the file; report this with the config.json of the base model",
            )
        equal += 1
    return equal


def negative_log_likelihood(model: GgufModel, known: Reference) -> float:
    """Mean negative log-likelihood of the scored tokens, in nats per token."""
    total = count = 0.0
    for ids, places in known.scored:
        for place in places:
            total -= model.log_probability(ids[:place], ids[place], keep=True)
            count += 1
    return total / count
