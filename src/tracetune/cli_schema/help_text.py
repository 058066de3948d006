"""Asks a program for its help, and for nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}", re.IGNORECASE)
"""What may be a command: never an option, never anything that a shell would read."""

_MOST_BYTES = 200_000
_ENVIRONMENT = {
    "COLUMNS": "200",
    "NO_COLOR": "1",
    "PAGER": "cat",
    "MANPAGER": "cat",
    "TERM": "dumb",
}


@dataclass
class HelpAsker:
    """Runs ``--help`` and counts.

    Attributes:
        program: Path of the program.
        left: Calls that may still be made.
        timeout: Seconds for one call.
    """

    program: str
    left: int
    timeout: float

    def help_of(self, words: Sequence[str]) -> str | None:
        """The help text of a command; None if there is none or no call is left.

        Args:
            words: Command and subcommand.
        """
        if self.left <= 0 or not all(NAME.fullmatch(word) for word in words):
            return None
        self.left -= 1
        output = self._output([self.program, *words, "--help"])
        text = (output or b"").decode("utf-8", "replace")
        text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|.\x08", "", text).replace("\t", "    ")
        return text if text.strip() else None

    def _output(self, command: list[str]) -> bytes | None:
        """What a command prints, its first part if that is long; None if it takes too long."""
        try:
            # A session of its own, so that the end reaches whatever the program starts.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,
            )
        except OSError:
            return None
        late = threading.Event()

        def stop() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(self.timeout, stop)
        timer.start()
        try:
            assert process.stdout is not None
            output = process.stdout.read(_MOST_BYTES)
        finally:
            timer.cancel()
            _kill(process)
            process.communicate()
        return None if late.is_set() else output


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
