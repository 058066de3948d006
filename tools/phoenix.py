"""A local Phoenix server in an environment of its own, filled with the sample telemetry.

``python tools/phoenix.py --venv .venv-phoenix --port 6006`` installs the server if it is not there
(about 90 seconds, 850 MB), starts it on the loopback interface, posts the sample once, prints the
address and runs until Ctrl-C or SIGTERM. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints-phoenix.txt"
SERVER = "arize-phoenix==20.26.1"
START_SECONDS = 180
STOP_SECONDS = 20


class PhoenixError(SystemExit):
    """The server could not be installed or started; the message says why."""


def server_python(folder: Path) -> Path:
    """The Python of the server's environment, which is installed first if it is not whole.

    Args:
        folder: Folder of the environment.
    """
    python = folder / "bin" / "python"
    marker = folder / ".installed"
    wanted = hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()
    if marker.is_file() and marker.read_text() == wanted:
        return python
    print(f"Installing {SERVER} into {folder} (about 90 seconds) ...", flush=True)
    if not python.exists():
        venv.create(folder, with_pip=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--constraint", CONSTRAINTS, SERVER], check=False)
    if done.returncode:
        raise PhoenixError(
            f"pip could not install {SERVER} into {folder}.\n"
            "What to do: check the network and the package index, then run again."
        )
    marker.write_text(wanted)
    return python


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check_free(port: int, what: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PhoenixError(
                f"port {port} ({what}) is taken.\n"
                "What to do: stop what listens there, or choose another with "
                f"--{'grpc-' if what == 'gRPC' else ''}port."
            ) from error


def _environment(port: int, grpc_port: int, folder: Path, extra: dict[str, str]) -> dict[str, str]:
    # Settings of another Phoenix in the shell of the user must not reach this one.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PHOENIX_")}
    return inherited | {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        "PHOENIX_ENABLE_MCP_SERVER": "false",
        "PHOENIX_ALLOWED_SANDBOX_PROVIDERS": "NONE",
        **extra,
    }


@contextlib.contextmanager
def running_server(
    python: Path,
    *,
    port: int,
    grpc_port: int,
    folder: Path,
    settings: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers for the length of the block.

    Args:
        python: Python of the server's environment.
        port: HTTP port on the loopback interface.
        grpc_port: gRPC port on the loopback interface.
        folder: Working folder with database and log.
        settings: Further ``PHOENIX_...`` settings.
    """
    _check_free(port, "HTTP")
    _check_free(grpc_port, "gRPC")
    folder.mkdir(parents=True, exist_ok=True)
    # A session of its own: Ctrl-C reaches this script alone, which then stops the server.
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [python, "-I", ROOT / "tools" / "phoenix_loopback.py"],
            env=_environment(port, grpc_port, folder, settings or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, folder)
        yield process
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    # A proxy of the user's environment has no say about the loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = (folder / "server.log").read_text("utf-8", "replace")[-1500:]
            raise PhoenixError(f"the server ended while starting:\n{tail}")
        with contextlib.suppress(OSError):
            opener.open(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return
        time.sleep(0.3)
    raise PhoenixError(f"the server is not ready after {START_SECONDS} s; see {folder}/server.log")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def seed(python: Path, url: str, folder: Path) -> None:
    """Posts the sample unless this folder's database already holds it.

    Posting is repeatable: the server ignores spans it has and overwrites annotations by key.
    """
    tool = [sys.executable, "-m", "tools.sample", "digest"]
    digest = subprocess.run(tool, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    marker = folder / "seeded"
    if marker.is_file() and marker.read_text() == digest:
        return
    print("Posting the sample telemetry (about a minute) ...", flush=True)
    subprocess.run([python, "-m", "tools.sample", "post", "--url", url], cwd=ROOT, check=True)
    marker.write_text(digest)


def _raise_exit(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-phoenix")
    parser.add_argument("--folder", type=Path, default=ROOT / ".phoenix")
    parser.add_argument("--port", type=int, default=6006)
    parser.add_argument("--grpc-port", type=int, default=4317)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _raise_exit)
    url = f"http://127.0.0.1:{options.port}"
    folder = options.folder.resolve()
    try:
        python = server_python(options.venv.resolve())
        print("Starting Phoenix ...", flush=True)
        with running_server(
            python, port=options.port, grpc_port=options.grpc_port, folder=folder
        ) as process:
            seed(python, url, folder)
            print(f"Phoenix runs at {url} (gRPC on 127.0.0.1:{options.grpc_port}).")
            print("Read from it: kedro run --pipeline=dpo --params=telemetry.source=phoenix")
            print("Stop it with Ctrl-C.", flush=True)
            code = process.wait()
            raise PhoenixError(f"the server ended by itself (exit code {code}); see {folder}")
    except KeyboardInterrupt:
        print("\nPhoenix stopped.")


if __name__ == "__main__":
    main()
