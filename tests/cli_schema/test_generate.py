"""Generated examples: valid, planned, varied, the same again; and what a large model may answer."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from functools import cache

import pytest

from tests.cli_schema.builders import sample
from tracetune.cli_schema.context import Context, resolved_by
from tracetune.cli_schema.diversity import check, measure, self_bleu
from tracetune.cli_schema.generate import Generated, first_requests, generate
from tracetune.cli_schema.load import parse_schema
from tracetune.cli_schema.objects import command_line, problems
from tracetune.cli_schema.options import CliGenerationOptions, Shares
from tracetune.cli_schema.plan import Cell, make_plan
from tracetune.cli_schema.screen import Screen, normal, value_in
from tracetune.errors import GateError
from tracetune.llm import TextRequest, TextResult
from tracetune.llm.offline import OfflineWriter

PROGRAMS = ("demo", "gh", "docker", "zorp")
OPTIONS = CliGenerationOptions()


@cache
def generated(name: str) -> Generated:
    return generate(sample(name), OfflineWriter(3), options=OPTIONS, seed=3)


@pytest.mark.parametrize("name", PROGRAMS)
def test_everything_is_valid_and_can_be_typed(name):
    schema = sample(name)
    for row in generated(name).examples:
        assert problems(schema, row.output) == [], row
        assert "confidence" not in row.output
        if row.output["type"] == "command":
            assert command_line(schema, row.output).startswith(schema.cli_name)
        assert "{" not in row.request, row.request
        if row.context is not None:
            assert Context.model_validate(row.context).lines()


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_said_is_what_stands_in_the_answer(name):
    """Every free value is in the request, or in the context that "this" points to."""
    schema = sample(name)
    for row in generated(name).examples:
        if row.output["type"] != "command":
            continue
        place = schema.place(row.output["command"], row.output["subcommand"])
        context = Context.model_validate(row.context) if row.context else None
        for argument in place.spec.args:
            value = row.output["args"].get(argument.name)
            if value is None or argument.type in ("enum", "boolean"):
                continue
            pointed = row.style == "context" and value == value_in(
                context, resolved_by(place, argument)
            )
            said = {str(value), str(value).removesuffix(".0"), str(value).rstrip("0")}
            assert pointed or any(text in row.request for text in said), row


@pytest.mark.parametrize("name", PROGRAMS)
def test_coverage_and_variety(name):
    report = generated(name).report
    check(report.diversity, sample(name), OPTIONS)
    assert report.diversity.coverage == 1.0
    assert report.diversity.distinct > 0.9
    # The generator knows no other words for the verbs of a program that nobody has seen.
    assert report.diversity.literal < (0.8 if name == "zorp" else 0.4)
    assert report.diversity.self_bleu < 0.8
    assert report.examples >= 0.85 * OPTIONS.num_examples
    assert report.examples == sum(report.by_target.values()) == sum(report.by_style.values())
    assert report.rejected["invalid"] == report.rejected["malformed"] == 0
    assert report.rejected["off_cell"] == report.rejected["contradicts"] == 0


def test_gh_is_written_whole_and_quickly():
    start = time.monotonic()
    found = generate(sample("gh"), OfflineWriter(4), options=OPTIONS, seed=4)
    assert time.monotonic() - start < 10
    assert found.report.examples >= 1450
    assert found.report.with_context > 0.6 * found.report.examples
    assert 0.17 < found.report.by_target["clarification"] / found.report.examples < 0.23
    assert set(found.report.by_style) == {
        "casual",
        "precise",
        "synonyms",
        "word_order",
        "minimal",
        "options",
        "context",
        "missing",
        "ambiguous",
    }
    counts = [n for target, n in found.report.by_target.items() if target != "clarification"]
    assert max(counts) < 1.3 * min(counts)


def test_the_same_seed_gives_the_same_and_another_attempt_other_examples():
    few = CliGenerationOptions(num_examples=120)
    gh = sample("gh")
    one = generate(gh, OfflineWriter(1), options=few, seed=1)
    again = generate(gh, OfflineWriter(1), options=few, seed=1)
    other = generate(gh, OfflineWriter(1), options=few, seed=1, attempt=1)
    assert one == again
    ids = {row.request_id for row in one.examples}
    assert not ids & {row.request_id for row in other.examples}
    assert [row.request for row in one.examples] != [row.request for row in other.examples]
    asked = first_requests(gh, options=few, seed=1)
    assert len({request.id for request in asked}) == len(asked)


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_two_answers_to_the_same_request(name):
    answers: dict[tuple[str, str], set[str]] = {}
    for row in generated(name).examples:
        key = (row.request.casefold(), str(row.context))
        answers.setdefault(key, set()).add(str(row.output))
    assert all(len(found) == 1 for found in answers.values())


def test_a_context_never_fills_a_gap():
    gh = sample("gh")
    rows = [row for row in generated("gh").examples if row.style == "missing"]
    with_context = [row for row in rows if row.context and "pr checkout" in row.cell]
    assert with_context
    assert not any("current_pr" in row.context["git"] for row in with_context)
    assert gh.place("pr", "checkout") is not None


@pytest.mark.parametrize("count", [1, 7, 29, 300, 1500])
def test_the_plan_adds_up_and_spreads(count):
    gh = sample("gh")
    plan = make_plan(gh, CliGenerationOptions(num_examples=count), seed=1)
    assert sum(cell.count for cell in plan) == count
    assert len({cell.id for cell in plan}) == len(plan)
    targets = Counter()
    for cell in plan:
        if not cell.asks_back and cell.context:
            targets[cell.target] += cell.count
    if count >= 300:
        assert len(targets) == 29
        assert max(targets.values()) - min(targets.values()) <= 1


def test_every_subcommand_of_a_large_program_gets_an_example():
    names = ["list", "view", "create", "delete"]
    subs = ", ".join(f"{{name: {name}, description: {name.title()} it}}" for name in names)
    text = "cli_name: p\ndescription: d\ncommands:\n" + "".join(
        f"- {{name: {a}{b}p, description: Manage {a}o{b}ins, subcommands: [{subs}]}}\n"
        for a, b in itertools.product("abcdefghijk", "lmnoprstvwz")
    )
    schema = parse_schema(text)
    start = time.monotonic()
    options = CliGenerationOptions(num_examples=700)
    found = generate(schema, OfflineWriter(1), options=options, seed=1)
    assert time.monotonic() - start < 30
    check(found.report.diversity, schema, options)
    assert found.report.diversity.coverage == 1.0


def test_shares_must_be_whole():
    with pytest.raises(ValueError, match="add up to"):
        Shares(with_context=0.7)
    only = Shares(with_context=0, without_context=1, clarification=0)
    plan = make_plan(sample("gh"), CliGenerationOptions(num_examples=50, shares=only))
    assert all(not cell.context and not cell.asks_back for cell in plan)


def test_a_program_without_subcommands_or_words_can_be_learned():
    schema = parse_schema("cli_name: p\ndescription: d\ncommands: [{name: q, description: Qqq}]")
    found = generate(
        schema, OfflineWriter(1), options=CliGenerationOptions(num_examples=40), seed=1
    )
    assert {row.target for row in found.examples} == {"q", "clarification"}


def test_braces_and_odd_values_in_a_schema_do_no_harm():
    text = """
cli_name: p
description: A {thing}
commands:
  - name: fmt
    description: Format {x} of all things
    args:
      - name: mode
        type: {enum: ["{{.Name}}", "a  b", "..", ".5", "plain"]}
        natural_language: [{value: plain, alternatives: ["the {simple} way"]}]
      - {name: depth, type: integer, natural_language: [{pattern: "{n} levels deep"}]}
    flags:
      - {name: all, natural_language: ["with {everything}"]}
"""
    schema = parse_schema(text)
    found = generate(
        schema, OfflineWriter(1), options=CliGenerationOptions(num_examples=200), seed=1
    )
    modes = {row.output.get("args", {}).get("mode") for row in found.examples}
    assert modes >= {"plain", None}
    assert not modes & {"{{.Name}}", "a  b", ".."}
    assert found.report.rejected["invalid"] == 0
    assert any("levels deep" in row.request for row in found.examples)


def test_an_enum_that_no_template_can_say_leaves_its_cells_short():
    text = """
cli_name: p
description: d
commands:
  - name: fmt
    description: Format things
    args: [{name: mode, type: {enum: ["{{.Name}}"]}, required: true}]
  - {name: other, description: Do other things}
"""
    schema = parse_schema(text)
    found = generate(
        schema, OfflineWriter(1), options=CliGenerationOptions(num_examples=60), seed=1
    )
    assert found.report.by_target.get("fmt", 0) == 0
    assert any(name.startswith("fmt/") for name in found.report.short)
    with pytest.raises(GateError, match="1 subcommands have no example: fmt"):
        check(found.report.diversity, schema, OPTIONS)


class Scripted:
    """A writer with fixed answers, as a large model could give them."""

    label = "script"

    def __init__(self, items, outcome="answered"):
        self.items, self.outcome, self.asked = items, outcome, []

    def write(self, requests: list[TextRequest]) -> list[TextResult]:
        self.asked += requests
        value = {"items": self.items} if self.outcome == "answered" else None
        reason = "" if self.outcome == "answered" else "not sent"
        return [
            TextResult(id=r.id, outcome=self.outcome, value=value, reason=reason) for r in requests
        ]


def test_without_answers_nothing_is_asked_twice_and_everything_is_short():
    writer = Scripted([], "over_budget")
    options = CliGenerationOptions(num_examples=100)
    found = generate(sample("demo"), writer, options=options, seed=1)
    assert found.examples == []
    assert found.report.rounds == 1
    assert sum(found.report.short.values()) == 100
    assert found.report.outcomes == {"over_budget": len(writer.asked)}
    assert found.report.problems == ["over_budget: not sent"]
    assert found.report.diversity.distinct is None
    with pytest.raises(GateError, match="there are no examples"):
        check(found.report.diversity, sample("demo"), options)


CELL = Cell(style="casual", context=True, places=(("pr", "view"),), count=1)
THIS = Cell(style="context", context=True, places=(("pr", "view"),), count=1)
GAP = Cell(style="missing", context=True, places=(("pr", "checkout"),), missing="number", count=1)
GIT = {"repo_name": "a", "repo_owner": "b", "current_pr": 7}


def item(request="see pr 7", context=GIT, command="pr", subcommand="view", args=None, flags=()):
    return {
        "request": request,
        "context": context,
        "command": command,
        "subcommand": subcommand,
        "args": {"number": 7} if args is None else args,
        "flags": list(flags),
    }


@pytest.mark.parametrize(
    ("raw", "cell", "reason", "detail"),
    [
        ("text", CELL, "malformed", "no request"),
        (item(" "), CELL, "malformed", "no request"),
        (item("x" * 401), CELL, "too_long", ""),
        (item(context=None), CELL, "off_context", ""),
        (item(context={"current_pr": "x"}), CELL, "malformed", "context: git.current_pr"),
        (item(context={"branch": "x"}), CELL, "malformed", "context: git.branch"),
        (item(args={"number": "seven"}), CELL, "invalid", "argument_type: args.number"),
        (item(args={"number": True}), CELL, "invalid", "argument_type: args.number"),
        (item(args=[1]), CELL, "invalid", "args: args"),
        (item(subcommand="close"), CELL, "off_cell", "'pr close'"),
        (item(subcommand="shut"), CELL, "invalid", "unknown_subcommand"),
        (item(flags=["loud"]), CELL, "invalid", "unknown_flag"),
        (item(args={"number": 8}), THIS, "context_unused", ""),
        (item(), GAP, "context_fills_gap", "number"),
    ],
)
def test_the_screen_says_why(raw, cell, reason, detail):
    screen = Screen(sample("gh"), OPTIONS)
    assert screen.add(raw, cell, "r1") is None
    (row,) = screen.rejected
    assert (row.reason, row.request_id, row.cell) == (reason, "r1", cell.id)
    assert detail in row.detail
    assert row.item == raw


def test_the_screen_gives_values_their_types():
    screen = Screen(sample("gh"), OPTIONS)
    row = screen.add(item(args={"number": "7"}, context={"current_pr": "#7"}), CELL, "r")
    assert row.output["args"] == {"number": 7}
    assert row.context == {"git": {"current_pr": 7}}
    assert screen.add(item("look at this pr"), THIS, "r").output["args"] == {"number": 7}


def test_the_screen_knows_duplicates():
    screen = Screen(sample("gh"), CliGenerationOptions(same_request=2))
    assert screen.add(item("show me pr 7 please"), CELL, "r")
    for request, args, reason in [
        ("Show me  PR 7 please", {"number": 7}, "duplicate"),
        ("show me pr 7 please", {"number": 9}, "contradicts"),
        ("show me, pr 7, please!", {"number": 7}, "near_duplicate"),
    ]:
        assert screen.add(item(request, args=args), CELL, "r") is None
        assert screen.rejected[-1].reason == reason, request
    assert screen.add(item("show me pr 8 please", args={"number": 8}), CELL, "r")
    assert screen.add(item("show me pr 9 please", args={"number": 9}), CELL, "r") is None
    assert screen.rejected[-1].reason == "same_request"


def test_requests_tell_a_large_model_what_it_needs():
    options = CliGenerationOptions(num_examples=3000)
    requests = first_requests(sample("gh"), options=options, seed=1)
    assert len({request.system for request in requests}) == 1
    assert "- issue reopen: Reopen an issue" in requests[0].system
    by_cell = {request.cell: request for request in requests}
    text = by_cell["pr list/options/context"].prompt
    assert '"pr list"' in text
    assert 'arg "state" (one of open, closed, merged, all, optional, default open)' in text
    assert "comes with a context" in text
    missing = by_cell["pr checkout without number/missing/plain"]
    assert "There is no context" in missing.prompt
    assert "args" not in missing.answer_schema["properties"]["items"]["items"]["properties"]


def test_normal_requests():
    assert normal("Close  PR #12 in 3.5h") == "close pr ## in #.#h"


def test_self_bleu_knows_repetition():
    assert self_bleu(["a"]) is None
    assert self_bleu(["show all the open prs now"] * 5) == 1.0
    varied = self_bleu(["show all prs", "close issue four now", "what is new", "clone that"])
    assert varied < 0.3
    assert measure(sample("gh"), []).largest is None
