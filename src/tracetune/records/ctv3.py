"""CTv3.1: the records of document 000's corpus (domain reference, E2), with their JSON Schema.

The fields are exactly those of the schema; what is known beyond them stands in a second file,
:class:`Ctv3Extra`, keyed by ``record_id``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, model_validator

from tracetune.records.base import Message, Record, Text, UtcTime

SCHEMA_VERSION: Literal["ctv3.1"] = "ctv3.1"

Origin = Literal["human_corpus", "repo_worm", "convo_worm", "enhancer_agent", "corpus_surgery"]
Provider = Literal["chatgpt", "claude", "openai", "gpt-5.2", "gpt-5.2-codex", "internal"]
Domain = Literal["code", "research", "planning", "ops", "mixed"]
QuestionPolicy = Literal["no_questions", "questions_if_required", "questions_allowed"]
TaskType = Literal[
    "rewrite",
    "implement",
    "debug",
    "explain",
    "refactor",
    "design",
    "evaluate",
    "respond",
    "complete",
    "test",
]
PromptClass = Literal["directive", "ambiguous", "open_ended", "blocked"]
ReviewStatus = Literal["auto", "human_verified", "rejected"]
FailureMode = Literal[
    "asked_permission",
    "ended_with_question",
    "omitted_required_content",
    "format_drift",
    "hallucinated_repo_facts",
    "option_spam",
]
UNIT = Field(ge=0, le=1, allow_inf_nan=False)
Unit = Annotated[float, UNIT]


class Ctv3Part(Record):
    """Base of all parts: names in JSON are those of the schema."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Ctv3Source(Ctv3Part):
    """Where a record came from."""

    origin: Origin
    provider: Provider
    source_id: Text = Field(min_length=1)
    created_at_utc: UtcTime | None


class Topology(Ctv3Part):
    """Where in its conversation the answer stands.

    Attributes:
        coords_5d: depth, sibling_order, homogeneity, temporal, complexity.
        phase_id: opening, context, solution, refinement, synthesis, conclusion.
    """

    coords_5d: list[Unit] = Field(default=[0.0, 0.0, 0.5, 0.5, 1.0], min_length=5, max_length=5)
    phase_id: int = Field(default=2, ge=0, le=5)
    homogeneity: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    depth_norm: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    sibling_order: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    temporal_norm: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    complexity: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)


class FormatConstraints(Ctv3Part):
    """What the user asked the answer to look like."""

    forbid_bullets: bool = False
    require_numbered: bool = False
    must_return_code: bool = False
    must_return_diff: bool = False
    must_return_json: bool = False

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return any(self.model_dump().values())


class Policy(Ctv3Part):
    """What an answer may and must do."""

    question_policy: QuestionPolicy = "no_questions"
    directive_completeness: float = Field(default=0.8, ge=0, le=1, allow_inf_nan=False)
    must_not_omit: list[Text] = Field(default_factory=list)
    format_constraints: FormatConstraints = FormatConstraints()


class Ctv3Context(Ctv3Part):
    """What the request is about."""

    domain: Domain
    language: Text
    topology: Topology = Topology()
    policy: Policy = Policy()


class Span(Ctv3Part):
    """Lines of a file, from 1, the last one included."""

    start_line: int = Field(ge=1)
    end_line: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if self.end_line < self.start_line:
            raise ValueError("end_line is before start_line")
        return self


class Ctv3Attachment(Ctv3Part):
    """A file, or a part of one, that belongs to the request."""

    type: Text = Field(min_length=1)
    repo: Text | None = None
    commit_sha: Text | None = None
    path: Text | None = None
    span: Span | None = None
    content: Text | None = None


class Ctv3Input(Ctv3Part):
    """The conversation up to the answer."""

    messages: list[Message] = Field(min_length=1)
    attachments: list[Ctv3Attachment] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Ctv3Input:
        roles = [message.role for message in self.messages]
        if "system" in roles[1:]:
            raise ValueError("a system turn stands first or not at all")
        if "user" not in roles:
            raise ValueError("there is no user turn")
        if roles[-1] not in ("user", "tool"):
            raise ValueError(f"the last turn is {roles[-1]!r}, expected 'user' or 'tool'")
        return self


class Structured(Ctv3Part):
    """Parts of an answer in a form that programs read."""

    diff_unified: Text | None = None
    json_value: JsonValue = Field(default=None, alias="json")
    plan_steps: list[Text] | None = None


class Answer(Ctv3Part):
    """One answer."""

    assistant_content: Text
    structured: Structured = Structured()

    @model_validator(mode="after")
    def _says_something(self) -> Answer:
        if not self.assistant_content.strip():
            raise ValueError("the answer is blank")
        return self


class Candidates(Ctv3Part):
    """The better and the worse answer."""

    preferred: Answer
    dispreferred: Answer

    @model_validator(mode="after")
    def _differ(self) -> Candidates:
        if self.preferred.assistant_content.strip() == self.dispreferred.assistant_content.strip():
            raise ValueError("preferred and dispreferred are the same: such a pair teaches nothing")
        return self


class Checks(Ctv3Part):
    """What an answer to an evaluation case must do and avoid."""

    expected_behaviors: list[Text] = Field(default_factory=list)
    disallowed_behaviors: list[Text] = Field(default_factory=list)
    disallowed_phrases: list[Text] = Field(default_factory=list)
    must_not_end_with_question: bool = True
    must_follow_format: Text | None = None


class Reference(Ctv3Part):
    """An answer that is known to be good; None where there is none."""

    answer: Text | None


class RepoTask(Ctv3Part):
    """What a task in a repository needs."""

    module: Text
    symbols: list[Text] = Field(default_factory=list)
    build_required: bool = False
    tests_required: bool = False


class Tags(Ctv3Part):
    """What kind of request it is, and how the record was made."""

    task_type: TaskType
    prompt_class: PromptClass
    repo_task: RepoTask | None = None
    dpo_reason: Text | None = None
    branch_type: Text | None = None
    enhancement_type: Text | None = None


class Quality(Ctv3Part):
    """How good a record is, and how much it counts."""

    gold: bool
    weight: float = Field(ge=0, allow_inf_nan=False)
    review_status: ReviewStatus = "auto"
    failure_modes: list[FailureMode] = Field(default_factory=list)


class _Common(Ctv3Part):
    schema_version: Literal["ctv3.1"] = SCHEMA_VERSION
    record_id: str = Field(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
    )
    source: Ctv3Source
    context: Ctv3Context
    input: Ctv3Input
    quality: Quality


class SftTurn(_Common):
    """A request and the answer it should get."""

    record_type: Literal["sft_turn"] = "sft_turn"
    target: Answer
    tags: Tags


class RepoTaskTurn(_Common):
    """A task in a repository and its solution; the project reads it and makes none."""

    record_type: Literal["repo_task"] = "repo_task"
    target: Answer
    tags: Tags


class DpoPair(_Common):
    """A request with a better and a worse answer; ``tags.dpo_reason`` says what is worse."""

    record_type: Literal["dpo_pair"] = "dpo_pair"
    candidates: Candidates
    tags: Tags


class EvalCase(_Common):
    """A request and what is checked of an answer to it; it is never trained on."""

    record_type: Literal["eval_case"] = "eval_case"
    checks: Checks
    reference: Reference

    @model_validator(mode="after")
    def _weightless(self) -> EvalCase:
        if self.quality.weight != 0:
            raise ValueError("the weight of an evaluation case is 0")
        return self


Ctv3Record = Annotated[
    SftTurn | RepoTaskTurn | DpoPair | EvalCase, Field(discriminator="record_type")
]
CTV3: TypeAdapter[SftTurn | RepoTaskTurn | DpoPair | EvalCase] = TypeAdapter(Ctv3Record)
"""Reads any record of the schema: ``CTV3.validate_json(line)``."""


class Ctv3Extra(Record):
    """What is known of a record beyond the schema.

    Attributes:
        record_id: Of the record.
        conversation: Group of its conversation; what must never be divided.
        turn: Id of the answer in the conversation.
        rule: What made the record: ``kept``, ``rewritten``, a reason of a pair, ``friction`` …
        observed: Of an evaluation case: the answer that failed in the conversation.
        confidence: Of a record made from friction: its intensity.
    """

    record_id: str
    conversation: Text
    turn: Text
    rule: Text
    observed: Text | None = None
    confidence: float | None = Field(default=None, ge=0, le=1)


def json_schema() -> dict[str, Any]:
    """JSON Schema of all records, told apart by ``record_type``."""
    return CTV3.json_schema(by_alias=True)


def check_extras(
    records: Iterable[SftTurn | RepoTaskTurn | DpoPair | EvalCase], extras: Iterable[Ctv3Extra]
) -> dict[str, Ctv3Extra]:
    """Extras by record id, one for each record.

    Raises:
        ValueError: A record has none, or an id stands twice.
    """
    found: dict[str, Ctv3Extra] = {}
    for extra in extras:
        if extra.record_id in found:
            raise ValueError(f"two extras for the record {extra.record_id}")
        found[extra.record_id] = extra
    for record in records:
        if record.record_id not in found:
            raise ValueError(f"no extra for the record {record.record_id}")
    return found
