"""``python -m tools.conversations_sample.make [FOLDER]``: writes the sample, always the same.

The dialogues are written by hand; this gives them the layouts of the exports: ids, times, trees
with regenerated answers, hidden nodes, thoughts, tools and files.
"""

from __future__ import annotations

import argparse
import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tools.conversations_sample.material import Dialogue, Said, dialogues

from tracetune.files import atomic_path

FOLDER = Path(__file__).parents[2] / "data/01_raw/demo/conversations"
SEED = 20_260

_ROOT = "00000000-0000-4000-8000-000000000000"
_PROFILE = "I run small web shops for other people and write most things myself."
_INSTRUCTIONS = "Be direct. Do the work, then say what you decided."
_MODELS = ("gpt-4o", "gpt-5", "gpt-4.1")


class Clock:
    """Ids and times that hang on a seed.

    Args:
        seed: The seed.
        start: First moment.
    """

    def __init__(self, seed: str, start: datetime) -> None:
        self.draw = random.Random(seed)
        self.now = start

    def uuid(self) -> str:
        """The next id."""
        return str(uuid.UUID(int=self.draw.getrandbits(128), version=4))

    def tick(self) -> datetime:
        """A moment later."""
        self.now += timedelta(seconds=self.draw.uniform(4, 240))
        return self.now


def write(folder: Path, seed: int = SEED) -> None:
    """Writes the three files."""
    chatgpt: list[Any] = []
    claude: list[Any] = []
    plain: list[Any] = []
    draw = random.Random(seed)
    start = datetime(2025, 1, 7, 8, 12, tzinfo=UTC)
    for number, dialogue in enumerate(dialogues()):
        start += timedelta(hours=draw.uniform(9, 90))
        clock = Clock(f"{seed}:{number}:{dialogue.title}", start)
        layout = draw.choices(("chatgpt", "claude", "plain"), (5, 5, 3))[0]
        if dialogue.has("F") or (dialogue.has("C") and layout == "plain"):
            layout = "claude"
        elif dialogue.has("B") and layout == "plain":
            layout = "chatgpt"
        if layout == "chatgpt":
            chatgpt.append(_chatgpt(dialogue, clock, custom=draw.random() < 0.3))
        elif layout == "claude":
            # Exports of some years ago had no parents: the messages followed each other.
            tree = dialogue.has("B") or draw.random() < 0.6
            claude.append(_claude(dialogue, clock, tree=tree))
        else:
            plain.append(_plain(dialogue, clock))
    _save(folder / "chatgpt" / "conversations.json", json.dumps(chatgpt, ensure_ascii=False))
    _save(folder / "claude" / "conversations.json", json.dumps(claude, ensure_ascii=False))
    lines = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in plain)
    _save(folder / "plain" / "notes.jsonl", lines)


def _save(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _chatgpt(dialogue: Dialogue, clock: Clock, *, custom: bool) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    model = clock.draw.choice(_MODELS)
    opened = clock.now

    def node(parent: str | None, message: dict[str, Any] | None) -> str:
        key = message["id"] if message else clock.uuid()
        mapping[key] = {"id": key, "message": message, "parent": parent, "children": []}
        if parent is not None:
            mapping[parent]["children"].append(key)
        return str(key)

    def message(role: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
        metadata = {"model_slug": model} if role == "assistant" else {}
        metadata |= more.pop("metadata", {})
        return {
            "id": clock.uuid(),
            "author": {"role": role, "name": more.pop("name", None), "metadata": {}},
            "create_time": round(clock.tick().timestamp(), 6) if role != "system" else None,
            "update_time": None,
            "content": content,
            "status": "finished_successfully",
            "end_turn": role == "assistant" or None,
            "weight": 1.0,
            "metadata": metadata,
            "recipient": more.pop("recipient", "all"),
            "channel": None,
        }

    at = node(None, None)
    hidden = {"is_visually_hidden_from_conversation": True}
    at = node(at, message("system", _text(""), metadata=hidden))
    if custom:
        context = {
            "content_type": "user_editable_context",
            "user_profile": _PROFILE,
            "user_instructions": _INSTRUCTIONS,
        }
        at = node(at, message("user", context, metadata=hidden))
    for turn in dialogue.said:
        if turn.kind == "B":
            node(at, message("assistant", _text(turn.text)))
            continue
        if turn.kind == "A" and model == "gpt-5":
            thought = {"content_type": "thoughts", "thoughts": [{"summary": "Answering"}]}
            at = node(at, message("assistant", thought))
        at = node(at, _chatgpt_message(turn, message))
    return {
        "title": dialogue.title,
        "create_time": round(opened.timestamp(), 6),
        "update_time": round(clock.now.timestamp(), 6),
        "mapping": mapping,
        "moderation_results": [],
        "current_node": at,
        "conversation_id": (identifier := clock.uuid()),
        "is_archived": False,
        "default_model_slug": model,
        "id": identifier,
    }


def _chatgpt_message(turn: Said, message: Any) -> dict[str, Any]:
    if turn.kind == "C":
        code = {"content_type": "code", "language": "unknown", "text": turn.text}
        return dict(message("assistant", code, recipient=turn.name))
    if turn.kind == "T":
        output = {"content_type": "execution_output", "text": turn.text}
        return dict(message("tool", output, name=turn.name))
    role = {"S": "system", "U": "user", "A": "assistant"}[turn.kind]
    return dict(message(role, _text(turn.text)))


def _text(text: str) -> dict[str, Any]:
    return {"content_type": "text", "parts": [text]}


def _claude(dialogue: Dialogue, clock: Clock, *, tree: bool) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    opened, at = clock.now, _ROOT
    files: list[Said] = []
    blocks: list[dict[str, Any]] = []
    calls: list[str] = []
    for turn in dialogue.said:
        if turn.kind == "F":
            files.append(turn)
            continue
        if turn.kind == "C":
            calls.append(clock.uuid().replace("-", "")[:20])
            call = {"type": "tool_use", "id": f"toolu_{calls[-1]}", "name": turn.name}
            blocks.append(
                {
                    **_times(clock),
                    **call,
                    "input": json.loads(turn.text)
                    if turn.text.startswith("{")
                    else {"code": turn.text},
                }
            )
            continue
        if turn.kind == "T":
            result = {
                "type": "tool_result",
                "tool_use_id": f"toolu_{calls[-1]}",
                "name": turn.name,
                "is_error": False,
                "content": [{"type": "text", "text": turn.text}],
            }
            blocks.append({**_times(clock), **result})
            continue
        if turn.kind == "S":  # a style or project instruction is no message of the export
            continue
        sender = "human" if turn.kind == "U" else "assistant"
        if sender == "assistant" and not blocks and clock.draw.random() < 0.2:
            thought = {"type": "thinking", "thinking": "A direct request.", "summaries": []}
            blocks.append({**_times(clock), **thought})
        blocks.append({**_times(clock), "type": "text", "text": turn.text, "citations": []})
        made: dict[str, Any] = {
            "uuid": clock.uuid(),
            "text": turn.text,
            "content": blocks,
            "sender": sender,
            "created_at": _iso(clock.tick()),
            "updated_at": _iso(clock.now),
            "attachments": [
                {
                    "file_name": file.name,
                    "file_size": len(file.text),
                    "file_type": "txt",
                    "extracted_content": file.text,
                }
                for file in files
            ],
            "files": [],
        }
        if tree:
            made["parent_message_uuid"] = at
        messages.append(made)
        blocks, files = [], []
        if turn.kind != "B":
            at = made["uuid"]
    found: dict[str, Any] = {
        "uuid": clock.uuid(),
        "name": dialogue.title,
        "summary": "",
        "created_at": _iso(opened),
        "updated_at": _iso(clock.now),
        "account": {"uuid": str(uuid.UUID(int=SEED, version=4))},
        "chat_messages": messages,
    }
    if tree:
        found["current_leaf_message_uuid"] = at
    return found


def _times(clock: Clock) -> dict[str, str]:
    return {"start_timestamp": _iso(clock.now), "stop_timestamp": _iso(clock.now)}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _plain(dialogue: Dialogue, clock: Clock) -> dict[str, Any]:
    roles = {"S": "system", "U": "user", "A": "assistant"}
    opened = clock.now
    return {
        "id": f"{dialogue.theme}-{clock.draw.randrange(1000, 9999)}",
        "title": dialogue.title,
        "created_at": _iso(opened),
        "messages": [
            {"role": roles[turn.kind], "content": turn.text, "created_at": _iso(clock.tick())}
            for turn in dialogue.said
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.conversations_sample.make", description=__doc__
    )
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder = parser.parse_args().folder
    write(folder)
    for path in sorted(folder.rglob("*.json*")):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
