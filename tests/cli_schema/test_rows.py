"""Training rows: prompts, groups, and a split that shares no request."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli_schema.builders import sample
from tests.cli_schema.test_generate import generated
from tracetune.cli_schema.context import Context, GitContext
from tracetune.cli_schema.objects import problems
from tracetune.cli_schema.prompt import PromptOptions, prompt_messages, system_text, user_text
from tracetune.cli_schema.rows import group_of_each, make_rows, object_of, request_of, structure
from tracetune.cli_schema.screen import Written, normal
from tracetune.splits import SplitOptions, assign_by_hash, verify


@pytest.mark.parametrize("name", ["demo", "gh", "docker", "zorp"])
def test_no_request_stands_on_two_sides(name):
    rows = make_rows(sample(name), generated(name).examples, name=name, tenant="t")
    manifest = assign_by_hash(rows, test_share=0.1, options=SplitOptions(), seed=5)
    verify(manifest, rows)
    sides: dict[str, set[str]] = {}
    structures: dict[str, set[str]] = {}
    for row, written in zip(rows, generated(name).examples, strict=True):
        split = manifest.place(row.id).split
        sides.setdefault(normal(request_of(row)), set()).add(split)
        structures.setdefault(structure(written), set()).add(split)
    assert all(len(found) == 1 for found in sides.values())
    assert all(len(found) == 1 for found in structures.values())
    counts = manifest.counts["sft"]
    assert counts["test"] > 0.08 * len(rows)
    assert counts["validation"] > 0.06 * len(rows)


def test_rows_hold_what_later_stages_need():
    gh = sample("gh")
    written = generated("gh").examples
    rows = make_rows(gh, written, name="gh", tenant="t")
    assert len({row.id for row in rows}) == len(rows)
    for row, made in zip(rows, written, strict=True):
        assert request_of(row) == made.request
        assert object_of(row) == made.output
        assert problems(gh, object_of(row)) == []
        assert row.provenance.source == "cli"
        assert row.provenance.created_at is None
        assert row.provenance.ids == {
            "schema": "gh",
            "cell": made.cell,
            "request": made.request_id,
        }
        assert row.tags["target"] == made.target
        assert row.tags["context"] == ("yes" if made.context else "no")
        assert [message.role for message in row.prompt] == ["system", "user"]
    assert rows == make_rows(gh, written, name="gh", tenant="t")


def test_groups_do_not_hang_on_the_order():
    written = generated("gh").examples[:400]
    groups = dict(zip((r.request for r in written), group_of_each(written), strict=True))
    back = written[::-1]
    assert dict(zip((r.request for r in back), group_of_each(back), strict=True)) == groups
    assert len(set(groups.values())) > 100


WORDS = st.sampled_from(
    ["show", "pr", "7", "12", "please", "now", "open", "the", "list", "me", "all"]
)


@settings(max_examples=60)
@given(
    st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=25), st.integers(0, 9)
)
def test_equal_requests_are_never_divided(requests, seed):
    demo = sample("demo")
    written = [
        Written(
            request=" ".join(words).upper() if i % 2 else " ".join(words),
            context={"git": {"current_pr": i + 1}},
            output={"type": "clarification", "message": "m", "suggestions": []},
            cell=f"c{i}",
            target="clarification",
            style="ambiguous",
            request_id=f"r{i}",
        )
        for i, words in enumerate(requests)
    ]
    rows = make_rows(demo, written, name="demo", tenant="t")
    manifest = assign_by_hash(rows, test_share=0.3, options=SplitOptions(), seed=seed)
    verify(manifest, rows)
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(normal(request_of(row)), set()).add(manifest.place(row.id).split)
    assert all(len(found) == 1 for found in sides.values())


def test_structure_leaves_out_what_the_answer_takes():
    def of(request, args):
        output = {
            "type": "command",
            "command": "pr",
            "subcommand": "list",
            "args": args,
            "flags": [],
        }
        return structure(
            Written(
                request=request,
                context=None,
                output=output,
                cell="c",
                target="pr list",
                style="casual",
                request_id="r",
            )
        )

    assert of("List OPEN prs by bob", {"state": "open", "author": "bob"}) == of(
        "list closed prs by carol", {"state": "closed", "author": "carol"}
    )
    assert of("list 5 prs", {"limit": 5}) == "list <limit> prs"
    assert of("Hey can you list 5 prs real quick, please?", {"limit": 5}) == "list <limit> prs"
    assert of("please", {}) == "please"
    assert of("list in progress ones", {"status": "in_progress"}) == "list <status> ones"


def test_the_context_stands_before_the_request():
    git = GitContext(
        repo_owner="a",
        repo_name="b",
        current_branch="x\ny",
        current_pr=3,
        has_uncommitted_changes=True,
        has_staged_changes=False,
    )
    text = user_text("merge this", Context(git=git))
    assert text == "repo: a/b\nbranch: x y\npr: #3\nuncommitted: yes\nstaged: no\n\nmerge this"
    assert user_text("a\n\nb", None) == "a\n\nb"
    assert user_text("x", Context(git=GitContext(repo_name="b"))) == "x"


def test_the_system_turn_tells_what_fits():
    gh = sample("gh")
    assert "pr list [state=open|closed|merged|all]" in system_text(
        gh, PromptOptions(detail="arguments")
    )
    short = system_text(gh, PromptOptions())
    assert "pr: list view create merge checkout close ready" in short
    assert len(short) <= 600
    assert "\n" not in system_text(gh, PromptOptions(max_chars=200))
    messages = prompt_messages(sample("docker"), "x", None, PromptOptions(detail="commands"))
    assert messages[0].content.endswith("ps run stop logs build pull push")
