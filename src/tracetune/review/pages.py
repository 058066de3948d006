"""What the terminal shows of a candidate. Texts of candidates are text, never markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tracetune.records import ReviewItem
from tracetune.review.items import ACCEPTED, OPEN, ReviewedItem
from tracetune.review.texts import harmless, one_line, request_of, words_of

_NEAREST_WIDTH = 160


def candidate_page(shown: ReviewedItem, earlier: Sequence[ReviewedItem]) -> Table:
    """One candidate with everything that helps to decide.

    Args:
        shown: The candidate; what was corrected is shown in its corrected form.
        earlier: Its earlier writings, which were rejected.
    """
    item = shown.final
    page = Table.grid(padding=(0, 1))
    page.add_column(width=11, no_wrap=True)
    # Answers are JSON without spaces: folded, never cut.
    page.add_column(ratio=1, overflow="fold")
    for turn in item.prompt[1 if item.prompt[0].role == "system" else 0 : -1]:
        _row(page, turn.role.capitalize(), turn.content, "dim")
    _row(page, "Request", request_of(item), "bold")
    _row(page, "Answer", words_of(item.answer), "bold green")
    if item.rejected is not None:
        _row(page, "Worse", words_of(item.rejected), "bold red")
        if item.rejected_why:
            _row(page, "", f"because {item.rejected_why}", "")
    for attempt in earlier:
        words = f"{attempt.who or 'nobody'}: {attempt.why}"
        _row(page, "Rejected", f"{one_line(request_of(attempt.item), 60)} ({words})", "yellow")
    if shown.state not in OPEN:
        _row(page, "Decision", _decision(shown), "magenta")
    page.add_row()
    _row(page, "Written for", _origin(item), "")
    for number, near in enumerate(item.nearest):
        text = f"{near.similarity:4.0%}  {one_line(near.text, _NEAREST_WIDTH)}"
        answer = one_line(near.answer, _NEAREST_WIDTH)
        _row(page, "" if number else "Real rows", f"{text} → {answer}", "")
    if not item.nearest:
        _row(page, "Real rows", "none is like it", "dim")
    return page


def end_page(items: Sequence[ReviewedItem], skipped: int) -> Text:
    """What is shown when nothing is left to decide.

    Args:
        items: All candidates.
        skipped: Open ones that the reviewer skipped.
    """
    accepted = sum(item.state in ACCEPTED for item in items)
    lines = [f"{accepted} of {len(items)} candidates are approved."]
    if skipped:
        lines += [
            f"{skipped} were skipped and stay open.",
            "",
            "← and → go back to them, q quits.",
        ]
    else:
        lines += ["Everything is decided.", "", "u takes back your last decision, q quits."]
    return Text("\n".join(lines))


def progress_bar(items: Sequence[ReviewedItem], width: int) -> Text:
    """Decided and open candidates as a bar with counts."""
    open_ = sum(item.state in OPEN for item in items)
    accepted = sum(item.state in ACCEPTED for item in items)
    rejected = len(items) - open_ - accepted
    counts = f" {accepted} approved  {rejected} rejected  {open_} open"
    room = max(width - len(counts) - 1, 4)
    share = (len(items) - open_) / len(items) if items else 1.0
    full = int(room * share)
    bar = Text()
    bar.append("█" * full, "green")
    bar.append("░" * (room - full), "dim")
    bar.append(counts)
    return bar


def _row(page: Table, name: str, text: str, style: str) -> None:
    page.add_row(Text(name, "cyan"), Text(harmless(text).expandtabs(4), style))


def _origin(item: ReviewItem) -> str:
    parts = [item.cell or "anything", f"confidence {item.confidence:.2f}"]
    if item.attempt:
        parts.append(f"attempt {item.attempt + 1}")
    return " · ".join([*parts, f"by {item.written_by}"])


def _decision(shown: ReviewedItem) -> str:
    words = f": {shown.why}" if shown.why else ""
    changed = " with changes" if shown.final != shown.item else ""
    when = f", {shown.at:%Y-%m-%d %H:%M} UTC" if shown.at else ""
    return f"{shown.state.replace('_', ' ')}{changed} by {shown.who}{when}{words}"
