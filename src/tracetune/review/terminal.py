"""Review in the terminal: one candidate at a time, with the keyboard alone.

Works in 80 columns and 24 lines, over SSH and without colours. Import it only where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tracetune.errors import TracetuneError
from tracetune.review.corrections import difference
from tracetune.review.dialogs import EditDialog, HelpDialog, ReasonDialog
from tracetune.review.items import OPEN, Correction, ReviewedItem
from tracetune.review.pages import candidate_page, end_page, progress_bar
from tracetune.review.store import ReviewStore
from tracetune.review.texts import harmless

KEYS = "a approve  r reject  e edit  s skip  u undo  ←→ move  ? help  q quit"


class ReviewApp(App[None]):
    """The screen.

    Args:
        store: The review.
        title: Whose review it is.
        who: The reviewer.
        now: Gives the time.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #title, #progress, #keys { height: 1; padding: 0 1; }
    #message { height: auto; min-height: 1; max-height: 3; padding: 0 1; }
    #title { text-style: bold; }
    #page { height: 1fr; padding: 1 1 0 1; }
    #page > Static { height: auto; }
    #keys { text-style: reverse; }
    ModalScreen { align: center middle; }
    .dialog { width: 60; height: auto; padding: 0 1; border: round ansi_cyan; }
    .dialog { max-width: 100%; max-height: 100%; overflow-y: auto; }
    .wide { width: 76; }
    .heading { text-style: bold; padding-bottom: 1; }
    .part { color: ansi_cyan; }
    .problem { text-style: bold; color: ansi_red; height: auto; max-height: 3; }
    .keys { color: ansi_cyan; }
    .dialog TextArea { height: auto; min-height: 2; max-height: 4; border-left: thick ansi_cyan; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "approve"),
        Binding("r", "reject"),
        Binding("e", "edit"),
        Binding("s", "skip"),
        Binding("u", "undo"),
        Binding("left", "move(-1)"),
        Binding("right", "move(1)"),
        Binding("up", "scroll(-1)"),
        Binding("down", "scroll(1)"),
        Binding("question_mark", "help"),
        Binding("q,ctrl+c,ctrl+q", "quit", priority=False),
    ]

    def __init__(self, store: ReviewStore, *, title: str, who: str, now: Callable[[], str]) -> None:
        super().__init__(ansi_color=True)
        self._store = store
        self._heading = title
        self._who = who
        self._now = now
        self._items: list[ReviewedItem] = []
        self._current: str | None = None
        self._skipped: set[str] = set()

    def compose(self) -> ComposeResult:
        """Head, candidate, message, keys."""
        yield Static(id="title")
        yield Static(id="progress")
        with VerticalScroll(id="page", can_focus=False):
            yield Static(id="candidate")
        yield Static(id="message")
        yield Static(Content(KEYS), id="keys")

    def on_mount(self) -> None:
        """Starts at the first candidate that waits."""
        self._reload()
        self._current = self._next_open(-1)
        self._show("")

    def on_resize(self) -> None:
        """The bar is as wide as the screen."""
        if self._items:
            self._show(None)

    def action_approve(self) -> None:
        """Approves the candidate as it is shown."""
        shown = self._shown()
        if shown is not None:
            self._decide(shown, True, correction=difference(shown.item, shown.final))

    @work
    async def action_reject(self) -> None:
        """Asks why, then rejects."""
        shown = self._shown()
        if shown is None:
            return
        why = await self.push_screen_wait(ReasonDialog(pair=shown.item.rejected is not None))
        if why is not None:
            self._decide(shown, False, why=why)

    @work
    async def action_edit(self) -> None:
        """Edits and approves."""
        shown = self._shown()
        if shown is None:
            return
        item = shown.item
        check = partial(self._store.check, item)
        correction = await self.push_screen_wait(EditDialog(item, shown.final, check))
        if correction is not None:
            self._decide(shown, True, correction=correction)

    def action_skip(self) -> None:
        """Leaves the candidate open."""
        shown = self._shown()
        if shown is not None and shown.state in OPEN:
            self._skipped.add(shown.item.id)
            self._go_on("skipped; it stays open")

    def action_undo(self) -> None:
        """Takes back the reviewer's last decision and shows that candidate."""
        try:
            undone = self._store.undo(self._who, "terminal", self._now())
        except TracetuneError as error:
            self._problem(error)
            return
        self._current = undone.item.id
        self._skipped.discard(undone.item.id)
        self._reload()
        self._show("taken back")

    def action_move(self, step: int) -> None:
        """Shows the candidate before or after this one."""
        self._reload()
        if not self._items:
            return
        position = self._position()
        if position is None:
            position = len(self._items) if step < 0 else -1
        position = min(max(position + step, 0), len(self._items) - 1)
        self._current = self._items[position].item.id
        self._show("")

    def action_scroll(self, step: int) -> None:
        """Scrolls a long candidate."""
        self.query_one("#page").scroll_relative(y=step, animate=False)

    def action_help(self) -> None:
        """Lists the keys."""
        self.push_screen(HelpDialog())

    def _shown(self) -> ReviewedItem | None:
        position = self._position()
        return None if position is None else self._items[position]

    def _position(self) -> int | None:
        for position, item in enumerate(self._items):
            if item.item.id == self._current:
                return position
        return None

    def _decide(
        self,
        shown: ReviewedItem,
        approved: bool,
        *,
        why: str = "",
        correction: Correction | None = None,
    ) -> None:
        try:
            self._store.decide(
                shown.item.id,
                approved,
                who=self._who,
                place="terminal",
                at=self._now(),
                why=why,
                correction=correction,
                seen=shown.seq,
            )
        except TracetuneError as error:
            self._problem(error)
            return
        self._skipped.discard(shown.item.id)
        self._go_on(("approved" if approved else "rejected") + "; u takes it back")

    def _problem(self, error: TracetuneError) -> None:
        self._reload()
        self._show(f"{error.what}; {error.remedy}" if error.remedy else error.what)
        self.bell()

    def _go_on(self, message: str) -> None:
        before = self._position()
        self._reload()
        self._current = self._next_open(-1 if before is None else before)
        self._show(message)

    def _reload(self) -> None:
        """All candidates that can be decided, the least sure first; the order never changes."""
        found = self._store.items()
        last = {item.item.root: item.item.attempt for item in found}
        for item in found:
            last[item.item.root] = max(last[item.item.root], item.item.attempt)
        self._items = sorted(
            (item for item in found if item.item.attempt == last[item.item.root]),
            key=lambda item: item.item.confidence,
        )

    def _next_open(self, position: int) -> str | None:
        """The next candidate that waits and was not skipped, from the start again after the end."""
        for item in self._items[position + 1 :] + self._items[: position + 1]:
            if item.state in OPEN and item.item.id not in self._skipped:
                return item.item.id
        return None

    def _show(self, message: str | None) -> None:
        """Draws everything; None leaves the message."""
        width = self.size.width - 2
        position, shown = self._position(), self._shown()
        where = f"{position + 1} of {len(self._items)}" if position is not None else "the end"
        left = f"{self._heading} · {self._who}"
        self.query_one("#title", Static).update(Content(f"{left}{where:>{width - len(left)}}"))
        self.query_one("#progress", Static).update(progress_bar(self._items, width))
        page = (
            candidate_page(shown, self._store.earlier(shown.item))
            if shown is not None
            else end_page(self._items, len(self._skipped))
        )
        self.query_one("#candidate", Static).update(page)
        if message is not None:
            self.query_one("#page").scroll_home(animate=False)
            self.query_one("#message", Static).update(Content(harmless(message)))


def review(store: ReviewStore, *, title: str, who: str, now: Callable[[], str]) -> None:
    """Runs the review until the reviewer quits.

    Args:
        store: The review; it holds candidates.
        title: Whose review it is.
        who: The reviewer.
        now: Gives the time as ISO text.
    """
    ReviewApp(store, title=title, who=who, now=now).run(mouse=False)
