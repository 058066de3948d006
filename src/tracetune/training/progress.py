"""One progress bar per training."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def bar(title: str, total: int, start: int = 0) -> Iterator[Callable[..., None]]:
    """Shows a bar on standard error and yields a function that advances it.

    The yielded function takes ``steps`` (default 1) and numbers to show behind the bar. Without a
    terminal only the first and the last line are written, so that log files stay short.

    Args:
        title: What is going on.
        total: Number of steps.
        start: Steps that were done before (a continued run).
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
        console=Console(file=sys.stderr),
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with progress:
        task = progress.add_task(title, total=total, completed=start, values="")

        def advance(steps: int = 1, **values: Any) -> None:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
            progress.update(task, advance=steps, values=shown)

        yield advance
