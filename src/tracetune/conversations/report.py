"""What corpus surgery did, in numbers and examples."""

from __future__ import annotations

from pydantic import Field

from tracetune.conversations.exchanges import Exchange
from tracetune.records import Record

_SHOWN_CHARS = 200


class ShownTurn(Record):
    """One turn as an example of a rule.

    Attributes:
        conversation: Group of the conversation.
        turn: Id of the answer.
        request: Start of the request.
        answer: End of the answer: stalling stands there.
    """

    conversation: str
    turn: str
    request: str
    answer: str


class Touched(Record):
    """How many turns a rule touched, with examples of it.

    Attributes:
        turns: Number of turns.
        examples: The first of them.
    """

    turns: int = 0
    examples: list[ShownTurn] = Field(default_factory=list)

    def with_turn(self, exchange: Exchange, shown: int) -> Touched:
        """The same with one turn more; it is shown if fewer than ``shown`` are."""
        examples = self.examples
        if len(examples) < shown:
            answer = " ".join(exchange.answer.split())
            examples = [
                *examples,
                ShownTurn(
                    conversation=exchange.conversation,
                    turn=exchange.answer_id,
                    request=" ".join(exchange.user.split())[:_SHOWN_CHARS],
                    answer=answer if len(answer) <= _SHOWN_CHARS else "…" + answer[-_SHOWN_CHARS:],
                ),
            ]
        return Touched(turns=self.turns + 1, examples=examples)


class SurgeryReport(Record):
    """What became of the answers of a corpus.

    Attributes:
        conversations: Conversations read.
        turns: Answers in them.
        frictions: Stretches in which the user was annoyed.
        rules: Rule → turns it touched, with examples.
        verdicts: Stall threshold → verdict → turns: at the one used, and at the strict one.
        left_out: Stalling answers without an accepted rewrite; they are in no training record.
        sft: Turns to learn, gold or not.
        gold: Those that are gold; only they are exported for training.
        pairs: Pairs by reason.
        eval_cases: Evaluation cases.
    """

    conversations: int = 0
    turns: int = 0
    frictions: int = 0
    rules: dict[str, Touched] = Field(default_factory=dict)
    verdicts: dict[str, dict[str, int]] = Field(default_factory=dict)
    left_out: int = 0
    sft: int = 0
    gold: int = 0
    pairs: dict[str, int] = Field(default_factory=dict)
    eval_cases: int = 0
