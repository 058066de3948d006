"""Rows with a prompt and answers to it: supervised, preferred, rated."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from pydantic import Field, model_validator

from tracetune.records.base import (
    Message,
    Row,
    check_completion,
    check_conversation,
    make_origin,
    plain,
)


class Example(Row):
    """A prompt and the answer it should get (SFT).

    Attributes:
        prompt: Conversation up to the answer; the system turn is kept; ends with a user turn.
        completion: The answer, as a list of turns that starts with the assistant.
    """

    prompt: list[Message] = Field(min_length=1)
    completion: list[Message] = Field(min_length=1)

    def content(self) -> Any:
        """Prompt and completion."""
        return [plain(self.prompt), plain(self.completion)]

    @model_validator(mode="after")
    def _check(self) -> Example:
        check_conversation(self.prompt, end="user")
        check_completion("completion", self.completion)
        return self


class Preference(Row):
    """A prompt with a better and a worse answer (DPO).

    Attributes:
        prompt: Conversation up to the answers; ends with a user turn.
        chosen: The better answer.
        rejected: The worse answer; never equal to ``chosen``.
    """

    prompt: list[Message] = Field(min_length=1)
    chosen: list[Message] = Field(min_length=1)
    rejected: list[Message] = Field(min_length=1)

    def content(self) -> Any:
        """Prompt, chosen and rejected."""
        return [plain(self.prompt), plain(self.chosen), plain(self.rejected)]

    def parted(self) -> tuple[list[Message], list[Message], list[Message]]:
        """Prompt, better and worse answer, without the turns that both answers begin with.

        Such turns (calls of tools and what came back) are no part of the choice: they add the same
        to the log-probability of both sides. They end the prompt; each side keeps its last turn.
        """
        pairs = zip(self.chosen[:-1], self.rejected[:-1], strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        prompt = [*self.prompt, *self.chosen[:shared]]
        return prompt, self.chosen[shared:], self.rejected[shared:]

    @model_validator(mode="after")
    def _check(self) -> Preference:
        check_conversation(self.prompt, end="user")
        check_completion("chosen", self.chosen)
        check_completion("rejected", self.rejected)
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same: such a pair teaches nothing")
        return self


class Rating(Row):
    """A prompt with one answer and whether it was good (KTO); good and bad ones need no pair.

    Attributes:
        prompt: Conversation up to the answer; ends with a user turn.
        completion: The answer.
        good: What people said of it.
    """

    prompt: list[Message] = Field(min_length=1)
    completion: list[Message] = Field(min_length=1)
    good: bool

    def content(self) -> Any:
        """Prompt, completion and whether it was good."""
        return [plain(self.prompt), plain(self.completion), self.good]

    @model_validator(mode="after")
    def _check(self) -> Rating:
        check_conversation(self.prompt, end="user")
        check_completion("completion", self.completion)
        return self


def make_example(
    *,
    prompt: list[Message],
    completion: list[Message],
    tags: dict[str, str] | None = None,
    **origin: Any,
) -> Example:
    """An :class:`Example` with its id and content hash filled in.

    Args:
        prompt: Conversation up to the answer.
        completion: The answer.
        tags: Small facts for reports.
        **origin: Fields of :class:`Provenance` without ``content_hash``.
    """
    found, row_id = make_origin("sft", [plain(prompt), plain(completion)], origin)
    return Example(
        id=row_id, provenance=found, prompt=prompt, completion=completion, tags=tags or {}
    )


def make_preference(
    *,
    prompt: list[Message],
    chosen: list[Message],
    rejected: list[Message],
    tags: dict[str, str] | None = None,
    **origin: Any,
) -> Preference:
    """A :class:`Preference` with its id and content hash filled in.

    Args:
        prompt: Conversation up to the answers.
        chosen: The better answer.
        rejected: The worse answer.
        tags: Small facts for reports.
        **origin: Fields of :class:`Provenance` without ``content_hash``.
    """
    content = [plain(prompt), plain(chosen), plain(rejected)]
    found, row_id = make_origin("pair", content, origin)
    return Preference(
        id=row_id,
        provenance=found,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        tags=tags or {},
    )


def make_rating(
    *,
    prompt: list[Message],
    completion: list[Message],
    good: bool,
    tags: dict[str, str] | None = None,
    **origin: Any,
) -> Rating:
    """A :class:`Rating` with its id and content hash filled in.

    Args:
        prompt: Conversation up to the answer.
        completion: The answer.
        good: What people said of it.
        tags: Small facts for reports.
        **origin: Fields of :class:`Provenance` without ``content_hash``.
    """
    content = [plain(prompt), plain(completion), good]
    found, row_id = make_origin("good" if good else "bad", content, origin)
    return Rating(
        id=row_id,
        provenance=found,
        prompt=prompt,
        completion=completion,
        good=good,
        tags=tags or {},
    )
