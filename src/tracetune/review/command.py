"""What ``kedro review`` does and says."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tracetune.errors import ConfigurationError, DataError
from tracetune.privacy import find
from tracetune.review import places, spreadsheet
from tracetune.review.course import RULE
from tracetune.review.items import OPEN
from tracetune.review.options import ReviewOptions
from tracetune.review.store import ReviewStore
from tracetune.review.texts import harmless
from tracetune.runs import utc_now


@dataclass(frozen=True)
class Review:
    """One review, and how to name it on a command line.

    Attributes:
        store: Candidates and decisions.
        options: Where people review.
        tenant: Whose it is.
        name: What is trained.
        env: The environment of Kedro, if one was given.
    """

    store: ReviewStore
    options: ReviewOptions
    tenant: str
    name: str
    env: str | None

    @property
    def run_command(self) -> str:
        """The command that writes candidates and goes on when they are decided."""
        given = {"tenant": self.tenant, "name": self.name}
        return places.run_command("auto", given, env=self.env)

    def review_command(self, option: str = "") -> str:
        """What reviewers do."""
        return places.review_command(
            self.options, self.tenant, self.name, option=option, env=self.env
        )


def status(review: Review) -> list[str]:
    """How many candidates are in which state, and how it goes on."""
    counts = review.store.counts()
    total = sum(counts.values())
    if not total:
        return ["There are no candidates.", f"Some are written by: {review.run_command}"]
    open_ = sum(counts[state] for state in OPEN)
    approved = [f"{counts['approved']} approved"]
    if counts["auto_approved"]:
        approved.append(f"{counts['auto_approved']} approved by rule")
    lines = [
        f"{', '.join(approved)}, {counts['rejected']} rejected, {open_} open of {total} candidates "
        f"(approval rate {review.store.approval_rate():.0%})"
    ]
    if review.options.place == "phoenix":
        project = review.options.project_of(review.tenant, review.name)
        lines.append(
            f"In Phoenix: project {project} at {review.options.url}; what was annotated there "
            "since the last run is not counted yet"
        )
    if open_:
        lines.append(f"Decide about them: {review.review_command()}")
    lines.append(f"Go on:             {review.run_command}")
    return lines


def export(review: Review, path: Path) -> list[str]:
    """Writes the spreadsheet."""
    _refuse_empty(review)
    try:
        count = spreadsheet.export(review.store, path)
    except OSError as error:
        raise DataError(
            f"it cannot be written ({error.strerror})",
            where=str(path),
            remedy="check the folder and its permissions",
        ) from None
    return [
        f"{count} candidates are in {path}",
        "Fill in the columns decision (approved or rejected), reason and corrected_..., save it as "
        "CSV UTF-8, then:",
        f"  {review.review_command(f'--import={path}')}",
    ]


def import_file(review: Review, path: Path, who: str | None) -> list[str]:
    """Takes the decisions of a spreadsheet."""
    _refuse_empty(review)
    found = spreadsheet.import_decisions(review.store, path, who=reviewer(who), at=utc_now())
    first = f"{found.decided} decisions taken from {path}"
    if found.unchanged:
        first += f", {found.unchanged} were taken before"
    if found.empty:
        first += f", {found.empty} rows have none"
    return [first, *status(review)]


def in_terminal(review: Review, who: str | None) -> list[str]:
    """Reviews in the terminal until the reviewer quits."""
    _refuse_empty(review)
    name = reviewer(who)
    plain = os.environ.get("TERM", "dumb") == "dumb"
    if plain or not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise ConfigurationError(
            "this is no terminal in which candidates could be shown",
            where="kedro review",
            remedy="run it in a terminal, or use --status, or --export=FILE and --import=FILE",
        )
    from tracetune.review.terminal import review as show

    show(review.store, title=f"{review.tenant}/{review.name}", who=name, now=utc_now)
    return status(review)


def reviewer(who: str | None) -> str:
    """The name under which decisions are kept.

    Args:
        who: As given; None: the login name.

    Raises:
        ConfigurationError: If there is none, or it holds personal data.
    """
    if who is None:
        try:
            who = getpass.getuser()
        except (OSError, KeyError):
            who = ""
    name = who.strip()
    problem = ""
    if not name:
        problem = "there is no name of a reviewer"
    elif find(name):
        problem = "the name of the reviewer holds an address, a number or a key"
    elif harmless(name) != name or "\n" in name or name == RULE:
        problem = "this cannot be the name of a reviewer"
    if problem:
        raise ConfigurationError(problem, where="--who", remedy="give a plain name: --who=ada")
    return name


def _refuse_empty(review: Review) -> None:
    if not review.store.items():
        raise DataError(
            "there are no candidates to review",
            where=f"tenant {review.tenant!r}, name {review.name!r}",
            remedy=f"have some written: {review.run_command}",
        )
