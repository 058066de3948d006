"""Runs the Phoenix server so that all its ports listen on the loopback interface alone.

``PHOENIX_HOST`` counts for HTTP only: the server opens its gRPC port on all interfaces and has no
setting for it, so the address is rewritten here. The server also ends when the process that started
it is gone. Run by ``tools/phoenix.py`` with the Python of the server's environment.
"""

import os
import signal
import sys
import threading
import time
from typing import Any

import grpc.aio


def _loopback_only() -> None:
    create = grpc.aio.server

    def server(*arguments: Any, **options: Any) -> Any:
        created = create(*arguments, **options)
        listen = created.add_insecure_port
        created.add_insecure_port = lambda address: listen(address.replace("[::]", "127.0.0.1"))
        return created

    grpc.aio.server = server


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _loopback_only()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    from phoenix.server.main import main

    sys.argv = ["phoenix", "serve"]
    main()
