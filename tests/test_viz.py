"""kedro-viz shows the pipeline with its layers, collapsed stages and previews."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.project import Project


def free_port() -> int:
    """A free port in the range that kedro-viz accepts (at most 49151)."""
    for port in range(20_000 + os.getpid() % 10_000, 49_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise OSError("no free port")


@pytest.fixture(scope="module")
def viz(finished: Project) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        finished.command("viz", "run", "--no-browser", f"--port={port}", "--env=test"),
        cwd=finished.path,
        env=finished.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/api/version", timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, process.stdout and process.stdout.read()
                time.sleep(0.5)
        else:
            pytest.fail("kedro-viz did not start")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("pipeline", ["dpo", "sft", "auto", "multi_turn", "embedding"])
def test_graph_has_nodes_layers_and_stages(viz, pipeline):
    graph = get(f"{viz}/api/pipelines/{pipeline}")
    names = {node["name"] for node in graph["nodes"]}
    for expected in ("read_telemetry", "split", "train", "judge", "release"):
        assert any(expected in name for name in names), expected
    assert graph["layers"] == [
        "raw",
        "intermediate",
        "primary",
        "feature",
        "model_input",
        "models",
        "model_output",
        "reporting",
    ]
    stages = {node["name"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    for stage in ("telemetry", "prepare", "judgement", "release"):
        assert f"{pipeline}.{stage}" in {
            node["id"] for node in graph["nodes"] if node["type"] == "modularPipeline"
        }, stages


def test_graph_of_export(viz):
    graph = get(f"{viz}/api/pipelines/export")
    used = {node["layer"] for node in graph["nodes"] if node.get("layer")}
    assert used == {"model_input", "reporting"}
    assert graph["layers"].index("model_input") < graph["layers"].index("reporting")
    names = {node["name"] for node in graph["nodes"]}
    assert {"released", "export.source", "export.export.model", "export.export.report"} <= names
    assert "export.export" in {
        node["id"] for node in graph["nodes"] if node["type"] == "modularPipeline"
    }


def test_graph_of_cli(viz):
    graph = get(f"{viz}/api/pipelines/cli")
    assert graph["layers"] == [
        *("raw", "intermediate", "primary", "feature", "model_input", "models", "model_output"),
        "reporting",
    ]
    stages = {node["id"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    for stage in ("generation", "sft", "preferences", "dpo", "judgement", "export", "file"):
        assert f"cli.{stage}" in stages


def test_graph_of_eisv(viz):
    graph = get(f"{viz}/api/pipelines/eisv")
    assert graph["layers"] == [
        *("raw", "intermediate", "primary", "feature", "model_input", "models", "model_output"),
        "reporting",
    ]
    stages = {node["id"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    teachers = ("full", "no_shape", "no_shape_no_duration")
    for stage in ("data", "prepare", *teachers, "student", "judgement", "release", "reporting"):
        assert f"eisv.{stage}" in stages
    figures = {n["name"] for n in graph["nodes"] if n["name"].startswith("eisv.figure_")}
    shown = ("shapes", "confusion", "coherence", "tokens", "losses")
    assert figures == {f"eisv.figure_{name}" for name in shown}


def test_graph_of_twin(viz):
    graph = get(f"{viz}/api/pipelines/twin")
    assert graph["layers"] == [
        *("raw", "intermediate", "primary", "feature", "model_input", "models", "model_output"),
        "reporting",
    ]
    stages = {node["id"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    for stage in ("corpus", "prepare", "sft", "dpo", "judgement", "release", "reporting"):
        assert f"twin.{stage}" in stages
    figures = {n["name"] for n in graph["nodes"] if n["name"].startswith("twin.figure_")}
    shown = ("cases", "scores", "comparison", "losses", "rewards")
    assert figures == {f"twin.figure_{name}" for name in shown}


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        ("dpo.examples", "TablePreview"),
        ("dpo.preferences", "TablePreview"),
        ("dpo.predictions", "TablePreview"),
        ("dpo.metrics", "JSONPreview"),
        ("dpo.gate", "JSONPreview"),
        ("dpo.funnel", "JSONPreview"),
        ("dpo.figure_losses", "PlotlyPreview"),
        ("dpo.figure_rewards", "PlotlyPreview"),
        ("dpo.figure_agents", "PlotlyPreview"),
        ("dpo.figure_funnel", "PlotlyPreview"),
    ],
)
def test_rows_and_figures_are_previewed(viz, dataset, kind):
    graph = get(f"{viz}/api/pipelines/dpo")
    [node] = [node for node in graph["nodes"] if node["name"] == dataset]
    shown = get(f"{viz}/api/nodes/{node['id']}")
    assert shown["preview_type"] == kind
    assert shown["preview"]


def test_graph_of_heads(viz):
    graph = get(f"{viz}/api/pipelines/heads")
    used = {node["layer"] for node in graph["nodes"] if node.get("layer")}
    assert [layer for layer in graph["layers"] if layer in used] == [
        *("raw", "primary", "feature", "model_input", "models", "model_output", "reporting")
    ]
    stages = {node["id"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    variants = ("causal", "full")
    for stage in ("data", "prepare", "sft", *variants, "judgement", "release", "reporting"):
        assert f"heads.{stage}" in stages
    figures = {n["name"] for n in graph["nodes"] if n["name"].startswith("heads.figure_")}
    shown = ("heads", "confusion", "style_map", "gates", "calibration", "losses")
    assert figures == {f"heads.figure_{name}" for name in shown}
