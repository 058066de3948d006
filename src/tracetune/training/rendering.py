"""One renderer of rows into token ids and the mask of what is trained.

Ids and mask are made together, so they cannot disagree. The result equals what TRL's SFT and DPO
trainers make of the same rows (a test compares them), therefore the preflight report speaks about
the training that will happen and not about a second opinion of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from tracetune.errors import GateError
from tracetune.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rendered:
    """A prompt with one answer, as the trainer sees it.

    Attributes:
        ids: Token ids of the whole conversation, not truncated.
        mask: 1 where the token is trained, 0 elsewhere; as long as ``ids``.
        prompt_length: Tokens before the completion starts.
        prompt_matches: Whether the prompt rendered for generation is a prefix of ``ids``.
        roles: Role of the turn that each token belongs to; as long as ``ids``.
    """

    ids: list[int]
    mask: list[int]
    prompt_length: int
    prompt_matches: bool
    roles: list[str]

    def truncated(self, max_length: int | None) -> Rendered:
        """The same, cut at its end as the trainer cuts it."""
        if max_length is None or len(self.ids) <= max_length:
            return self
        return Rendered(
            ids=self.ids[:max_length],
            mask=self.mask[:max_length],
            prompt_length=self.prompt_length,
            prompt_matches=self.prompt_matches,
            roles=self.roles[:max_length],
        )


FIXED_DAY = date(2025, 1, 1)
"""What templates that print the date of the day (Llama 3.2) print where a text must give the same
tokens on every day."""


def on_the_fixed_day(template: str) -> str:
    """A chat template for which it is always :data:`FIXED_DAY`.

    Args:
        template: Its text; one that does not ask for the date comes back as it is.
    """
    if "strftime_now" not in template:
        return template
    # transformers hands no functions on to templates, so the template brings its own. The empty
    # text after it keeps line ends at the start of the template.
    parts = ((f"%{code}", FIXED_DAY.strftime(f"%{code}")) for code in "aAbBcdeHIjmMpSxXyY")
    replaced = "".join(f" | replace('{code}', '{text}')" for code, text in parts)
    own = f"{{% macro strftime_now(form) %}}{{{{ form{replaced} }}}}{{% endmacro %}}{{{{ '' }}}}"
    return own + template


BYTES_PER_TOKEN = 3
TOKENS_PER_TURN = 8
"""Rather too many tokens than too few: English has about four bytes per token."""


def estimated_tokens(text: str) -> int:
    """Tokens of a text whose tokenizer is not here, from its bytes."""
    return len(text.encode("utf-8")) // BYTES_PER_TOKEN + 1


class Estimated:
    """Stands in for a renderer without a tokenizer: lengths are estimated, all ids are zero."""

    def render(
        self, prompt: Sequence[Mapping[str, Any]], completion: Sequence[Mapping[str, Any]]
    ) -> Rendered:
        """A prompt with one answer, of which only the lengths mean anything."""
        before, after = (
            sum(estimated_tokens(str(turn["content"])) + TOKENS_PER_TURN for turn in turns)
            for turns in (prompt, completion)
        )
        return Rendered(
            ids=[0] * (before + after),
            mask=[0] * before + [1] * after,
            prompt_length=before,
            prompt_matches=True,
            roles=["user"] * before + ["assistant"] * after,
        )


@dataclass(frozen=True)
class MaskRule:
    """Which tokens are trained: TRL's two switches.

    Attributes:
        completion_only: Only tokens after the prompt.
        assistant_only: Only tokens inside the template's generation markers.
    """

    completion_only: bool = True
    assistant_only: bool = False


class Renderer:
    """Renders conversations of one base model.

    Args:
        tokenizer: Tokenizer with a chat template.
        rule: Which tokens are trained.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rule: MaskRule | None = None) -> None:
        """Keeps the tokenizer and picks the template that the rule needs."""
        self.tokenizer = tokenizer
        self.rule = rule or MaskRule()
        self.template = self._training_template() if self.rule.assistant_only else None

    def _training_template(self) -> str | None:
        # TRL swaps in its own template for known models without generation markers.
        from trl.chat_template_utils import get_training_chat_template, has_generation_markers

        if has_generation_markers(self.tokenizer.chat_template):
            return None
        try:
            template: str | None = get_training_chat_template(self.tokenizer)
        except ValueError as error:
            raise GateError(
                "the chat template has no {% generation %} markers and TRL knows no variant of it "
                "that has, so assistant_only_loss cannot tell the assistant's tokens",
                where="trainer.assistant_only_loss",
                remedy="set it to false, or add the markers to the chat template of the model",
            ) from error
        return template

    def _apply(self, messages: Sequence[Mapping[str, str]], **options: Any) -> dict[str, list[int]]:
        result: Any = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=True,
            return_dict=True,
            chat_template=self.template,
            **options,
        )
        return dict(result)

    def prompt_ids(self, prompt: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a prompt, ready for the model to answer: what serving sends."""
        return list(self._apply(prompt, add_generation_prompt=True)["input_ids"])

    def render(
        self, prompt: Sequence[Mapping[str, str]], completion: Sequence[Mapping[str, str]]
    ) -> Rendered:
        """Ids and mask of ``prompt`` answered by ``completion``."""
        prompt_ids = self.prompt_ids(prompt)
        whole = self._apply(
            [*prompt, *completion],
            **({"return_assistant_tokens_mask": True} if self.rule.assistant_only else {}),
        )
        ids = list(whole["input_ids"])
        length = common_prefix(prompt_ids, ids)
        mask = [int(not self.rule.completion_only or i >= length) for i in range(len(ids))]
        if self.rule.assistant_only:
            mask = [m & a for m, a in zip(mask, whole["assistant_masks"], strict=True)]
        return Rendered(
            ids=ids,
            mask=mask,
            prompt_length=length,
            prompt_matches=length == len(prompt_ids),
            roles=self._roles(prompt, completion, length, ids),
        )

    def _roles(
        self,
        prompt: Sequence[Mapping[str, str]],
        completion: Sequence[Mapping[str, str]],
        prompt_length: int,
        ids: list[int],
    ) -> list[str]:
        if len(completion) == 1 and self.rule.completion_only:
            # Nothing before the completion is trained, so the prompt's turns need no telling apart.
            return ["prompt"] * prompt_length + ["assistant"] * (len(ids) - prompt_length)
        roles: list[str] = []
        turns = [*prompt, *completion]
        for number, turn in enumerate(turns, start=1):
            if number == len(turns):
                end = len(ids)
            elif turns[number]["role"] == "assistant":
                # Serving supplies the header of an assistant turn: counted with the turn before.
                end = len(self._apply(turns[:number], add_generation_prompt=True)["input_ids"])
            else:
                end = len(self._apply(turns[:number])["input_ids"])
            roles.extend([turn["role"]] * (min(end, len(ids)) - len(roles)))
        return roles


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of leading tokens that two sequences share."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as the plain dictionaries that chat templates and TRL take."""
    return [{"role": message.role, "content": message.content} for message in messages]
