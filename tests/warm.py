"""Commands in processes that find the heavy libraries imported already.

At test sizes most of what a command costs is its start: torch, transformers, trl, pandas and the
like take seconds of processor time to import, again and again. The fork server of the standard
library imports them once per pytest worker. Each command is a fork of it: a real process with its
own id, working directory, environment, output and exit code, which can be killed and which imports
Kedro and the project's code itself. Two things are the same in all of them, the seed of ``hash()``
and that libraries say nothing while they are imported: a test of either starts Python anew.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)
SOURCE = {**os.environ, "PYTHONPATH": f"{ROOT}/src"}
"""Environment of a command that runs the checkout itself, not a copy of the project."""

# torch comes first, so that it finds its own OpenMP.
LIBRARIES = (
    *("torch", "numpy", "scipy.stats", "pandas", "pyarrow.parquet", "pyarrow.dataset", "duckdb"),
    *("pydantic", "omegaconf", "dynaconf", "rich.progress", "rich.table", "jinja2", "requests"),
    *("ibis", "ibis.backends.duckdb", "plotly.graph_objects", "plotly.io", "sklearn.pipeline"),
    *("sklearn.feature_extraction.text", "sklearn.linear_model", "bm25s", "datasets"),
    *("transformers", "transformers.trainer", "transformers.models.llama.modeling_llama"),
    *("transformers.models.bert.modeling_bert", "transformers.generation.continuous_batching"),
    *("peft", "accelerate", "trl", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer"),
    *("sentence_transformers", "anthropic", "gguf"),
)
"""What the server imports: nothing of Kedro and of the project, which are what is tested."""


def _serve() -> None:
    """Starts the server of this worker unless it runs."""
    forkserver.set_forkserver_preload(list(LIBRARIES))
    before = os.environ.get("OMP_WAIT_POLICY")
    # Threads that wait let the processor go: there are more threads than processors.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    forkserver.ensure_running()
    if before is None:
        del os.environ["OMP_WAIT_POLICY"]
    else:
        os.environ["OMP_WAIT_POLICY"] = before


def _command(
    module: str, arguments: list[str], cwd: str, environment: dict[str, str], output: str
) -> None:
    """The forked process: ``python -m module arguments`` as a new process would run it."""
    written = os.open(output, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    own = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [cwd, *own, *(place for place in sys.path if place not in ("", ROOT))]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Started:
    """``python -m module arguments`` that runs; the part of :class:`subprocess.Popen` in use.

    Attributes:
        pid: The process.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output: str = os.devnull,
    ) -> None:
        _serve()
        context = multiprocessing.get_context("forkserver")
        given = (module, list(arguments), str(cwd), dict(env), output)
        self._process = context.Process(target=_command, args=given)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end.

        Raises:
            subprocess.TimeoutExpired: It took longer than ``timeout`` seconds and was killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode


def run(
    module: str, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m module arguments`` to its end; standard output and error together."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        code = Started(module, arguments, cwd=cwd, env=env, output=output.name).wait(timeout)
        return subprocess.CompletedProcess([module, *arguments], code, output.read())
