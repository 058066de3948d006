"""Hooks: refuse unknown parameters, lock tenant and name, tell progress, keep the run manifest."""

from __future__ import annotations

import logging
import os
import platform
import time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from tracetune.errors import ConfigurationError
from tracetune.pipelines.answering import check_places
from tracetune.runs import (
    RunLock,
    code_commit,
    installed_versions,
    read_status,
    utc_now,
    write_run_manifest,
)
from tracetune.training import tracking

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from tracetune.llm import Spending

logger = logging.getLogger("tracetune")

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Usage telemetry of the libraries is off, whatever the person's own settings are."""


class ProjectHooks:
    """What happens around every run, without a line in any node."""

    def __init__(self) -> None:
        self._lock: RunLock | None = None
        self._started: dict[str, float] = {}
        self._done = 0
        self._context: Any = None
        self._run_started = ""
        self._replies: Path | None = None
        self._spent: Spending | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuses top-level ``--params`` keys that no parameter file knows."""
        os.environ.update(QUIET)
        self._context = context
        given = set(context._runtime_params or {})
        if not given:
            return
        known = _declared_parameters(context)
        for key in sorted(given - known):
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigurationError(
                f"there is no parameter {key!r}",
                where="--params",
                remedy=f"{hint}known at the top level: {', '.join(sorted(known))}",
            )

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any
    ) -> None:
        """Takes the lock of tenant and name."""
        root, parameters = self._data_root(), self._context.params
        if "params:report_to" in pipeline.inputs():  # before anything is paid or trained
            tracking.check(tracking.tools_of(parameters["report_to"]))
        if {"params:backend", "params:base_model", "params:together"} <= pipeline.inputs():
            names = ("backend", "base_model", "together")
            check_places(*(catalog.load(f"params:{name}") for name in names))
        self._lock = RunLock(root / "locks" / parameters["tenant"] / f"{parameters['name']}.lock")
        self._lock.acquire()
        self._done, self._total = 0, len(pipeline.nodes)
        self._run_started = utc_now()
        self._replies = catalog.load("llm").folder if "llm" in pipeline.inputs() else None
        self._spent = self._spending()
        logger.info(
            "%s for tenant %s, name %s: %d steps",
            ", ".join(run_params.get("pipeline_names") or ["dpo"]),
            parameters["tenant"],
            parameters["name"],
            self._total,
        )

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Notes when the step began."""
        self._started[node.name] = time.monotonic()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """One line per finished step."""
        self._done += 1
        seconds = time.monotonic() - self._started[node.name]
        logger.info("[%2d/%d] %-32s %6.1f s", self._done, self._total, node.name, seconds)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any
    ) -> None:
        """Writes the run manifest, prints the summary of the run, gives the lock back."""
        self._write_manifest(run_params, "completed", "")
        self._print_summary(pipeline, catalog)
        self._print_continuation(run_params, pipeline, catalog)
        self._release()

    @hook_impl
    def on_pipeline_error(self, error: Exception, run_params: dict[str, Any]) -> None:
        """Writes the run manifest with the error, gives the lock back."""
        if self._lock is not None and self._run_started:
            self._write_manifest(run_params, "failed", f"{type(error).__name__}: {error}")
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _spending(self) -> Spending | None:
        """What text services cost this tenant and name so far, as the kept replies say."""
        from tracetune.llm import spent

        return None if self._replies is None else spent(self._replies)

    def _spent_by_run(self) -> dict[str, Any] | None:
        """The cost of this run and of all runs; None for pipelines that have no text written."""
        before, now = self._spent, self._spending()
        if before is None or now is None:
            return None
        found = {"run": now.since(before), "all_runs": now}
        return {name: spending.model_dump(mode="json") for name, spending in found.items()}

    def _data_root(self) -> Path:
        root = Path(self._context.config_loader["globals"]["data_root"])
        return root if root.is_absolute() else self._context.project_path / root

    def _write_manifest(self, run_params: dict[str, Any], status: str, error: str) -> None:
        parameters = self._context.params
        name = "+".join(run_params.get("pipeline_names") or ["dpo"])
        folder = (
            self._data_root() / "08_reporting" / parameters["tenant"] / parameters["name"] / name
        )
        write_run_manifest(
            folder / "runs" / f"{run_params['run_id']}.json",
            {
                "run_id": run_params["run_id"],
                "pipeline": name,
                "status": status,
                "error": error,
                "started": self._run_started,
                "ended": utc_now(),
                "env": run_params.get("env"),
                "runtime_params": run_params.get("runtime_params"),
                "filters": {
                    key: run_params[key]
                    for key in ("tags", "from_nodes", "to_nodes", "node_names", "namespaces")
                    if run_params.get(key)
                },
                "parameters": dict(parameters),
                "spending": self._spent_by_run(),
                "commit": code_commit(self._context.project_path),
                "versions": {"python": platform.python_version(), **installed_versions()},
            },
        )

    def _print_continuation(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any
    ) -> None:
        """The command that goes on later: this one, with all that was given.

        Later is when people have decided, or when a job or a judge elsewhere has done its work.
        """
        from tracetune.review.places import run_command

        waiting, reasons = set(), set()
        for name in sorted(pipeline.all_outputs()):
            if name.endswith(".review") and catalog.load(name)["open"]:
                waiting.add(name.removesuffix(".review"))
            elif name.endswith(".adapter") and (reason := _waits(Path(catalog.load(name)))):
                reasons.add(reason)
                waiting.add(name.split(".")[0])
            elif name.endswith(".ab") and (found := catalog.load(name))["status"] == "waiting":
                reasons.add(found["reason"])
                waiting.add(name.split(".")[0])
        for reason in sorted(reasons):
            logger.info("Waiting  %s", reason)
        for name in sorted(waiting):
            given = run_params.get("runtime_params") or {}
            logger.info("Go on    %s", run_command(name, given, env=run_params.get("env")))

    def _print_summary(self, pipeline: Pipeline, catalog: Any) -> None:
        for name in sorted(pipeline.all_outputs()):
            if name.endswith(".summary"):
                logger.info("\n%s", catalog.load(name))
                report = name.replace(".summary", ".report")
                if report in pipeline.all_outputs():
                    logger.info("Report: %s", catalog[report]._get_load_path())


def _waits(adapter: Path) -> str:
    """Why a trained stage waits for a job that runs elsewhere; empty if it does not."""
    status = read_status(adapter)
    return status.reason if status.status == "waiting" and "kedro jobs" in status.reason else ""


def _declared_parameters(context: KedroContext) -> set[str]:
    """Top-level parameter names in the files, without what the command line added."""
    loader: Any = context.config_loader
    clean = type(loader)(
        conf_source=loader.conf_source,
        env=loader.env,
        base_env=loader.base_env,
        default_run_env=loader.default_run_env,
        custom_resolvers=loader._custom_resolvers,
        merge_strategy=loader.merge_strategy,
    )
    return set(clean["parameters"])
