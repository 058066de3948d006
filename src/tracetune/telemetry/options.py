"""Parameters of telemetry: which spans count, who decides, how long the windows are.

The defaults are those of the sample project and of source document 003 as corrected in
``docs/telemetry-rules.md``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tracetune.options import Options
from tracetune.outputs import OutputSpec


def _parse_moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write for example 2026-03-01T00:00:00Z")
    return moment.astimezone(UTC)


def _moment(text: str) -> str:
    _parse_moment(text)
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _label(text: str) -> str:
    return _not_blank(text).strip().lower()


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"a name stands there twice: {list(names)}")
    return names


Name = Annotated[str, AfterValidator(_not_blank)]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_distinct)]
Outcomes = Annotated[
    tuple[Annotated[str, AfterValidator(_label)], ...],
    Field(min_length=1),
    AfterValidator(_distinct),
]


class SpanOptions(Options):
    """Which spans are units of training."""

    name: Name = Field("routing_agent", description="Exact name of the span.")
    kind: Name = Field("AGENT", description="Span kind; compared without regard to case.")


class TurnOptions(Options):
    """Which root spans are the turns of a conversation."""

    name: Name = Field("chat_turn", description="Exact name of the root span of one turn.")


class LabelOptions(Options):
    """Labels that are verdicts, compared stripped and in lower case."""

    approved: Annotated[str, AfterValidator(_label)] = Field("approved", description="Good.")
    rejected: Annotated[str, AfterValidator(_label)] = Field("rejected", description="Bad.")

    @model_validator(mode="after")
    def _differ(self) -> LabelOptions:
        if self.approved == self.rejected:
            raise ValueError(f"approved and rejected are the same label {self.approved!r}")
        return self


class VerdictOptions(Options):
    """Which annotations decide."""

    names: Names = Field(
        ("human_approval",), description="Names of the annotations that are approvals."
    )
    kinds: Names = Field(
        ("HUMAN",), description="Annotator kinds that decide: HUMAN, LLM, CODE; any case."
    )
    labels: LabelOptions = Field(LabelOptions(), description="Labels that are verdicts.")
    threshold: float = Field(
        0.5, description="Without a label: a score of at least this approves, below it rejects."
    )
    correction_key: Name = Field(
        "corrected_output", description="Metadata key: what the span should have said."
    )
    rejected_key: Name = Field(
        "rejected_output", description="Metadata key: another answer that was rejected."
    )

    @model_validator(mode="after")
    def _keys_differ(self) -> VerdictOptions:
        if self.correction_key == self.rejected_key:
            raise ValueError(f"correction_key and rejected_key are both {self.rejected_key!r}")
        return self


class SearchSpanOptions(Options):
    """Which spans are searches."""

    name: Name = Field("search_service", description="Exact name of the span.")
    kind: Name = Field("RETRIEVER", description="Span kind; compared without regard to case.")


class DocumentAnnotationOptions(Options):
    """What annotations of single documents in the results of a search say.

    A label that is none of these says nothing, whatever the score; the score counts where there is
    no label.
    """

    name: Name = Field("relevance", description="Name of the annotation of a document.")
    relevant: Outcomes = Field(("relevant",), description="Labels of a document that answers.")
    irrelevant: Outcomes = Field(
        ("irrelevant", "unrelated"), description="Labels of a document that does not."
    )
    threshold: float = Field(
        0.5, description="Without a label: a score of at least this is relevant, below it is not."
    )

    @model_validator(mode="after")
    def _labels_differ(self) -> DocumentAnnotationOptions:
        both = sorted(set(self.relevant) & set(self.irrelevant))
        if both:
            raise ValueError(f"a label is both relevant and irrelevant: {both}")
        return self


class SearchOptions(Options):
    """How searches and what people did with their results become triplets.

    Who decides is stated once, for all feedback: ``verdicts.kinds``.
    """

    span: SearchSpanOptions = Field(SearchSpanOptions(), description="Which spans are searches.")
    click: Name = Field(
        "result_click", description="Annotation: somebody opened the document. Always positive."
    )
    relevance: Name = Field(
        "result_relevance", description="Annotation: somebody scored the document."
    )
    threshold: float = Field(
        0.7, description="A relevance score of at least this is positive, below it negative."
    )
    id_key: Name = Field(
        "result_id",
        description="Metadata key with the id of the document; without it the identifier of the "
        "annotation is read as <annotation name>:<document id>.",
    )
    strategy: Literal["top_k", "above_threshold", "random_sampling"] = Field(
        "top_k",
        description="Which documents nobody wanted become negatives: the first ones as ranked, "
        "the first ones that score above the median of all of them, or some drawn with the seed.",
    )
    negatives: int = Field(2, ge=1, le=100, description="Most negatives per positive document.")
    document_annotation: DocumentAnnotationOptions = Field(
        DocumentAnnotationOptions(),
        description="Annotations of documents, from which a set of triplets of its own is made.",
    )

    @model_validator(mode="after")
    def _names_differ(self) -> SearchOptions:
        if self.click == self.relevance:
            raise ValueError(f"click and relevance are both named {self.click!r}")
        return self


class SessionOptions(Options):
    """Which sessions become conversations that a model is trained on."""

    min_turns: int = Field(2, ge=1, description="Sessions with fewer turns are left out.")
    annotation: Name = Field(
        "session_evaluation",
        description="Name of the annotation by which a person says how a session went.",
    )
    outcomes: Outcomes | None = Field(
        None, description="Only sessions with one of these outcomes; null: all, also without one."
    )
    min_score: float | None = Field(
        None, description="Only sessions with at least this score; null: all, also without one."
    )
    require_evaluation: bool = Field(False, description="Leave out sessions that nobody evaluated.")
    system_prompt: Name | None = Field(
        "You are a helpful assistant.", description="System turn of every row; null: none."
    )


class WindowOptions(Options):
    """Half-open windows on the start time of a span, counted back from the anchor (UTC)."""

    train_days: int = Field(
        30, ge=1, le=3650, description="Training starts this many days before the anchor."
    )
    test_days: int = Field(
        7, ge=1, le=3649, description="Test starts this many days before the anchor."
    )

    @model_validator(mode="after")
    def _order(self) -> WindowOptions:
        if self.test_days >= self.train_days:
            raise ValueError(
                f"test_days ({self.test_days}) must be smaller than train_days "
                f"({self.train_days}): training is what lies before the test window"
            )
        return self


class Windows(Options):
    """The windows of one run: train = [train_start, test_start), test = [test_start, end)."""

    train_start: datetime
    test_start: datetime
    end: datetime


class TelemetryOptions(Options):
    """Everything that decides which telemetry becomes which rows.

    The key of the server is not here: it belongs to ``conf/local/credentials.yml``.
    """

    source: Literal["snapshot", "phoenix"] = Field(
        "snapshot", description="Read the kept snapshot, or a live Phoenix server first."
    )
    url: Name = Field(
        "http://127.0.0.1:6006", description="Address of the Phoenix server; used by phoenix only."
    )
    project: Name = Field("demo", description="Name of the Phoenix project.")
    anchor: Annotated[str, AfterValidator(_moment)] | None = Field(
        None,
        description="End of the test window (ISO time with zone). None: the first UTC midnight "
        "after the newest span, as written in the snapshot.",
    )
    read_days: int = Field(
        40, ge=1, le=3650, description="Days before the anchor that are read from the server."
    )
    agent_type: Name = Field(
        "routing",
        description="Kind of agent: one of _agent_types in the configuration, which gives span, "
        "instruction and output. It follows from the name of the run.",
    )
    span: SpanOptions = Field(SpanOptions(), description="Which spans are units.")
    turn_span: TurnOptions = Field(TurnOptions(), description="Which spans are turns.")
    instruction: Name = Field(
        "Route the request to the agent that should answer it. "
        'Reply with one JSON object: {"agent": "<name>"}.',
        description="System turn of every row.",
    )
    output: OutputSpec = Field(
        OutputSpec(), description="Schema of the agent's output, and how it is judged."
    )
    verdicts: VerdictOptions = Field(VerdictOptions(), description="Which annotations decide.")
    max_chars: int = Field(
        20_000, ge=1, description="Longest prompt or output that is used, in characters."
    )
    sessions: SessionOptions = Field(
        SessionOptions(), description="Which sessions become conversations."
    )
    windows: WindowOptions = Field(WindowOptions(), description="Training and test windows.")
    search: SearchOptions = Field(SearchOptions(), description="Searches and their feedback.")

    @model_validator(mode="after")
    def _read_covers_windows(self) -> TelemetryOptions:
        if self.read_days < self.windows.train_days:
            raise ValueError(
                f"read_days ({self.read_days}) is smaller than windows.train_days "
                f"({self.windows.train_days}): part of the training window would not be read"
            )
        return self

    def windows_at(self, anchor: datetime | str) -> Windows:
        """The windows for a snapshot with this anchor time.

        Args:
            anchor: ``anchor`` of the snapshot manifest; aware, or ISO text with a zone.
        """
        moment = _parse_moment(anchor if isinstance(anchor, str) else anchor.isoformat())
        return Windows(
            train_start=moment - timedelta(days=self.windows.train_days),
            test_start=moment - timedelta(days=self.windows.test_days),
            end=moment,
        )
