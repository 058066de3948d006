"""Greedy answers of a base model and of adapters on top of it; sampled ones: :mod:`.sampling`.

One model is loaded once; adapters are switched on it by name, and the base answers with all of
them off. Prompts go through the chat template of the model folder with the generation prompt, the
same way as in training and serving.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tracetune.errors import ConfigurationError, DataError
from tracetune.evaluation.thoughts import OPENING, spoken
from tracetune.files import read_json
from tracetune.records import Message
from tracetune.training.base import UNKNOWN, not_here

if TYPE_CHECKING:
    import torch

BASE = "base"
"""Name of the model with every adapter off."""

Finish = Literal["stop", "length", "too_long"]

_END_PROBE = "x7"


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: The answer, without special tokens, surrounding blanks and the thought before it;
            empty if the thought was cut.
        tokens: Generated tokens, the end-of-turn token and a thought included.
        confidence: Probability the model gave to exactly these tokens (product of the
            probabilities of each, end of turn included); ``None`` where there is none.
        latency_ms: Time from prompt ids to answer, answered alone; ``None`` if not measured.
        finish: ``stop``: the model ended its turn; ``length``: cut at ``max_new_tokens``;
            ``too_long``: prompt and answer do not fit the context of the model, nothing generated.
    """

    text: str
    tokens: int
    confidence: float | None
    latency_ms: float | None = None
    finish: Finish = "stop"


def _nothing(_: int) -> None:
    """Progress for those who do not look."""


class Generator:
    """A base model with any number of adapters, ready to answer.

    Args:
        model: A causal language model, or a PEFT model that holds the adapters.
        tokenizer: Its tokenizer, with a chat template.
        adapters: Names of the adapters on the model.
    """

    def __init__(self, model: Any, tokenizer: Any, adapters: Sequence[str] = ()) -> None:
        """Makes the model answer greedily, whatever its own generation settings are."""
        from transformers import GenerationConfig

        self.model: Any = model.eval()
        self.tokenizer = tokenizer
        self.adapters = tuple(adapters)
        self.device = next(model.parameters()).device
        config = model.config.get_text_config()
        self.context: int | None = getattr(config, "max_position_embeddings", None)
        self.end_ids = end_of_turn_ids(tokenizer, model.generation_config)
        # Some templates begin the thought themselves; then only its end is in the answer.
        asked = render(tokenizer, [Message(role="user", content="a")], generation=True)
        self._begun = OPENING if asked.rstrip().endswith(OPENING) else ""
        pad = tokenizer.pad_token_id
        self.pad_id: int = self.end_ids[0] if pad is None else pad
        # A hub model may bring sampling and penalties along; generate() would merge them in.
        self._base_model().generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, num_beams=1, eos_token_id=self.end_ids, pad_token_id=self.pad_id
        )

    def _base_model(self) -> Any:
        return self.model.get_base_model() if self.adapters else self.model

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[Any]:
        """The model with the adapter ``name`` on, or with none for :data:`BASE`."""
        if name == BASE:
            off = self.model.disable_adapter() if self.adapters else contextlib.nullcontext()
            with off:
                yield self.model
            return
        if name not in self.adapters:
            raise ValueError(f"no adapter {name!r} is loaded, only {list(self.adapters)}")
        self.model.set_adapter(name)
        yield self.model

    def prompt_ids(self, prompt: Sequence[Message]) -> list[int]:
        """Token ids of a prompt, generation prompt included."""
        text = render(self.tokenizer, prompt, generation=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

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
        """Answers every prompt greedily.

        Prompts of similar length share a batch, so that little is padded; the order of the
        answers is that of the prompts.

        Args:
            name: An adapter, or :data:`BASE`.
            prompts: Conversations that end with a user turn.
            max_new_tokens: Longest answer in tokens.
            batch_size: Prompts answered at once.
            timed: Positions of prompts that are answered once more, one at a time, for latency.
            advance: Called with the number of prompts just answered.
        """
        ids = [self.prompt_ids(prompt) for prompt in prompts]
        room = math.inf if self.context is None else self.context - max_new_tokens
        found: dict[int, Answer] = {}
        fits = []
        for position, row in enumerate(ids):
            if len(row) <= room:
                fits.append(position)
            else:
                found[position] = Answer("", tokens=0, confidence=None, finish="too_long")
        advance(len(found))
        fits.sort(key=lambda position: (len(ids[position]), position))
        with self.use(name):
            for start in range(0, len(fits), batch_size):
                batch = fits[start : start + batch_size]
                answers = self._batch([ids[position] for position in batch], max_new_tokens)
                found.update(zip(batch, answers, strict=True))
                advance(len(batch))
            self._time(found, ids, [row for row in timed if row in set(fits)], max_new_tokens)
        return [found[position] for position in range(len(prompts))]

    def _time(
        self,
        found: dict[int, Answer],
        ids: list[list[int]],
        timed: Sequence[int],
        max_new_tokens: int,
    ) -> None:
        """Fills in the latency of some answers, each prompt alone, after one warm-up."""
        for number, position in enumerate([*timed[:1], *timed]):
            start = time.perf_counter()
            self._batch([ids[position]], max_new_tokens)
            if number:
                latency = (time.perf_counter() - start) * 1000
                found[position] = replace(found[position], latency_ms=latency)

    def _batch(self, rows: list[list[int]], max_new_tokens: int) -> list[Answer]:
        """Answers of one batch: left padding, so that every prompt ends where its answer begins."""
        import torch

        ids, mask = left_padded(rows, self.pad_id, self.device)
        recorder = _ChosenLogProbs()
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                logits_processor=[recorder],
            )
        generated = output[:, ids.shape[1] :].tolist()
        steps = torch.stack(recorder.steps, dim=1).tolist()
        return [
            self.answer_of(tokens, logs, max_new_tokens)
            for tokens, logs in zip(generated, steps, strict=True)
        ]

    def answer_of(self, tokens: list[int], logs: list[float], max_new_tokens: int) -> Answer:
        """The answer in generated tokens, whose log-probabilities are ``logs``."""
        length = next(
            (place + 1 for place, token in enumerate(tokens) if token in self.end_ids), None
        )
        finish: Finish = "stop" if length is not None else "length"
        length = length or max_new_tokens
        text = self.tokenizer.decode(tokens[:length], skip_special_tokens=True)
        text = spoken(self._begun + text)
        confidence = math.exp(min(0.0, math.fsum(logs[:length])))
        return Answer(text, tokens=length, confidence=confidence, finish=finish)


class _ChosenLogProbs:
    """Notes the log-probability of the token that greedy search takes at each step.

    Keeping one number per row and step instead of all logits makes the memory independent of the
    size of the vocabulary.
    """

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        # max - logsumexp is log_softmax at the argmax, without a second tensor of logits.
        self.steps.append((scores.amax(-1) - torch.logsumexp(scores.float(), -1)).cpu())
        return scores


def left_padded(
    rows: Sequence[Sequence[int]], pad_id: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of shape (rows, longest), padded on the left."""
    import torch

    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[number, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def render(tokenizer: Any, messages: Sequence[Message], *, generation: bool = False) -> str:
    """A conversation as the chat template writes it."""
    plain = [message.model_dump() for message in messages]
    text: str = tokenizer.apply_chat_template(
        plain, tokenize=False, add_generation_prompt=generation
    )
    return text


def end_of_turn_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Ids of the tokens that end an answer.

    These are the end-of-text token of the tokenizer, those of the model's generation settings, and
    the first special token which the chat template writes after an assistant turn: some models end
    a turn with another token than a text.

    Raises:
        ConfigurationError: If there is none: such a model never stops.
    """
    found: list[int | None] = []
    probe = [
        Message(role="user", content="a"),
        Message(role="assistant", content=_END_PROBE),
    ]
    after = render(tokenizer, probe).rpartition(_END_PROBE)[2]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for token in tokenizer(after, add_special_tokens=False)["input_ids"]:
        if token in special:
            found.append(token)
            break
    configured = getattr(generation_config, "eos_token_id", None)
    found += configured if isinstance(configured, list) else [configured]
    found.append(tokenizer.eos_token_id)
    ends: list[int] = [token for token in dict.fromkeys(found) if token is not None]
    if not ends:
        raise ConfigurationError(
            "the model has no token that ends an answer, so it would never stop",
            where=str(getattr(tokenizer, "name_or_path", "tokenizer")),
            remedy="use a model whose tokenizer names an eos_token",
        )
    return ends


def load_generator(
    base: str | Path,
    adapters: Mapping[str, Path],
    *,
    threads: int | None = None,
    weights_sha256: str | None = None,
) -> Generator:
    """Loads a base model once, with adapters beside each other on it.

    On a GPU the weights keep the number format of the checkpoint; on a CPU they are float32.

    Args:
        base: Folder of the base model.
        adapters: Adapter folders by name; may be empty.
        threads: CPU threads; ``None`` leaves the setting of the process alone.
        weights_sha256: Hash of the base weights. PEFT loads an adapter onto any base of the same
            shape, so an adapter whose manifest names another hash is refused here.

    Raises:
        ConfigurationError: The base is hosted, so there is no folder of it.
        DataError: If an adapter folder is incomplete, was trained on other base weights, or its
            chat template is not the one the other folders have.
    """
    if not str(base) or weights_sha256 == UNKNOWN:
        raise not_here("of these adapters")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    if threads is not None:
        torch.set_num_threads(threads)
    for name, folder in adapters.items():
        _check_adapter(name, folder, weights_sha256)
    tokenizer = _one_tokenizer(base, adapters)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the step has its own
    cuda = torch.cuda.is_available()
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(base), local_files_only=True, dtype="auto" if cuda else torch.float32
    )
    model = model.to("cuda" if cuda else "cpu")
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 by a name that has a new one.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        for number, (name, folder) in enumerate(adapters.items()):
            if number == 0:
                model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
            else:
                model.load_adapter(str(folder), adapter_name=name)
    return Generator(model, tokenizer, tuple(adapters))


def _check_adapter(name: str, folder: Path, weights_sha256: str | None) -> None:
    if name == BASE:
        raise ConfigurationError(
            f"an adapter cannot be called {BASE!r}", remedy="give it another name"
        )
    for needed in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / needed).is_file():
            raise DataError(
                f"the adapter {name!r} lacks {needed}",
                where=str(folder),
                remedy="run the training stage again",
            )
    manifest = folder / "manifest.json"
    if weights_sha256 is None or not manifest.is_file():
        return
    trained_on = read_json(manifest)["base"]["weights_sha256"]
    if trained_on != weights_sha256:
        raise DataError(
            f"the adapter {name!r} was trained on other base weights ({trained_on[:12]}) than "
            f"those it would be loaded onto ({weights_sha256[:12]})",
            where=str(manifest),
            remedy="train it again on this base model, or choose the base it was trained on",
        )


def _one_tokenizer(base: str | Path, adapters: Mapping[str, Path]) -> Any:
    """The tokenizer of the newest adapter, else of the base; all that exist must render alike."""
    from transformers import AutoTokenizer

    folders = [path for path in adapters.values() if (path / "tokenizer_config.json").is_file()]
    loaded = [AutoTokenizer.from_pretrained(str(path), local_files_only=True) for path in folders]
    of_base = AutoTokenizer.from_pretrained(str(base), local_files_only=True)
    if of_base.chat_template:
        loaded.insert(0, of_base)
        folders.insert(0, Path(base))
    if not loaded:
        raise ConfigurationError(
            "the base model has no chat template",
            where=str(base),
            remedy="choose an instruction-tuned model, or train an adapter that brings a template",
        )
    probe = [Message(role="system", content="s"), Message(role="user", content="Where is it? é😀")]
    expected = _probe_ids(loaded[0], probe)
    for folder, tokenizer in zip(folders[1:], loaded[1:], strict=True):
        if _probe_ids(tokenizer, probe) != expected:
            raise DataError(
                "the chat template or tokenizer differs from the one of the other models, so "
                "their answers cannot be compared",
                where=f"{folder} against {folders[0]}",
                remedy="train the adapter again on this base model",
            )
    return loaded[-1]


def _probe_ids(tokenizer: Any, probe: Sequence[Message]) -> list[int]:
    text = render(tokenizer, probe, generation=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
