"""The agent that selects search profiles for a request to the media archive."""

from __future__ import annotations

import random
import re
import tomllib

from tools.sample.archive import Answer, ArchiveAgent
from tools.sample.language import GRAMMAR

PROFILES = ["audio", "captions", "faces", "frames", "slides", "transcript"]

# What the old agent takes by mistake, or in addition.
CONFUSIONS = {
    "audio": ["transcript", "captions"],
    "captions": ["transcript", "slides"],
    "faces": ["frames", "frames", "captions"],
    "frames": ["faces", "captions"],
    "slides": ["captions", "frames"],
    "transcript": ["captions", "audio"],
}


class ProfileAgent(ArchiveAgent):
    """Selects one to three of the known profiles."""

    name = "profile_selection_agent"
    error_rate = 0.3
    misshaped = (
        {"selected_profiles": "frames"},
        {"selected_profiles": [1, 2]},
        {"profiles": ["frames"]},
    )
    unknown = (
        {"selected_profiles": ["thumbnails"]},
        {"selected_profiles": ["transcript", "speech"]},
    )
    words = tomllib.loads((GRAMMAR / "profiles.toml").read_text("utf-8"))

    def request(self, *, late: bool) -> tuple[str, Answer]:
        """Asks for something that can be seen, heard, read or all of it."""
        rng = self.speaker.rng
        profiles = rng.sample(PROFILES, rng.choices([1, 2, 3], [5, 4, 1])[0])
        cues = [
            self._fill(rng.choice(self.words["late" if late else "cues"][profile]))
            for profile in profiles
        ]
        joins, asks = self.words["words"]["joins"], self.words["words"]["asks"]
        text = cues[0]
        for cue in cues[1:]:
            text = rng.choice(joins).format(a=text, b=cue)
        return self.speaker.dress(rng.choice(asks).format(a=text)), {"selected_profiles": profiles}

    def _fill(self, template: str) -> str:
        slots = self.words["slots"]
        return re.sub(r"\{(\w+)\}", lambda slot: self.speaker.rng.choice(slots[slot[1]]), template)

    def mistaken(self, rng: random.Random, truth: Answer) -> Answer:
        """One profile is missing, too many, or another."""
        right = truth["selected_profiles"]
        given = list(right)
        place = rng.randrange(len(right))
        other = rng.choice([p for p in CONFUSIONS[given[place]] if p not in given] or PROFILES)
        chance = rng.random()
        if chance < 0.4 and len(given) > 1:
            del given[place]
        elif chance < 0.6 and len(given) < 3 and other not in given:
            given.append(other)
        elif other not in given:
            given[place] = other
        else:
            given[place] = rng.choice([profile for profile in PROFILES if profile not in given])
        return {"selected_profiles": given}

    def written(self, answer: Answer) -> Answer:
        """In any order."""
        profiles = answer["selected_profiles"]
        return {"selected_profiles": self.rng.sample(profiles, len(profiles))}

    @staticmethod
    def same(first: Answer | None, second: Answer | None) -> bool:
        """Order does not count."""
        if first is None or second is None:
            return first is second
        return set(first["selected_profiles"]) == set(second["selected_profiles"])
