"""Answers of the test server: any value that fits the schema, the same for the same request.

Where the prompt asks to write a number of messages, as the synthesis of the project does, the list
``items`` has that many entries, an enumerated name that the prompt mentions is used, and under
``rejected`` another one; so whole pipelines can run on it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from typing import Any

_WORDS = re.findall(
    r"\w+",
    """
    amber basil cedar delta ember fjord grove harbor island jasper kettle lantern meadow nectar
    orchard pebble quartz river saddle timber umbrella valley willow yonder zephyr anchor bridge
    candle donkey engine falcon garden hammer insect jacket kitten ladder magnet needle oyster
    """,
)


def answer(params: dict[str, Any]) -> Any:
    """A value that fits the schema that ``params`` ask for; text if they ask for none."""
    form = params.get("output_config", {}).get("format")
    prompt = prompt_of(params)
    seed = hashlib.sha256(json.dumps([prompt, params["system"]]).encode()).hexdigest()
    draw = random.Random(seed)
    if form is None:
        return " ".join(draw.choices(_WORDS, k=8))
    return _fill(form["schema"], form["schema"], draw, prompt, "")


def prompt_of(params: dict[str, Any]) -> str:
    """The text of the last turn."""
    content = params["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def _fill(schema: Any, root: Any, draw: random.Random, prompt: str, place: str) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return _choose(schema["enum"], draw, prompt, rejected="rejected" in place)
    for keyword in ("anyOf", "allOf"):
        if keyword in schema:
            return _fill(schema[keyword][0], root, draw, prompt, place)
    kind = schema["type"]
    if kind == "object":
        return {
            name: _fill(inner, root, draw, prompt, f"{place}.{name}")
            for name, inner in schema["properties"].items()
        }
    if kind == "array":
        asked = re.search(r"Write (\d+)", prompt)
        count = int(asked[1]) if asked and place == ".items" else 1 if asked else 2
        found = [_fill(schema["items"], root, draw, prompt, place) for _ in range(count)]
        if set(schema["items"].get("properties", {})) == {"name", "value"}:
            return list({pair["name"]: pair for pair in found}.values())
        return found
    return {
        "string": lambda: " ".join(draw.sample(_WORDS, 9)),
        "integer": lambda: draw.randint(1, 9),
        "number": lambda: draw.randint(1, 99) / 10,
        "boolean": lambda: draw.random() < 0.5,
        "null": lambda: None,
    }[kind]()


def _choose(names: list[Any], draw: random.Random, prompt: str, *, rejected: bool) -> Any:
    """The name that the prompt mentions first, else the first one; another one if ``rejected``."""
    first = prompt.split("\n", 1)[0]
    places = {name: re.search(rf"\b{re.escape(str(name))}\b", first) for name in names}
    mentioned = [(place.start(), name) for name, place in places.items() if place]
    wanted = min(mentioned)[1] if mentioned else names[0]
    return draw.choice([name for name in names if name != wanted] or names) if rejected else wanted
