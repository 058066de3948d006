"""Layouts of exports become one kind of conversation, or an error that names the place."""

from __future__ import annotations

import copy
import json

import pytest

from tests.conversations.builders import save
from tracetune.conversations.exchanges import exchanges
from tracetune.conversations.read import read_file, read_folder, redacted
from tracetune.errors import DataError
from tracetune.privacy import PrivacyOptions, Redactor

ZERO = "00000000-0000-4000-8000-000000000000"


def node(key, parent, role=None, text=None, **more):
    message = None
    if role is not None:
        content = more.pop("content", {"content_type": "text", "parts": [text]})
        author = {"role": role, "name": more.pop("name", None)}
        message = {"id": key, "author": author, "content": content, "create_time": 1.7e9, **more}
    return {"id": key, "parent": parent, "message": message, "children": []}


def chatgpt(*nodes, current, **more):
    return {
        "conversation_id": "conv-1",
        "title": "A title",
        "create_time": 1.7e9,
        "current_node": current,
        "mapping": {entry["id"]: entry for entry in nodes},
        **more,
    }


TREE = chatgpt(
    node("root", None),
    node("hidden", "root", "system", ""),
    node(
        "custom",
        "hidden",
        "user",
        content={
            "content_type": "user_editable_context",
            "user_profile": "I like tea.",
            "user_instructions": "Be brief.",
        },
    ),
    node("u1", "custom", "user", "What is 2+2?"),
    node("old", "u1", "assistant", "Should I compute it?"),
    node("think", "u1", "assistant", content={"content_type": "thoughts", "thoughts": []}),
    node(
        "call",
        "think",
        "assistant",
        content={"content_type": "code", "text": "print(2+2)"},
        recipient="python",
    ),
    node(
        "result",
        "call",
        "tool",
        content={"content_type": "execution_output", "text": "4"},
        name="python",
    ),
    node("a1", "result", "assistant", "4"),
    node("u2", "a1", "user", "Thanks"),
    current="u2",
)


def test_chatgpt_tree_with_regeneration_tools_and_hidden_nodes(tmp_path):
    [found] = read_file(save(tmp_path / "conversations.json", [TREE]))
    assert (found.provider, found.id, found.title) == ("chatgpt", "conv-1", "A title")
    path = found.path()
    assert [(turn.id, turn.role) for turn in path] == [
        ("custom", "system"),
        ("u1", "user"),
        ("call", "assistant"),
        ("result", "tool"),
        ("a1", "assistant"),
        ("u2", "user"),
    ]
    assert path[0].content == "I like tea.\n\nBe brief."
    assert path[3].name == "python"
    assert {turn.id for turn in found.alternatives()["u1"]} == {"old", "call"}
    first, last = exchanges(found)
    assert first.branches == ("Should I compute it?",)
    assert [message.role for message in first.between] == ["assistant", "tool"]
    assert (first.answer, first.answer_id) == ("4", "a1")
    assert not last.answered
    assert last.history[0].role == "system"


def test_chatgpt_other_contents(tmp_path):
    parts = ["Look:", {"content_type": "image_asset_pointer", "asset_pointer": "file-1"}]
    speech = [{"content_type": "audio_transcription", "text": "spoken"}]
    tree = chatgpt(
        node("u", None, "user", content={"content_type": "multimodal_text", "parts": parts}),
        node("a", "u", "assistant", content={"content_type": "multimodal_text", "parts": speech}),
        node("b", "a", "tool", content={"content_type": "tether_quote", "text": "q\ud800"}),
        current="b",
    )
    [found] = read_file(_raw(tmp_path, [tree]))
    user, answer, quote = found.path()
    assert user.content == "Look:"
    assert [file.name for file in user.attachments] == ["file-1"]
    assert answer.content == "spoken"
    assert quote.content == "q\ufffd"


def test_new_kinds_of_content_are_kept_but_nobody_said_them(tmp_path):
    tree = chatgpt(
        node("u", None, "user", "q"),
        node("w", "u", "assistant", content={"content_type": "widget", "spec": {"x": 1}}),
        node("a", "w", "assistant", "It is x."),
        current="a",
    )
    blocks = [{"type": "dance", "steps": 3}, {"type": "text", "text": "Done."}]
    list_ = claude(
        claude_message("m", "human", "q"), claude_message("n", "assistant", "", content=blocks)
    )
    for found in read_file(_raw(tmp_path, [tree, list_])):
        [part] = exchanges(found)
        assert part.answer in ("It is x.", "Done.")
        assert any("spec" in t.content or "steps" in t.content for t in found.turns)


def _raw(tmp_path, value):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(value))  # escapes keep half characters
    return path


def claude_message(uuid, sender, text, parent=None, **more):
    content = more.pop("content", [{"type": "text", "text": text}])
    found = {"uuid": uuid, "sender": sender, "text": text, "content": content}
    if parent is not None:
        found["parent_message_uuid"] = parent
    return {**found, "created_at": "2025-03-01T10:00:00.000000Z", **more}


def claude(*messages, **more):
    return {"uuid": "conv-2", "name": "", "chat_messages": list(messages), **more}


def test_claude_list_with_tools_and_attachments(tmp_path):
    blocks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "name": "search", "input": {"q": "x"}},
        {"type": "tool_result", "name": "search", "content": [{"type": "text", "text": "found"}]},
        {"type": "text", "text": "It is x."},
    ]
    pasted = [{"file_name": "", "extracted_content": "long text"}]
    value = claude(
        claude_message("m1", "human", "", content=[], attachments=pasted),
        claude_message("m2", "assistant", "", content=blocks),
        claude_message("m3", "human", "older exports have only text", content=[]),
    )
    [found] = read_file(save(tmp_path / "c.json", [value]))
    assert [(turn.id, turn.role, turn.content) for turn in found.path()] == [
        ("m1", "user", ""),
        ("m2", "assistant", "Let me look."),
        ("m2/1", "assistant", '{"q": "x"}'),
        ("m2/2", "tool", "found"),
        ("m2/3", "assistant", "It is x."),
        ("m3", "user", "older exports have only text"),
    ]
    first = exchanges(found)[0]
    assert [(file.name, file.content) for file in first.attachments] == [
        ("pasted text", "long text")
    ]
    assert first.answer == "It is x."


@pytest.mark.parametrize("named", [True, False])
def test_claude_tree(tmp_path, named):
    value = claude(
        claude_message("m1", "human", "Hi", ZERO),
        claude_message("m2", "assistant", "old", "m1"),
        claude_message("m3", "assistant", "new", "m1", created_at="2025-03-01T11:00:00Z"),
    )
    if named:
        value["current_leaf_message_uuid"] = "m2"
    [found] = read_file(save(tmp_path / "c.json", [value]))
    assert [turn.content for turn in found.path()] == ["Hi", "old" if named else "new"]
    assert len(found.alternatives()["m1"]) == 2


def test_plain_lines_with_and_without_ids(tmp_path):
    path = tmp_path / "notes.jsonl"
    lines = [
        {"id": "a", "messages": [{"role": "user", "content": "x"}]},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "y"}]},
        {
            "id": "t",
            "leaf": "3",
            "messages": [
                {"id": "1", "role": "user", "content": "q"},
                {"id": "2", "role": "assistant", "content": "bad"},
                {"id": "3", "parent": "1", "role": "assistant", "content": "good"},
            ],
        },
        {"id": "empty", "messages": []},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    found = list(read_file(path))
    assert [c.id for c in found][0::2] == ["a", "t"]
    assert len(found[1].id) == 20
    assert [turn.content for turn in found[2].path()] == ["q", "good"]


def broken(change):
    value = copy.deepcopy(TREE)
    change(value)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (broken(lambda v: v["mapping"]["a1"].update(parent="zz")), "a1: its parent 'zz' does not"),
        (broken(lambda v: v["mapping"]["u1"].update(parent="a1")), "in a circle"),
        (broken(lambda v: v.update(current_node="gone")), "'gone', is not among its turns"),
        (broken(lambda v: v.update(conversation_id=None)), "conversation_id: a text is expected"),
        (
            broken(lambda v: v["mapping"]["a1"]["message"]["author"].update(role="boss")),
            r"conv-1\), mapping.a1.message.author.role: an unknown role: 'boss'",
        ),
        (
            broken(lambda v: v["mapping"]["a1"]["message"].update(create_time="soon")),
            "mapping.a1.message.create_time: no time: 'soon'",
        ),
        (
            broken(lambda v: v["mapping"]["a1"]["message"].update(content=None)),
            "mapping.a1.message.content: an object is expected here, not null",
        ),
        (claude(claude_message("m", "robot", "x")), r"conv-2\), chat_messages\[0\].sender"),
        (claude(claude_message("m", "human", "x"), claude_message("m", "human", "y")), "two mess"),
        (
            claude(claude_message("m", "human", "x", content=[{"type": None}])),
            r"chat_messages\[0\].content\[0\].type: a block has no kind",
        ),
        (claude(claude_message("m", "human", "x", "nobody")), "its parent 'nobody' does not exist"),
        (
            claude(claude_message("m", "human", "x"), current_leaf_message_uuid="n"),
            "there is no message 'n'",
        ),
        ({"id": "p", "messages": [{"role": "bot", "content": "x"}]}, r"messages\[0\].role"),
        ({"id": "p", "messages": [{"role": "user", "content": None}]}, "content is not a text"),
        ({"id": "p", "messages": [], "extra": 1}, "unknown fields: extra"),
        ({"id": "p", "turns": []}, "no known layout"),
        ({"messages": [], "mapping": {}}, "several layouts"),
        ([], "a conversation is an object"),
    ],
)
def test_errors_name_file_conversation_and_place(tmp_path, value, message):
    good = {"id": "first", "messages": [{"role": "user", "content": "x"}]}
    path = save(tmp_path / "export.json", [good, value])
    with pytest.raises(DataError, match=message) as error:
        list(read_file(path))
    assert "export.json, conversation 2" in str(error.value)
    assert error.value.remedy


def test_the_same_conversation_in_two_exports(tmp_path):
    later = copy.deepcopy(TREE)
    later["mapping"]["a2"] = node("a2", "u2", "assistant", "You're welcome.")
    later["current_node"] = "a2"
    save(tmp_path / "2024/conversations.json", [later])
    save(tmp_path / "2025/conversations.json", [TREE])
    save(tmp_path / "2025/user.json", {"id": "user-1"})
    [found] = read_folder(tmp_path)
    assert found.path()[-1].content == "You're welcome."
    with pytest.raises(DataError, match="stands twice"):
        list(read_file(save(tmp_path / "twice.json", [TREE, TREE])))
    with pytest.raises(DataError, match="there are no conversations"):
        read_folder(tmp_path / "empty")


def test_redaction_before_anything_else(tmp_path):
    value = {
        "id": "mail-me@example.com",
        "title": "for a@example.com",
        "messages": [{"role": "user", "content": "write to b@example.com"}],
    }
    [found] = read_file(save(tmp_path / "c.json", [value]))
    clean = redacted(found, Redactor(PrivacyOptions()))
    assert clean is not None
    assert "@" not in clean.model_dump_json()
    assert clean.path()[0].content == "write to <EMAIL>"
    redactor = Redactor(PrivacyOptions(policy="drop"))
    assert redacted(found, redactor) is None
    assert redactor.report().spans_dropped == 1
