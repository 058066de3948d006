"""The items of the media archive that is searched, made from ``grammar/catalogue.toml``."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from typing import Any

from tools.sample.language import GRAMMAR
from tools.sample.private import in_archive
from tools.sample.spans import SEED

NEW_ITEMS = 16
"""Items that came into the archive in the last days only."""
SILENT = 2
"""Items of which the archive has no text."""
UPLOADED_TWICE = 2


@dataclass(frozen=True)
class Subject:
    """What items are about: its name in the archive and the words people use for it."""

    name: str
    theme: str
    asked: tuple[str, ...]


@dataclass(frozen=True)
class Aspect:
    """What kind of item it is: a primer, a portrait, newsreels and so on."""

    name: str
    asked: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """One item.

    Attributes:
        id: Its id, such as ``clip-0417``.
        content: Title and text; None where the archive has no text of it.
        metadata: Title, theme and minutes.
        subject: What it is about.
        aspect: What kind of item it is.
        new: Whether it came in the last days.
    """

    id: str
    content: str | None
    metadata: dict[str, Any]
    subject: Subject
    aspect: Aspect
    new: bool = False


def make_catalogue() -> list[Item]:
    """All items; two calls give the same."""
    words = tomllib.loads((GRAMMAR / "catalogue.toml").read_text("utf-8"))
    rng = random.Random(f"catalogue:{SEED}")
    numbers = iter(rng.sample(range(100, 1000), 300))
    aspects = [(Aspect(raw["name"], tuple(raw["asked"])), raw) for raw in words["aspects"]]
    items: list[Item] = []
    for theme in words["themes"]:
        for raw in theme["subjects"]:
            subject = Subject(raw["name"], theme["name"], tuple(raw["asked"]))
            for aspect, form in aspects:
                if aspect.name not in raw:
                    continue
                title, text = _text(rng, subject, form, raw[aspect.name], words)
                metadata = {
                    "title": title,
                    "theme": subject.theme,
                    "minutes": rng.randrange(3, 90),
                }
                number = f"clip-{next(numbers):04d}"
                items.append(Item(number, f"{title}. {text}", metadata, subject, aspect))
    return _odd(rng, items, numbers)


def _text(
    rng: random.Random, subject: Subject, form: dict[str, Any], fact: str, words: dict[str, Any]
) -> tuple[str, str]:
    person, year = rng.choice(words["people"]), rng.choice(words["years"])
    name = subject.name
    title = rng.choice(form["titles"]).format(
        s=name, S=name[0].upper() + name[1:], p=person, y=year
    )
    sentences = [fact, rng.choice(form["sentences"]).format(p=person, y=year)]
    if rng.random() < 0.25:
        sentences.reverse()
    if rng.random() < 0.12:
        del sentences[1]
    return title, " ".join(sentences)


def _odd(rng: random.Random, items: list[Item], numbers: Any) -> list[Item]:
    """Marks new items, and adds what archives hold too: silent items, one thing twice."""
    new = set(rng.sample(range(len(items)), NEW_ITEMS))
    items = [
        Item(i.id, i.content, i.metadata, i.subject, i.aspect, new=place in new)
        for place, i in enumerate(items)
    ]
    usual = [place for place, item in enumerate(items) if not item.new]
    places = rng.sample(usual, SILENT + UPLOADED_TWICE + 1)
    for number, place in enumerate(places[:-1]):
        item = items[place]
        again = item.content if number >= SILENT else None
        metadata = item.metadata if again else {"theme": item.subject.theme}
        number_text = f"clip-{next(numbers):04d}"
        items.append(Item(number_text, again, metadata, item.subject, item.aspect))
    address = in_archive()["email"][-1]
    item = items[places[-1]]
    content = f"{item.content} Rights: write to {address}."
    items[places[-1]] = Item(item.id, content, item.metadata, item.subject, item.aspect)
    return items
