"""What the program that asks knows about where the user is: the repository, the branch, the PR.

It resolves "this pr" and "my branch". The block of lines is that of domain reference B3, only lines
of what is known.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from tracetune.cli_schema.schema import Argument, Phrase, Place


class GitContext(BaseModel):
    """Where the user is in a repository; what is not known is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repo_owner: Phrase | None = Field(None, description="Owner of the repository.")
    repo_name: Phrase | None = Field(None, description="Name of the repository.")
    current_branch: Phrase | None = Field(None, description="Branch that is checked out.")
    current_pr: StrictInt | None = Field(
        None, ge=1, description="Number of the branch's pull request."
    )
    has_uncommitted_changes: StrictBool | None = Field(None, description="Changed files.")
    has_staged_changes: StrictBool | None = Field(None, description="Files added to the index.")


class Context(BaseModel):
    """What is known when a request is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    git: GitContext = Field(description="The repository.")

    def lines(self) -> list[str]:
        """The block that stands before the request; empty if nothing is known."""
        git = self.git
        found = []
        if git.repo_owner and git.repo_name:
            found.append(f"repo: {_line(git.repo_owner)}/{_line(git.repo_name)}")
        if git.current_branch:
            found.append(f"branch: {_line(git.current_branch)}")
        if git.current_pr is not None:
            found.append(f"pr: #{git.current_pr}")
        for name, value in (
            ("uncommitted", git.has_uncommitted_changes),
            ("staged", git.has_staged_changes),
        ):
            if value is not None:
                found.append(f"{name}: {'yes' if value else 'no'}")
        return found

    def plain(self) -> dict[str, Any]:
        """As JSON values, without what is not known."""
        return self.model_dump(exclude_none=True)


def _line(text: str) -> str:
    """A text in one line, so that nothing in it can pass for another line of the block."""
    return " ".join(text.split())


_PULL_REQUEST = (
    "pr",
    "prs",
    "pull",
    "pulls",
    "pull-request",
    "pull_request",
    "merge-request",
    "mr",
)
_NUMBER = ("number", "pr", "pr-number", "id", "pull-request", "pull")
_BRANCH = ("branch", "head", "ref")
_REPOSITORY = ("repository", "repo")


def resolved_by(place: Place, argument: Argument) -> str | None:
    """What in a context gives the value of an argument when the user says "this".

    Returns:
        ``current_pr``, ``current_branch``, ``repository`` (owner/name), or None.
    """
    name = argument.name.lower().replace("_", "-")
    names = {place.command, place.subcommand or "", *place.group.aliases}
    if argument.type == "integer" and name in _NUMBER:
        return "current_pr" if names & set(_PULL_REQUEST) else None
    if argument.type != "string":
        return None
    if name in _BRANCH:
        return "current_branch"
    return "repository" if name in _REPOSITORY else None
