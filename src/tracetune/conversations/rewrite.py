"""Answers that should have been other ones, rewritten through ``tracetune.llm``.

Rules make drafts from the conversation itself: an answer on another branch, a later answer that
the user had to ask twice for, the answer without its stalling sentences. The writer takes one of
them or writes its own; the offline generator can only take one. Whatever it gives is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field

from tracetune.conversations.accept import refusals, without_apology, without_stalling
from tracetune.conversations.exchanges import with_attachments
from tracetune.conversations.options import SurgeryOptions
from tracetune.conversations.survey import Surveyed, Target, targets
from tracetune.files import sha256_json
from tracetune.llm import Grammar, TextRequest, TextResult, TextWriter
from tracetune.llm.tally import Tally
from tracetune.privacy import find
from tracetune.records import ChatRewrite, Message, Record, RewriteSource

_SYSTEM = """\
You correct answers of an assistant. They become training rows of a smaller model that should work \
the way its user wants: it does what was asked for at once.

Rules for a corrected answer:
- It answers the last request of the user, completely and truthfully, in the user's language.
- It asks nothing, asks for no permission, offers no choice, announces nothing and does not \
apologise. Where a detail is open it decides and says so in one short sentence.
- It keeps every form that the user asked for.
- Code is whole and works: no placeholder, nothing left out.

If one of the numbered drafts is such an answer, give its number in "draft" and leave "answer" \
empty. Otherwise give 0 in "draft" and write the answer in "answer"."""

_PROMPT = "{context}\n\n<request>\n{request}\n</request>\n\n<answer>\n{answer}\n</answer>\n\n{why}"
_WHY = {
    "unjustified": "This answer stalls, although nothing was in the way of answering.",
    "friction": "This answer annoyed the user, who then said:\n"
    "<complaint>\n{complaint}\n</complaint>",
}

_SCHEMA = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "draft": {"type": "integer", "minimum": 0},
                    "answer": {"type": "string"},
                },
                "required": ["draft", "answer"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["items"],
    "additionalProperties": False,
}


class RewriteReport(Record):
    """What was asked for, what came, what was accepted.

    Attributes:
        writer: Who wrote; empty if nobody was asked.
        wanted: Answers to rewrite, by purpose.
        accepted: Accepted answers, by where their text is from.
        left_out: Answers without an accepted text, by reason; one can have several.
        outcomes: Requests by what became of them.
        problems: Reasons of requests without an answer, each once.
        usd: Estimated cost.
        tokens: Tokens read and written by the model.
    """

    writer: str = ""
    wanted: dict[str, int] = Field(default_factory=dict)
    accepted: dict[str, int] = Field(default_factory=dict)
    left_out: dict[str, int] = Field(default_factory=dict)
    outcomes: dict[str, int] = Field(default_factory=dict)
    problems: list[str] = Field(default_factory=list)
    usd: float = 0.0
    tokens: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A text that may replace an answer.

    Attributes:
        source: Where it is from.
        text: The text.
    """

    source: RewriteSource
    text: str


def drafts(target: Target, options: SurgeryOptions) -> list[Draft]:
    """The texts of the conversation that would be accepted, best first."""
    exchange = target.exchange
    found = [Draft("branch", text) for text in exchange.branches]
    if target.friction is None or _settled(target, options):
        found.append(Draft("later", without_apology(target.later)))
    if target.purpose == "unjustified":
        found.append(Draft("cut", without_stalling(exchange.answer)))
    return [
        draft
        for draft in found
        if draft.text.strip()
        and not refusals(draft.text, target.label, exchange.answer, options.rewrite)
    ]


def _settled(target: Target, options: SurgeryOptions) -> bool:
    """Whether the answer after friction is the one that was wanted before it.

    Mild signs may belong to a new question; a form that was asked for shows what the answer is to.
    """
    assert target.friction is not None
    request = target.label.request
    shown = request.wants_code or request.constraints.any
    return shown or target.friction.intensity >= options.rewrite.later_from


def requests(
    surveyed: Sequence[Surveyed], options: SurgeryOptions
) -> list[tuple[Target, list[Draft], TextRequest]]:
    """What the writer is asked: one request for each answer to rewrite."""
    return [
        (target, offered := drafts(target, options), _request(target, offered, options))
        for conversation in surveyed
        for target in targets(conversation, options)
    ]


def rewrite(
    surveyed: Sequence[Surveyed], *, writer: TextWriter, options: SurgeryOptions
) -> tuple[list[ChatRewrite], RewriteReport]:
    """Rewrites what is to be rewritten.

    Args:
        surveyed: The corpus; its texts are redacted, because they may leave the machine.
        writer: Who writes. What it was paid for once it gives again without being paid.
        options: What is rewritten and accepted.

    Returns:
        One entry per answer to rewrite, in order, and the report.
    """
    asked = requests(surveyed, options)
    results = writer.write([request for _, _, request in asked])
    tally = Tally()
    found = [
        _settle(target, offered, result, tally, options)
        for (target, offered, _), result in zip(asked, results, strict=True)
    ]
    return found, RewriteReport(
        writer=writer.label,
        wanted=_counted(target.purpose for target, _, _ in asked),
        accepted=_counted(entry.source for entry in found if entry.answer is not None),
        left_out=_counted(reason.partition(":")[0] for entry in found for reason in entry.reasons),
        outcomes=dict(sorted(tally.outcomes.items())),
        problems=list(tally.problems),
        usd=round(tally.usd, 6),
        tokens=dict(sorted(tally.tokens.items())),
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _settle(
    target: Target,
    offered: Sequence[Draft],
    result: TextResult,
    tally: Tally,
    options: SurgeryOptions,
) -> ChatRewrite:
    """What became of one request."""
    source: RewriteSource = "none"
    text, reasons = "", [result.reason or f"no answer ({result.outcome})"]
    for item in tally.items(result)[:1]:
        assert isinstance(item, dict)
        number = int(item["draft"])
        if 0 < number <= len(offered):
            source, text = offered[number - 1].source, offered[number - 1].text
        elif number:
            reasons = [f"there is no draft {number}"]
            break
        else:
            source, text = "written", str(item["answer"]).strip()
        reasons = refusals(text, target.label, target.exchange.answer, options.rewrite)
        kinds = sorted({finding.kind for finding in find(text)})
        if kinds:  # the corpus was redacted, so a model made it up or put it together
            reasons.append("it holds personal data or a secret: " + ", ".join(kinds))
    return ChatRewrite(
        conversation=target.exchange.conversation,
        turn=target.exchange.answer_id,
        purpose=target.purpose,
        answer=None if reasons else text,
        source="none" if reasons else source,
        outcome=result.outcome,
        reasons=reasons,
    )


def _request(target: Target, offered: Sequence[Draft], options: SurgeryOptions) -> TextRequest:
    exchange = target.exchange
    files = [(file.name, file.content) for file in exchange.attachments]
    prompt = _PROMPT.format(
        context=_context((*exchange.history, *exchange.between), options.rewrite.context_chars),
        request=with_attachments(exchange.user, files),
        answer=exchange.answer,
        why=_WHY[target.purpose].format(complaint=target.complaint),
    ).strip()
    for number, draft in enumerate(offered, start=1):
        prompt += f'\n\n<draft number="{number}">\n{draft.text}\n</draft>'
    grammar = Grammar(items=[{"draft": 1, "answer": ""}], count=1) if offered else None
    return TextRequest(
        id=f"rewrite:{sha256_json([exchange.key, target.purpose])[:24]}",
        system=_SYSTEM,
        prompt=prompt,
        answer_schema=_SCHEMA,
        max_tokens=options.rewrite.max_tokens,
        cell=target.purpose,
        grammar=grammar,
    )


def _context(messages: Sequence[Message], most: int) -> str:
    """The end of a conversation, at most so many characters of it."""
    text = "\n\n".join(f"{message.role}: {message.content}" for message in messages)
    if not text:
        return ""
    cut = text if len(text) <= most else "…" + text[-most:]
    return f"<conversation>\n{cut}\n</conversation>"
