"""Dialogs of the terminal: why a candidate is rejected, how it is edited, which keys there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static, TextArea

from tracetune.errors import TracetuneError
from tracetune.records import ReviewItem
from tracetune.review.corrections import CorrectionError
from tracetune.review.items import Correction
from tracetune.review.texts import harmless, request_of, restored, words_of

REASONS = (
    "the answer is wrong",
    "people do not write like this",
    "more than one answer fits",
    "it says too little to choose",
    "it is too much like another one",
)
"""Reasons behind the keys 1, 2 … Whoever writes the candidate anew reads them."""
PAIR_REASON = "the worse answer is not worse"
"""One more for pairs."""

_NAMES = {"request": "Request", "answer": "Answer", "rejected": "Worse answer"}

HELP = """\
a      approve it as it is
r      reject it; asks why
e      edit request or answer; what you accept is approved
s      skip it; it stays open
u      take back your last decision
← →    the one before, the next one
↑ ↓    scroll
q      quit; the next start goes on here

Every decision is on the disk before the next candidate is shown.
A decided candidate can be decided anew in the same way.

Esc or Enter closes this."""


class ReasonDialog(ModalScreen[str | None]):
    """Asks why a candidate is rejected; gives the words, or None.

    Args:
        pair: The candidate has a worse answer.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, *, pair: bool) -> None:
        super().__init__()
        self._reasons = (*REASONS, PAIR_REASON) if pair else REASONS

    def compose(self) -> ComposeResult:
        """The quick reasons and a line to type in."""
        with Vertical(classes="dialog"):
            yield Label("Why is it rejected?", classes="heading")
            listed = (f"{number}  {reason}" for number, reason in enumerate(self._reasons, start=1))
            yield Static(Content("\n".join(listed)))
            yield Input(placeholder=f"1 to {len(self._reasons)}, or your own words", compact=True)
            yield Static("", classes="problem")
            yield Static("Enter rejects   Esc goes back", classes="keys")

    def on_mount(self) -> None:
        """The line has the focus."""
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """A digit as the first thing typed picks a reason."""
        for number, reason in enumerate(self._reasons, start=1):
            if event.value == str(number):
                self.dismiss(reason)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Words are needed."""
        words = event.value.strip()
        if words:
            self.dismiss(words)
        else:
            problem = "A reason is needed: whoever writes it anew reads it."
            self.query_one(".problem", Static).update(Content(problem))

    def action_leave(self) -> None:
        """Nothing is rejected."""
        self.dismiss(None)


class EditDialog(ModalScreen[Correction | None]):
    """Edits a candidate; gives the checked correction, or None.

    Args:
        written: The candidate as it was written.
        shown: The candidate with earlier corrections.
        check: Checks a correction; raises what is wrong with it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("ctrl+s,f2", "accept", show=False, priority=True),
    ]

    def __init__(
        self,
        written: ReviewItem,
        shown: ReviewItem,
        check: Callable[[Correction], Correction | None],
    ) -> None:
        super().__init__()
        self._written = _parts(written)
        # Control characters must not reach the terminal: their pictures are edited in their place.
        self._shown = {name: harmless(text) for name, text in _parts(shown).items()}
        self._kept = _parts(shown)
        self._check = check

    def compose(self) -> ComposeResult:
        """A field for each part."""
        with Vertical(classes="dialog wide"):
            yield Label("Edit and approve", classes="heading")
            for part, text in self._shown.items():
                yield Label(f"  {_NAMES[part]}", classes="part", id=f"name-{part}")
                yield TextArea(text, id=part, compact=True, highlight_cursor_line=False)
            yield Static("", classes="problem")
            yield Static("Ctrl+S (or F2) approves   Tab next field   Esc goes back", classes="keys")

    def on_descendant_focus(self) -> None:
        """Marks the field in which the keys arrive; without colours little else shows it."""
        for part in self._shown:
            mark = "▸" if self.query_one(f"#{part}", TextArea).has_focus else " "
            self.query_one(f"#name-{part}", Label).update(f"{mark} {_NAMES[part]}")

    def on_mount(self) -> None:
        """The first field has the focus; what is typed goes to the end of a field."""
        for area in self.query(TextArea):
            area.move_cursor(area.document.end)
        self.query_one("#request", TextArea).focus()

    def action_leave(self) -> None:
        """Nothing is changed."""
        self.dismiss(None)

    def action_accept(self) -> None:
        """The correction if it can be taken; else why not."""
        texts = {}
        for part, shown in self._shown.items():
            text = self.query_one(f"#{part}", TextArea).text
            kept = self._kept[part]
            texts[part] = kept if text == shown else restored(text, kept)
        # Parts that are as they were written are no correction.
        changed = {part: text for part, text in texts.items() if text != self._written[part]}
        try:
            correction = self._check(Correction(**changed)) if changed else None
        except TracetuneError as error:
            problem = f"{error.what}; {error.remedy}"
            self.query_one(".problem", Static).update(Content(harmless(problem)))
            if isinstance(error, CorrectionError):
                self.query_one(f"#{error.part}", TextArea).focus()
            return
        self.dismiss(correction or Correction())


class HelpDialog(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,question_mark", "leave", show=False)
    ]

    def compose(self) -> ComposeResult:
        """The list of keys."""
        with Vertical(classes="dialog wide"):
            yield Label("Keys", classes="heading")
            yield Static(Content(HELP))

    def action_leave(self) -> None:
        """Closes it."""
        self.dismiss(None)


def _parts(item: ReviewItem) -> dict[str, str]:
    parts = {"request": request_of(item), "answer": words_of(item.answer)}
    if item.rejected is not None:
        parts["rejected"] = words_of(item.rejected)
    return parts
