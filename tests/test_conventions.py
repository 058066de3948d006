"""The conventions of the project, as tests."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines as registered
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import AbstractDataset

from tests.project import ROOT

SOURCE = ROOT / "src" / "tracetune"
KEDRO_PLACES = {"datasets", "pipelines"}
KEDRO_FILES = {
    "hooks.py",
    "cli.py",
    "cli_jobs.py",
    "cli_twin.py",
    "config.py",
    "settings.py",
    "resolvers.py",
    "pipeline_registry.py",
    "__main__.py",
}
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "sentence_transformers",
    "anthropic",
    "together",
    "xllamacpp",
    "pandas",
    "pyarrow",
    "ibis",
    "duckdb",
    "sklearn",
    "scipy",
    "plotly",
)
FOLDERS = (
    "02_intermediate",
    "03_primary",
    "04_feature",
    "05_model_input",
    "06_models",
    "07_model_output",
    "08_reporting",
)


@pytest.fixture(scope="module")
def context() -> Any:
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT) as session:
        yield session.load_context()


def used_datasets() -> set[str]:
    bootstrap_project(ROOT)
    return set().union(*(pipeline.datasets() for pipeline in registered.values()))


def test_every_catalog_entry_is_used(context):
    entries = set(context.config_loader["catalog"])
    resolver = context.catalog.config_resolver
    used = set()
    for name in used_datasets():
        if name in entries:
            used.add(name)
        elif not name.startswith("params:"):
            used.add(resolver.match_dataset_pattern(name))
    unused = {entry for entry in entries if not entry.startswith("_")} - used
    assert not unused


def test_every_parameter_is_used(context):
    declared = {key for key in context.config_loader["parameters"] if not key.startswith("_")}
    used = {
        name.removeprefix("params:").split(".")[0]
        for name in used_datasets()
        if name.startswith("params:")
    }
    assert declared == used


def test_nothing_passes_through_memory(context):
    entries = set(context.config_loader["catalog"])
    resolver = context.catalog.config_resolver
    in_memory = {
        name
        for name in used_datasets()
        if not name.startswith("params:")
        and name not in entries
        and resolver.match_dataset_pattern(name) is None
    }
    assert not in_memory


def test_paths_follow_layer_tenant_name_pipeline(context):
    resolver = context.catalog.config_resolver
    raw = context.config_loader["catalog"]
    data = context.project_path.as_posix() + "/data/"
    for name in used_datasets():
        if name.startswith("params:"):
            continue
        config = raw.get(name) or resolver.resolve_pattern(name)
        path = str(config["filepath"]).replace(data, "").removeprefix("data/")
        assert config["metadata"]["kedro-viz"]["layer"], name
        if name == "embedded_models":
            assert path == "06_models/_embedded"
        elif name == "released":  # what earlier runs of any pipeline left
            assert path == "06_models/demo/demo"
        elif name in ("reviews", "llm", "jobs"):  # what people decided and what was paid
            assert path == f"{name}/demo/demo"
        elif name == "cli_schema":
            assert path == "01_raw/demo/cli/demo.yaml"
        elif name == "conversations":
            assert path == "01_raw/demo/conversations"
        elif name in ("anima", "published_eisv"):
            assert path.rpartition(".")[0] == "01_raw/demo/eisv/demo"
        elif "." not in name:
            assert path.startswith("01_raw/demo/telemetry"), (name, path)
        else:
            folder, rest = path.split("/", 1)
            assert folder in FOLDERS, (name, path)
            assert rest.startswith(f"demo/demo/{name.split('.')[0]}/"), (name, path)


def test_no_dataset_name_is_dotted_by_hand():
    for pipeline in registered.values():
        for node in pipeline.nodes:
            assert node.namespace, f"{node.name} has no namespace"
            top = node.namespace.split(".")[0]
            for dataset in {*node.inputs, *node.outputs}:
                if "." in dataset and not dataset.startswith("params:"):
                    assert dataset.startswith(f"{top}."), (node.name, dataset)


def test_default_pipeline_is_dpo():
    bootstrap_project(ROOT)
    assert registered["__default__"].nodes == registered["dpo"].nodes


def test_listing_the_pipelines_imports_nothing_heavy():
    code = (
        "import sys, json; from pathlib import Path\n"
        "from kedro.framework.startup import bootstrap_project\n"
        "from kedro.framework.project import pipelines\n"
        "bootstrap_project(Path.cwd()); names = sorted(pipelines)\n"
        "import tracetune.cli\n"
        f"print(json.dumps([names, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names, loaded = json.loads(done.stdout.splitlines()[-1])
    assert "dpo" in names
    assert loaded == []


@pytest.mark.parametrize("name", ["dpo", "phoenix"])
def test_every_pipeline_loads_alone(name):
    code = (
        "from pathlib import Path\n"
        "from kedro.framework.startup import bootstrap_project\n"
        "from kedro.framework.project import pipelines\n"
        "bootstrap_project(Path.cwd())\n"
        f"pipelines.set_requested([{name!r}]); print(len(pipelines[{name!r}].nodes))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 0


def source_files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imported(path: Path, *, top_level: bool) -> set[str]:
    """Modules that a file imports; at its top level only, or anywhere."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_domain_packages_do_not_know_kedro():
    for path in source_files():
        inside = path.relative_to(SOURCE)
        if inside.parts[0] in KEDRO_PLACES or inside.as_posix() in KEDRO_FILES:
            continue
        kedro = {name for name in imported(path, top_level=False) if name.startswith("kedro")}
        assert not kedro, (inside, kedro)


def test_packages_point_in_one_direction():
    domains, frame = (
        ("telemetry", "cli_schema", "eisv", "conversations"),
        ("pipelines", "datasets"),
    )
    forbidden = {
        "telemetry": (
            "cli_schema",
            "eisv",
            "conversations",
            "training",
            "backends",
            "evaluation",
            "export",
            "review",
            *frame,
        ),
        "training": (*domains, "evaluation", "backends", *frame),
        "backends": (*domains, "evaluation", *frame),
        "evaluation": (*domains, "backends", *frame),
        "llm": (*domains, "training", "backends", "evaluation", "export", "review", *frame),
        "review": (*domains, "training", "backends", "evaluation", "export", "llm", *frame),
        "cli_schema": (
            "telemetry",
            "eisv",
            "conversations",
            "training",
            "backends",
            "evaluation",
            "export",
            "review",
            *frame,
        ),
        "eisv": (
            "telemetry",
            "cli_schema",
            "conversations",
            "training",
            "backends",
            "evaluation",
            "export",
            "review",
            *frame,
        ),
        "conversations": (
            "telemetry",
            "cli_schema",
            "eisv",
            "training",
            "backends",
            "evaluation",
            "export",
            "review",
            *frame,
        ),
        "export": (*domains, "backends", "review", "llm", *frame),
    }
    for path in source_files():
        inside = path.relative_to(SOURCE)
        for package in forbidden.get(inside.parts[0], ()):
            wrong = {
                name
                for name in imported(path, top_level=False)
                if name == f"tracetune.{package}" or name.startswith(f"tracetune.{package}.")
            }
            assert not wrong, (inside, wrong)


def test_files_stay_small_enough_to_read():
    long = {
        str(path.relative_to(ROOT)): count
        for path in source_files()
        if (count := len(path.read_text().splitlines())) > 420
    }
    assert not long


def test_own_datasets_know_whether_they_exist():
    for path in sorted((SOURCE / "datasets").glob("*_dataset*.py")):
        module = importlib.import_module(f"tracetune.datasets.{path.stem}")
        for _, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__ and issubclass(found, AbstractDataset):
                assert found._exists is not AbstractDataset._exists, found


def test_telemetry_of_libraries_is_off():
    assert "consent: false" in (ROOT / ".telemetry").read_text()
    assert "kedro_telemetry" not in (ROOT / "pyproject.toml").read_text()


def test_constraints_pin_what_pyproject_asks_for():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    assert pins["torch"] == "2.13.0"
    text = (ROOT / "pyproject.toml").read_text()
    asked = set(re.findall(r'^    "([A-Za-z0-9_.-]+)(?:\[[a-z,]+\])?[><=]', text, re.MULTILINE))
    normal = {re.sub(r"[-_.]+", "-", pin.lower()) for pin in pins}
    assert not {name for name in asked if re.sub(r"[-_.]+", "-", name.lower()) not in normal}
