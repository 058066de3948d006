"""Parameters of the review of synthetic rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tracetune.options import Options


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _label(text: str) -> str:
    return _not_blank(text).strip().lower()


def _template(text: str) -> str:
    missing = [part for part in ("<tenant>", "<name>") if part not in text]
    if missing:
        raise ValueError(f"lacks {' and '.join(missing)}: two reviews would share one project")
    if set(text) & set("/?#"):
        raise ValueError("holds one of / ? #; Phoenix cannot find such a project by its name")
    return text


Name = Annotated[str, AfterValidator(_not_blank)]
Label = Annotated[str, AfterValidator(_label)]


class ReviewOptions(Options):
    """Where people approve candidates, and what a rule may approve."""

    place: Literal["terminal", "phoenix"] = Field(
        "terminal",
        description="terminal: kedro review, spreadsheets included. phoenix: candidates also go to "
        "a project of a Phoenix server and verdicts are read from there.",
    )
    auto_approve: bool = Field(
        False, description="Approve new candidates by their confidence, without a person."
    )
    threshold: float = Field(
        0.85, ge=0, le=1, description="Confidence from which auto_approve approves."
    )
    max_attempts: int = Field(
        2, ge=0, description="How often a rejected candidate is written anew."
    )
    url: Name = Field("http://127.0.0.1:6006", description="Address of the Phoenix server.")
    project: Annotated[str, AfterValidator(_template)] = Field(
        "<tenant>-<name>-review",
        description="Project of the candidates; never the project that telemetry is read from.",
    )
    names: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        ("human_approval",), description="Names of the annotations that decide."
    )
    approved_label: Label = Field("approved", description="Label that approves, in any case.")
    rejected_label: Label = Field("rejected", description="Label that rejects, in any case.")
    correction_key: Name = Field(
        "corrected_output", description="Metadata key: what the answer should have been."
    )

    @model_validator(mode="after")
    def _differ(self) -> ReviewOptions:
        if self.approved_label == self.rejected_label:
            raise ValueError(f"both labels are {self.approved_label!r}")
        return self

    def project_of(self, tenant: str, name: str) -> str:
        """The Phoenix project of one review.

        A dash within tenant or name is doubled, so that no two reviews have the same project.
        """
        parts = {"<tenant>": tenant.replace("-", "--"), "<name>": name.replace("-", "--")}
        return self.project.replace("<tenant>", parts["<tenant>"]).replace(
            "<name>", parts["<name>"]
        )
