"""The agent that finds the names in a request to the media archive."""

from __future__ import annotations

import random
import re
import tomllib

from tools.sample.archive import Answer, ArchiveAgent
from tools.sample.language import GRAMMAR

TYPES = ["DATE", "ORG", "PERSON", "PLACE", "PRODUCT"]

# As what the old agent takes an entity by mistake.
CONFUSIONS = {
    "DATE": ["PLACE"],
    "ORG": ["PERSON", "PRODUCT", "PLACE"],
    "PERSON": ["PLACE", "ORG", "DATE"],
    "PLACE": ["PERSON", "ORG"],
    "PRODUCT": ["ORG", "PLACE"],
}


class EntityAgent(ArchiveAgent):
    """Finds up to four entities of five types."""

    name = "entity_extraction_agent"
    error_rate = 0.36
    misshaped = (
        {"entities": "Lisbon"},
        {"entities": [{"type": "PLACE"}]},
        {"entities": ["Oslo", "Porto"]},
    )
    unknown = (
        {"entities": [{"text": "the harbour", "type": "THING"}]},
        {"entities": [{"text": "Oslo", "type": "PLACE"}, {"text": "clip", "type": "MEDIA"}]},
    )
    words = tomllib.loads((GRAMMAR / "entities.toml").read_text("utf-8"))

    def request(self, *, late: bool) -> tuple[str, Answer]:
        """Asks for recordings of people, organisations, places, dates and products."""
        rng, style = self.speaker.rng, self.speaker.grammar.shared["style"]
        templates = self.words["late" if late else "templates"]
        # Requests with many names are more frequent than there are templates of them.
        weights = [1 + 2 * template.count("{") for template in templates]
        text, entities = self._fill(rng.choices(templates, weights)[0])
        # Typing habits would change the names; words around the request do not.
        if rng.random() < 0.3:
            text = f"{rng.choice(style['openers'])} {text}"
        if rng.random() < 0.25:
            text = f"{text.rstrip('?.')}, {rng.choice(style['closers'])}"
        if rng.random() < 0.5:
            text = text[0].upper() + text[1:]
        return text, {"entities": entities}

    def _fill(self, template: str) -> tuple[str, list[dict[str, str]]]:
        entities: list[dict[str, str]] = []
        used: set[str] = set()

        def put(slot: re.Match[str]) -> str:
            options = [text for text in self.words["slots"][slot[1]] if text not in used]
            choice: str = self.speaker.rng.choice(options)
            used.add(choice)
            marked = re.search(r"\[(.+)\]", choice)
            entities.append({"text": marked[1] if marked else choice, "type": slot[1]})
            return re.sub(r"[\[\]]", "", choice)

        return re.sub(r"\{([A-Z]+)\}", put, template), entities

    def mistaken(self, rng: random.Random, truth: Answer) -> Answer:
        """Entities are missing, of another type, or made up."""
        given = [dict(entity) for entity in truth["entities"]]
        chance = rng.random()
        if given and chance < 0.45:
            del given[rng.randrange(len(given))]
        elif given and chance < 0.85:
            wrong = rng.choice(given)
            wrong["type"] = rng.choice(CONFUSIONS[wrong["type"]])
        else:
            kind = rng.choice(sorted(self.words["invented"]))
            given.append({"text": rng.choice(self.words["invented"][kind]), "type": kind})
        return {"entities": given}

    def written(self, answer: Answer) -> Answer:
        """Mostly in the order of the request."""
        entities = [dict(entity) for entity in answer["entities"]]
        if self.rng.random() < 0.1:
            self.rng.shuffle(entities)
        return {"entities": entities}

    @staticmethod
    def same(first: Answer | None, second: Answer | None) -> bool:
        """Order does not count."""
        if first is None or second is None:
            return first is second
        return _pairs(first) == _pairs(second)


def _pairs(answer: Answer) -> set[tuple[str, str]]:
    return {(entity["text"], entity["type"]) for entity in answer["entities"]}
