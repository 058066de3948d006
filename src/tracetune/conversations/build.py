"""Conversations and rewrites → CTv3.1 records: turns to learn, pairs, evaluation cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tracetune.conversations.accept import is_mock
from tracetune.conversations.classify import Label, exec_of, stall_of
from tracetune.conversations.dispreferred import (
    confirmation_reflex,
    format_drift,
    omission,
    option_spam,
)
from tracetune.conversations.exchanges import Exchange
from tracetune.conversations.friction import Friction
from tracetune.conversations.options import SurgeryOptions
from tracetune.conversations.parts import (
    answer_of,
    checks_of,
    common_of,
    modes_of,
    record_id,
    tags_of,
)
from tracetune.conversations.report import SurgeryReport, Touched
from tracetune.conversations.survey import Surveyed
from tracetune.errors import DataError
from tracetune.records import ChatRewrite
from tracetune.records.ctv3 import (
    Candidates,
    Ctv3Extra,
    DpoPair,
    EvalCase,
    FailureMode,
    Origin,
    Quality,
    Reference,
    SftTurn,
)


@dataclass
class Built:
    """What became of a corpus.

    Attributes:
        sft: Turns to learn.
        pairs: Better and worse answers.
        evals: Evaluation cases.
        extras: What is known of each record beyond its schema.
        report: How many turns each rule touched.
    """

    sft: list[SftTurn] = field(default_factory=list)
    pairs: list[DpoPair] = field(default_factory=list)
    evals: list[EvalCase] = field(default_factory=list)
    extras: list[Ctv3Extra] = field(default_factory=list)
    report: SurgeryReport = field(default_factory=SurgeryReport)


def build(
    surveyed: Sequence[Surveyed], rewrites: Sequence[ChatRewrite], options: SurgeryOptions
) -> Built:
    """Records of a corpus.

    Quarantined answers become worse answers of pairs and evaluation cases; stalling ones without
    an accepted rewrite are left out; the others are taught as they are. Of good answers worse ones
    are made.

    Args:
        surveyed: The corpus.
        rewrites: What :func:`tracetune.conversations.rewrite.rewrite` gave for it.
        options: Which pairs are made.

    Raises:
        DataError: A rewrite belongs to no answer of the corpus.
    """
    by_turn = {(entry.conversation, entry.turn): entry for entry in rewrites}
    known = {(e.conversation, e.answer_id) for part in surveyed for e in part.exchanges}
    strange = sorted(set(by_turn) - known)
    if strange:
        raise DataError(
            f"{len(strange)} rewrites belong to no answer of the corpus, such as {strange[0]}",
            remedy="corpus and rewrites come from different runs; run the pipeline anew",
        )
    builder = _Builder(options)
    for conversation in surveyed:
        builder.conversation(conversation, by_turn)
    return builder.finish()


class _Builder:
    """Collects records and counts.

    Args:
        options: Which pairs are made.
    """

    def __init__(self, options: SurgeryOptions) -> None:
        self._options = options
        self._built = Built()
        self._counts: Counter[str] = Counter()
        self._touched: dict[str, Touched] = {}
        self._strict: dict[str, Counter[str]] = defaultdict(Counter)

    def conversation(
        self, surveyed: Surveyed, rewrites: dict[tuple[str, str], ChatRewrite]
    ) -> None:
        """Adds the records of one conversation."""
        self._counts["conversations"] += 1
        self._counts["frictions"] += len(surveyed.frictions)
        for number, label in surveyed.labels.items():
            exchange = surveyed.exchanges[number]
            rewrite = rewrites.get((exchange.conversation, exchange.answer_id))
            better = rewrite.answer if rewrite is not None else None
            friction = surveyed.friction_at(number)
            self._counts["turns"] += 1
            self._strict["shipped"][label.verdict] += 1
            self._strict["strict"][label.strict_verdict] += 1
            for rule in label.rules:
                self._touch(rule, exchange)
            if friction is not None:
                self._touch("quarantined", exchange)
                self._annoyed(exchange, label, friction, better)
            elif label.verdict == "unjustified":
                self._stalled(exchange, label, better)
            else:
                self._kept(exchange, label)

    def finish(self) -> Built:
        """Everything, with the report."""
        built = self._built
        built.report = SurgeryReport(
            conversations=self._counts["conversations"],
            turns=self._counts["turns"],
            frictions=self._counts["frictions"],
            rules=dict(sorted(self._touched.items())),
            verdicts={
                str(self._options.classifier.stall_threshold): dict(self._strict["shipped"]),
                str(self._options.classifier.strict_threshold): dict(self._strict["strict"]),
            },
            left_out=self._counts["left_out"],
            sft=len(built.sft),
            gold=sum(record.quality.gold for record in built.sft),
            pairs=dict(sorted(Counter(str(p.tags.dpo_reason) for p in built.pairs).items())),
            eval_cases=len(built.evals),
        )
        return built

    def _touch(self, rule: str, exchange: Exchange) -> None:
        touched = self._touched.get(rule, Touched())
        self._touched[rule] = touched.with_turn(exchange, self._options.examples_shown)

    def _annoyed(
        self, exchange: Exchange, label: Label, friction: Friction, better: str | None
    ) -> None:
        if better is not None:
            weight = self._options.pairs.friction_weight
            self._pair(
                exchange,
                label,
                better,
                exchange.answer,
                "friction_repair",
                modes=modes_of(exchange.answer, label),
                weight=weight,
                confidence=friction.intensity,
                origin="corpus_surgery",
                observed=True,
            )
        identity = record_id("eval_case", exchange.key, "friction")
        self._built.evals.append(
            EvalCase(
                record_id=identity,
                **common_of(exchange, label, "corpus_surgery", self._options.history_chars),
                quality=Quality(
                    gold=False, weight=0.0, failure_modes=modes_of(exchange.answer, label)
                ),
                checks=checks_of(label),
                reference=Reference(answer=better),
            )
        )
        self._extra(identity, exchange, "friction", exchange.answer, friction.intensity)

    def _stalled(self, exchange: Exchange, label: Label, better: str | None) -> None:
        if better is None:
            self._counts["left_out"] += 1
            self._touch("left_out", exchange)
            return
        self._touch("rewritten", exchange)
        self._sft(exchange, label, better, "rewritten", "corpus_surgery", [])
        only_options = label.stall.options and not label.stall.permission
        reason = "option_spam" if only_options else "confirmation_reflex"
        self._pair(
            exchange,
            label,
            better,
            exchange.answer,
            reason,
            modes=label.stall.failure_modes,
            origin="corpus_surgery",
            observed=True,
        )
        self._broken_forms(exchange, label, better)

    def _kept(self, exchange: Exchange, label: Label) -> None:
        # Where the work was done, no question was needed, however unclear the request was.
        asked_rightly = label.verdict == "justified" and not label.exec
        modes = [] if asked_rightly else modes_of(exchange.answer, label)
        spoilt = bool(label.stall.refusals) or is_mock(exchange.answer)
        self._sft(exchange, label, exchange.answer, "kept", "human_corpus", modes, spoilt=spoilt)
        if modes or spoilt:
            self._touch("not_gold", exchange)
            return
        if label.stall.score:  # a question that was right to ask is no model of a direct answer
            return
        pairs = self._options.pairs
        may_ask = label.policy == "questions_allowed" or label.prompt_class == "blocked"
        if not may_ask and self._regenerated(exchange, label):
            pass  # the worse answer that was really given is better than one that is made up
        elif not may_ask and label.request.completeness >= pairs.reflex_from:
            worse = confirmation_reflex(exchange.user)
            self._pair(
                exchange,
                label,
                exchange.answer,
                worse,
                "confirmation_reflex",
                modes=["asked_permission", "ended_with_question"],
            )
        if not may_ask and label.request.completeness >= pairs.options_from:
            worse = option_spam(exchange.user)
            self._pair(
                exchange,
                label,
                exchange.answer,
                worse,
                "option_spam",
                modes=["option_spam", "ended_with_question"],
            )
        self._broken_forms(exchange, label, exchange.answer)

    def _regenerated(self, exchange: Exchange, label: Label) -> bool:
        """A pair with a stalling answer on another branch; whether there is one."""
        options = self._options.classifier
        for text in exchange.branches:
            stall = stall_of(text, options.quote_chars)
            work = exec_of(text, label.request.constraints)
            if work or not stall.phrases or stall.score < options.stall_threshold:
                continue
            only_options = stall.options and not stall.permission
            self._pair(
                exchange,
                label,
                exchange.answer,
                text,
                "option_spam" if only_options else "confirmation_reflex",
                modes=stall.failure_modes,
                observed=True,
                branch="regenerated",
            )
            return True
        return False

    def _broken_forms(self, exchange: Exchange, label: Label, good: str) -> None:
        """Pairs whose worse answer leaves something out, or has another form."""
        if label.request.must_not_omit:
            short = omission(good, self._options.pairs)
            if short is not None:
                self._pair(
                    exchange, label, good, short, "omission", modes=["omitted_required_content"]
                )
        if label.request.constraints.any:
            drifted = format_drift(good, label.request.constraints)
            if drifted is not None:
                self._pair(exchange, label, good, drifted, "format_drift", modes=["format_drift"])

    def _sft(
        self,
        exchange: Exchange,
        label: Label,
        text: str,
        rule: str,
        origin: Origin,
        modes: list[FailureMode],
        *,
        spoilt: bool = False,
    ) -> None:
        identity = record_id("sft_turn", exchange.key, rule)
        enhancement = "rewrite" if rule == "rewritten" else None
        self._built.sft.append(
            SftTurn(
                record_id=identity,
                **common_of(exchange, label, origin, self._options.history_chars),
                quality=Quality(gold=not modes and not spoilt, weight=1.0, failure_modes=modes),
                target=answer_of(text),
                tags=tags_of(label, enhancement_type=enhancement),
            )
        )
        self._extra(identity, exchange, rule)

    def _pair(
        self,
        exchange: Exchange,
        label: Label,
        better: str,
        worse: str,
        reason: str,
        *,
        modes: list[FailureMode],
        weight: float = 1.0,
        confidence: float | None = None,
        origin: Origin = "human_corpus",
        observed: bool = False,
        branch: str | None = None,
    ) -> None:
        """Adds a pair; ``observed``: the worse answer was really given."""
        if better.strip() == worse.strip():
            return
        identity = record_id("dpo_pair", exchange.key, reason)
        self._touch(f"pair_{reason}", exchange)
        self._built.pairs.append(
            DpoPair(
                record_id=identity,
                **common_of(exchange, label, origin, self._options.history_chars),
                quality=Quality(gold=True, weight=weight, failure_modes=modes),
                candidates=Candidates(preferred=answer_of(better), dispreferred=answer_of(worse)),
                tags=tags_of(label, dpo_reason=reason, branch_type=branch),
            )
        )
        rule = f"{reason}:{'observed' if observed else 'made'}"
        self._extra(identity, exchange, rule, None, confidence)

    def _extra(
        self,
        identity: str,
        exchange: Exchange,
        rule: str,
        observed: str | None = None,
        confidence: float | None = None,
    ) -> None:
        self._built.extras.append(
            Ctv3Extra(
                record_id=identity,
                conversation=exchange.conversation,
                turn=exchange.answer_id,
                rule=rule,
                observed=observed,
                confidence=confidence,
            )
        )
