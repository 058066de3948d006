"""Requests to invented command-line programs, for the text of the embedded base model.

A small model learns to copy (a number, a name) from a request into JSON only if it has read many
cases of it. The programs are made up anew for every conversation, from general words; none is one
that the project ships, though a name such as ``box list`` may stand in both.
"""

from __future__ import annotations

import json
import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "embedded_corpus" / "programs.toml"
_LISTED_SHARE = 0.5
"""Share of the programs whose commands are listed in the system turn."""
_ANY_WORD = 0.35
"""Share of the names (things, actions, arguments, flags) that are any word of programs: what such a
name says has to be copied, it cannot be known."""
_MOST_REQUESTS = 4
MIN_WORDS = 4
"""Shorter requests are everybody's: they would collide with held-out rows."""


@dataclass(frozen=True)
class _Action:
    """What one can do with a thing: what it needs and takes, and how people ask for it."""

    needs: str
    takes: list[str]
    flags: list[str]
    ways: list[str]


@dataclass(frozen=True)
class _Corpus:
    names: list[str]
    abouts: list[str]
    things: dict[str, list[str]]
    actions: dict[str, _Action]
    arguments: dict[str, tuple[str, list[str]]]
    flags: dict[str, list[str]]
    values: dict[str, list[str]]
    before: list[str]
    after: list[str]
    joints: list[str]
    systems: list[str]
    any_words: list[str]
    any_ways: dict[str, list[str]]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


@cache
def _read() -> _Corpus:
    found = tomllib.loads(PROGRAMS.read_text(encoding="utf-8"))
    talk = found["talk"]
    arguments = {}
    for name, text in found["arguments"].items():
        kind, ways = text.split(";", 1)
        arguments[name] = (kind, _words(ways))
    return _Corpus(
        names=_words(found["programs"]["names"]),
        abouts=_words(found["programs"]["abouts"]),
        things={name: _words(text) for name, text in found["things"].items()},
        actions={
            name: _Action(
                action["needs"],
                _words(action["takes"]),
                _words(action["flags"]),
                action["ways"].strip().splitlines(),
            )
            for name, action in found["actions"].items()
        },
        arguments=arguments,
        flags={name: _words(text) for name, text in found["flags"].items()},
        values={name: _words(text) for name, text in found["values"].items()},
        before=_words(talk["before"]),
        after=_words(talk["after"]),
        joints=[", and also ", ", and ", " and "],
        systems=talk["systems"].strip().splitlines(),
        any_words=_words(found["words"]["common"]),
        any_ways={name: text.strip().splitlines() for name, text in found["any"].items()},
    )


def words() -> list[str]:
    """Words that shall be tokens of their own, with and without a space before them."""
    found = tomllib.loads(PROGRAMS.read_text(encoding="utf-8"))["words"]
    plain = [word for text in found.values() for word in _words(text)]
    return [form for word in plain for form in (word, f" {word}")]


def request_of(user: str) -> str:
    """What the user says, without the lines of the context before it."""
    return user.rsplit("\n\n", 1)[-1]


class Programs:
    """Writes conversations with invented programs; the random sequence is the caller's."""

    def __init__(self, sequence: random.Random) -> None:
        """Takes the random sequence to draw from."""
        self.random = sequence
        self.corpus = _read()

    def conversation(self) -> list[dict[str, str]]:
        """One program and some requests to it."""
        things = self._names(list(self.corpus.things), self.random.randint(2, 6))
        program = {
            thing: self._names(list(self.corpus.actions), self.random.randint(2, 7))
            for thing in things
        }
        talk = [{"role": "system", "content": self._system(program)}]
        for _ in range(self.random.randint(2, _MOST_REQUESTS)):
            user, answer = self._exchange(program)
            while len(request_of(user).split()) < MIN_WORDS:
                user, answer = self._exchange(program)
            talk.append({"role": "user", "content": user})
            talk.append({"role": "assistant", "content": _compact(answer)})
        return talk

    def _names(self, known: list[str], count: int) -> list[str]:
        """Some of the known names, mixed with any words."""
        pick = self.random.sample(known, count)
        other = self.random.sample(self.corpus.any_words, count)
        mixed = [
            word if self.random.random() < _ANY_WORD else name
            for name, word in zip(pick, other, strict=True)
        ]
        return list(dict.fromkeys(mixed))

    def _some(self, known: list[str]) -> list[str]:
        return self._names(known, min(2, len(known)))

    def _action(self, name: str) -> _Action:
        """What is known of an action, or what can be said of any."""
        known = self.corpus.actions.get(name)
        if known is None:
            needs = self.random.choice(["", "number", "name", "id"])
            ways = self.corpus.any_ways["action" if needs else "bare_action"]
            known = _Action(needs, [], [], [way.replace("{a}", name) for way in ways])
        takes = self._names(
            known.takes or list(self.corpus.arguments), min(2, len(known.takes) or 2)
        )
        flags = self._names(known.flags or list(self.corpus.flags), min(2, len(known.flags) or 2))
        return _Action(known.needs, [n for n in takes if n != known.needs], flags, known.ways)

    def _system(self, program: dict[str, list[str]]) -> str:
        things = list(program)
        about = self.random.choice(self.corpus.abouts).format(
            t=things[0], ts=_several(things[0]), us=_several(things[-1])
        )
        name = self.random.choice(self.corpus.names)
        text = self.random.choice(self.corpus.systems).format(name=name, about=about)
        if self.random.random() >= _LISTED_SHARE:
            return text
        return "\n".join([text, *(f"{thing}: {' '.join(program[thing])}" for thing in program)])

    def _exchange(self, program: dict[str, list[str]]) -> tuple[str, dict[str, Any]]:
        thing = self.random.choice(list(program))
        draw = self.random.random()
        if draw < 0.08:
            return self._ambiguous(thing, program[thing])
        action = self.random.choice(program[thing])
        spec = self._action(action)
        if draw < 0.16 and spec.needs:
            return self._incomplete(thing, action, spec)
        return self._command(thing, action, spec)

    def _ambiguous(self, thing: str, actions: list[str]) -> tuple[str, dict[str, Any]]:
        said = self._said(thing, several=self.random.random() < 0.5)
        way = self.random.choice(
            ["something with {}", "do something about {}", "I need {}", "{}?", "the thing with {}"]
        )
        suggestions = [_suggestion(thing, action) for action in actions[:3]]
        answer = {"type": "clarification", "message": "Which of these?", "suggestions": suggestions}
        return self._context(self._polite(way.format(said))), answer

    def _incomplete(self, thing: str, action: str, spec: _Action) -> tuple[str, dict[str, Any]]:
        said = self.random.choice(["a {}", "one of the {}s", "some {}"]).format(self._said(thing))
        way = self.random.choice(spec.ways).split("{v}")[0]
        for word in ("{t}", "{ts}"):
            way = way.replace(f"the {word}", said).replace(word, said)
        for tail in (" number ", " #", " with the number ", " called ", " named ", " with id "):
            way = way.removesuffix(tail)
        answer = {
            "type": "clarification",
            "message": f"{thing} {action}: which {spec.needs}?",
            "suggestions": [_suggestion(thing, action)],
        }
        return self._context(self._polite(way.strip())), answer

    def _command(self, thing: str, action: str, spec: _Action) -> tuple[str, dict[str, Any]]:
        args: dict[str, Any] = {}
        said = self._said(thing, several="{ts}" in spec.ways[0])
        way = self.random.choice(spec.ways)
        context = None
        if spec.needs:
            value = self._value({"number": "integer", "id": "integer"}.get(spec.needs, "word"))
            args[spec.needs] = value
            if spec.needs == "number" and "{t} {v}" in way and self.random.random() < 0.2:
                context = f"{thing}: #{value}"  # the number stands in the context only
                way = way.replace("{t} {v}", "this {t}")
            way = way.replace("{v}", str(value))
        text = self._polite(way.replace("{ts}", said).replace("{t}", said))
        extras = self._arguments(spec, args)
        flags = [flag for flag in spec.flags if self.random.random() < 0.2]
        extras += [self.random.choice(self._flag_ways(flag)) for flag in flags]
        for index, extra in enumerate(extras):
            text += (" " if index == 0 else self.random.choice(self.corpus.joints)) + extra
        command = {
            "type": "command",
            "command": thing,
            "subcommand": action,
            "args": args,
            "flags": flags,
        }
        return self._context(text, context), command

    def _arguments(self, spec: _Action, args: dict[str, Any]) -> list[str]:
        """Fills some optional arguments in and gives the words for them."""
        extras = []
        for name in spec.takes:
            if self.random.random() < 0.3:
                kind, ways = self._argument_ways(name)
                args[name] = self._value(kind)
                extras.append(self.random.choice(ways).replace("{v}", str(args[name])))
        return extras

    def _argument_ways(self, name: str) -> tuple[str, list[str]]:
        known = self.corpus.arguments.get(name)
        if known is not None and self.random.random() >= _ANY_WORD:
            return known
        kind = known[0] if known else self.random.choice(["integer", "word", "word", "text"])
        return kind, [way.replace("{a}", name) for way in self.corpus.any_ways["argument"]]

    def _flag_ways(self, name: str) -> list[str]:
        known = self.corpus.flags.get(name)
        if known is not None and self.random.random() >= _ANY_WORD:
            return known
        return [way.replace("{a}", name) for way in self.corpus.any_ways["flag"]]

    def _value(self, kind: str) -> Any:
        if kind == "integer":
            return self.random.randint(1, 10 ** self.random.randint(1, 4) - 1)
        draw = self.random.random()
        if kind == "word" and draw < 0.2:
            return self.random.choice(self.corpus.any_words)
        if kind == "text" and draw < 0.5:
            return " ".join(self.random.sample(self.corpus.any_words, self.random.randint(2, 4)))
        if kind == "word" and draw < 0.4:
            first, second = self.random.sample(self.corpus.values["word"], 2)
            return first + self.random.choice("-/_") + second
        return self.random.choice(self.corpus.values[kind])

    def _said(self, thing: str, several: bool = False) -> str:
        word = thing
        if thing in self.corpus.things and self.random.random() < 0.3:
            word = self.random.choice(self.corpus.things[thing])
        return _several(word) if several else word

    def _polite(self, text: str) -> str:
        if self.random.random() < 0.4:
            text = f"{self.random.choice(self.corpus.before)} {text}"
        if self.random.random() < 0.2:
            text = f"{text} {self.random.choice(self.corpus.after)}"
        return text[0].upper() + text[1:] if self.random.random() < 0.3 else text

    def _context(self, text: str, line: str | None = None) -> str:
        """Puts lines of a context before the request, always if there is ``line``."""
        if line is None and self.random.random() < 0.5:
            return text
        word = self.corpus.values["word"]
        lines = {
            "repo": f"repo: {self.random.choice(word)}/{self.random.choice(word)}",
            "branch": f"branch: {self.random.choice(word)}",
            "number": line or f"job: #{self._value('integer')}",
            "uncommitted": f"uncommitted: {self.random.choice(['yes', 'no'])}",
            "staged": f"staged: {self.random.choice(['yes', 'no'])}",
        }
        kept = [
            shown
            for name, shown in lines.items()
            if (name == "number" and line) or self.random.random() < 0.5
        ]
        return "\n".join([*kept, "", text]) if kept else text


def _several(word: str) -> str:
    if word.endswith("s"):
        return word
    return f"{word}es" if word.endswith(("x", "ch")) else f"{word}s"


def _suggestion(thing: str, action: str) -> dict[str, str]:
    return {"label": f"{thing} {action}", "command": thing, "subcommand": action}


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
