"""A process that writes requests, and can kill itself (-9) while it appends to the ledger.

``python -m tests.llm.driver JSON`` with ``url``, ``key``, ``folder``, ``mode``, ``count``,
``changes`` (further options), and ``kill_after`` or ``kill_in``: the kind of the entry after which,
or in the middle of whose lines, the process dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.llm.helpers import ask, options
from tracetune import hosted_calls
from tracetune.llm import ledger
from tracetune.llm.anthropic_writer import AnthropicWriter


def main() -> None:
    job = json.loads(sys.argv[1])
    hosted_calls._FIRST_WAIT = 0.02
    write = ledger.append_bytes

    def dying(descriptor: int, data: bytes) -> None:
        if job.get("kill_in") and f'"kind":"{job["kill_in"]}"'.encode() in data:
            os.write(descriptor, data[: int(len(data) * job.get("share", 0.5))])
            os.kill(os.getpid(), signal.SIGKILL)
        write(descriptor, data)
        if job.get("kill_after") and f'"kind":"{job["kill_after"]}"'.encode() in data:
            os.kill(os.getpid(), signal.SIGKILL)

    ledger.append_bytes = dying
    writer = AnthropicWriter(
        options(job["url"], job["mode"], **job.get("changes", {})), Path(job["folder"]), job["key"]
    )
    results = writer.write(ask(job.get("count", 3)))
    print(json.dumps([result.model_dump() for result in results]))


if __name__ == "__main__":
    main()
