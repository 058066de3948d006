"""Drafts from real programs, and ``kedro schemas``."""

from __future__ import annotations

import stat
import sys
import time
from pathlib import Path

import pytest

from tests.cli_schema.builders import MADE_UP
from tests.project import ROOT, Project
from tracetune.cli_schema.command import check_schema, draft, list_schemas
from tracetune.cli_schema.draft import draft_schema
from tracetune.cli_schema.load import load_schema, parse_schema
from tracetune.errors import ConfigurationError, DataError

PROGRAM = """#!{python}
import argparse, sys
with open({log!r}, "a") as log:
    log.write(repr(sys.argv[1:]) + "\\n")
assert sys.argv[-1] == "--help", "something else than help was asked for"
assert sys.stdin.read() == ""
parser = argparse.ArgumentParser(prog="lamp", description="Controls lamps of a house")
subs = parser.add_subparsers(title="commands", metavar="COMMAND")
on = subs.add_parser("on", help="Turn a lamp on")
on.add_argument("--color", choices=["red", "warm white"], help="Colour of the light")
on.add_argument("--level", type=int, metavar="INT", help="Brightness (default: 80)")
on.add_argument("-q", "--quiet", action="store_true", help="Say nothing")
scene = subs.add_parser("scene", help="Work with scenes")
deep = scene.add_subparsers(title="commands", metavar="COMMAND")
save = deep.add_parser("save", help="Save a scene 💡")
save.add_argument("--file", metavar="FILE", help="Where to")
parser.parse_args()
"""

CLAP = """\
Finds things very fast.

Usage: seek [OPTIONS] <COMMAND>

Commands:
  grep     Search files
  --bad    Not a command
  rm -rf   Not a command either
  help     Print help

Options:
  -h, --help  Print help
"""
CLAP_GREP = """\
Search files

Usage: seek grep [OPTIONS] <PATTERN> [PATH]

Options:
  -n, --max-count <NUM>
          Stop after so many matches [default: 10]
      --color <WHEN>
          When to use colours {auto,always,never}
      --[no-]index     Use the index
      --max-count <NUM>   Once more
      --weird=<a b|c>d e  What
  -i  Ignore case
"""


@pytest.fixture
def script(tmp_path):
    def write(name: str, text: str):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def test_a_real_program_is_drafted_and_only_asked_for_help(script, tmp_path):
    log = tmp_path / "calls"
    path = script("lamp", PROGRAM.format(python=sys.executable, log=str(log)))
    schema = parse_schema(draft_schema(str(path)))
    assert schema.cli_name == "lamp"
    assert [place.label for place in schema.places()] == ["on", "scene save"]
    on = schema.place("on", None).spec
    assert on.argument("color").values == ("red", "warm white")
    assert on.argument("level").type == "integer"
    assert on.argument("level").default == 80
    assert [(flag.name, flag.short) for flag in on.flags] == [("quiet", "q")]
    save = schema.place("scene", "save").spec
    assert save.argument("file").type == "path"
    calls = log.read_text().splitlines()
    assert sorted(calls) == [
        "['--help']",
        "['on', '--help']",
        "['scene', '--help']",
        "['scene', 'save', '--help']",
    ]


def test_a_help_in_another_style_and_what_is_not_understood(script):
    text = (
        "#!/bin/sh\nif [ \"$1\" = grep ]; then cat <<'E'\n"
        + CLAP_GREP
        + "E\nelse cat <<'E'\n"
        + CLAP
        + "E\nfi\n"
    )
    found = draft_schema(str(script("seek", text)))
    schema = parse_schema(found)
    assert schema.description == "Finds things very fast"
    assert [place.label for place in schema.places()] == ["grep"]
    grep = schema.place("grep", None).spec
    assert [(a.name, a.positional, a.required) for a in grep.args[:2]] == [
        ("pattern", True, True),
        ("path", True, False),
    ]
    assert grep.argument("max-count").type == "integer"
    assert grep.argument("max-count").default == 10
    assert grep.argument("color").values == ("auto", "always", "never")
    assert "index" in [flag.name for flag in grep.flags]
    assert "# max-count stands there twice; the first was kept" in found
    assert "# not understood: -i Ignore case" in found


def test_calls_and_time_are_limited(script, tmp_path):
    log = tmp_path / "calls"
    path = script("lamp", PROGRAM.format(python=sys.executable, log=str(log)))
    found = draft_schema(str(path), most_calls=2)
    assert len(log.read_text().splitlines()) == 2
    assert "The number of calls was used up" in found
    assert "its help could not be read" in found
    marker = tmp_path / "child"
    slow = script("slow", f"#!/bin/sh\n(sleep 3; touch {marker}) &\nsleep 30\n")
    start = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"not within 0\.5 seconds"):
        draft_schema(str(slow), timeout=0.5)
    assert time.monotonic() - start < 5
    time.sleep(3)
    assert not marker.exists(), "what the program started outlived the time limit"


def test_a_flood_of_output_is_cut(script):
    flood = script("flood", "#!/bin/sh\nyes 'Commands:'\n")
    start = time.monotonic()
    with pytest.raises(ConfigurationError, match="looks like a command or an option"):
        draft_schema(str(flood), timeout=15)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("output", ["", "hello", "\x00\xff", "Commands:\n"])
def test_a_program_without_help(script, output):
    path = script("mute", f"#!/bin/sh\nprintf '%s' '{output.replace(chr(0), '')}'\n")
    with pytest.raises(ConfigurationError):
        draft_schema(str(path))
    with pytest.raises(ConfigurationError, match="there is no program"):
        draft_schema("no-such-program-anywhere")


def test_real_tools_give_drafts_that_load(tmp_path):
    for tool in ("ruff", "pip"):
        path = Path(sys.executable).parent / tool
        schema = parse_schema(draft_schema(str(path), most_calls=6))
        assert len(schema.places()) > 4


def test_commands_list_check_and_draft(tmp_path, script):
    assert "There are no schemas" in list_schemas(tmp_path, "t")[0]
    folder = tmp_path / "t" / "cli"
    folder.mkdir(parents=True)
    (folder / "zorp.yaml").write_text(MADE_UP)
    (folder / "bad.yaml").write_text("cli_name: p\n")
    lines = list_schemas(tmp_path, "t")
    assert lines[0].startswith("bad   not valid: ")
    assert lines[1] == "zorp  zorp, 2 commands, 2 subcommands: Tends the glimmers of a starship"
    assert "is valid" in check_schema(folder / "zorp.yaml")[0]
    path = script("lamp", PROGRAM.format(python=sys.executable, log=str(tmp_path / "log")))
    out = folder / "lamp.yaml"
    assert "a draft" in draft(str(path), out, most_calls=9)[0]
    assert load_schema(out).cli_name == "lamp"
    with pytest.raises(DataError, match="is not overwritten"):
        draft(str(path), out, most_calls=9)
    with pytest.raises(DataError, match="cannot be written"):
        draft(str(path), folder / "zorp.yaml" / "x.yaml", most_calls=9)


def test_kedro_schemas(tmp_path):
    project = Project(ROOT)
    listed = project.kedro("schemas", "list")
    assert listed.returncode == 0, listed.stdout
    assert "gh      gh, 6 commands, 29 subcommands: GitHub CLI" in listed.stdout
    bad = tmp_path / "bad.yaml"
    bad.write_text("cli_name: p\ndescription: d\ncommands:\n- {name: a}\n")
    checked = project.kedro("schemas", "check", str(bad))
    assert checked.returncode == 1
    assert "bad.yaml:4: commands[0].description: is missing" in checked.stdout
    assert "Traceback" not in checked.stdout
    drafted = project.kedro("schemas", "draft", "no-such-program-anywhere")
    assert drafted.returncode == 1
    assert "there is no program" in drafted.stdout
    outside = project.kedro("schemas", "list", "--tenant", "../x")
    assert outside.returncode == 2
    assert "not a tenant or name" in outside.stdout
