"""A real terminal of 80 by 24 in which ``kedro review`` runs."""

from __future__ import annotations

import time

import pexpect
import pyte

from tests.project import Project


class Terminal:
    """A terminal in which a command runs."""

    def __init__(
        self, project: Project, *arguments: str, size: tuple[int, int] = (80, 24), **env: str
    ) -> None:
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self.received = b""
        command, *rest = project.command("review", "--who=ada", *arguments)
        environment = project.environment() | {"TERM": "xterm-256color", **env}
        environment.pop("COLUMNS")
        self.child = pexpect.spawn(
            command, rest, cwd=project.path, env=environment, dimensions=(size[1], size[0])
        )

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def _receive(self) -> bool:
        try:
            found = self.child.read_nonblocking(65536, timeout=0.1)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.received += found
        self._stream.feed(found)
        return True

    def sees(self, *texts: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not all(text in self.text for text in texts):
            assert time.monotonic() < end, f"{texts} do not appear in\n{self.text}"
            assert self._receive(), f"the command ended:\n{self.text}"

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.child.send(key)

    def ends(self) -> str:
        """What the command said at its end."""
        before = len(self.received)
        while self._receive():
            pass
        self.child.close()
        assert self.child.exitstatus == 0
        return self.received[before:].decode()
