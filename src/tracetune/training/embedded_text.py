"""The text that the embedded base model reads: generated from the committed corpus with a seed.

Small tasks about everyday requests, in chat form: name the topic, choose a word, compare two
requests, find a detail, repeat, copy, small answers. No task of telemetry is among them (no agents,
no routing). A third of the conversations is the task of the pipeline ``cli`` with invented programs
(:mod:`tracetune.training.embedded_programs`).
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tracetune.files import sha256_file
from tracetune.training.embedded_programs import MIN_WORDS, Programs, request_of

CORPUS = Path(__file__).parent / "embedded_corpus"
_SHARES = {
    "topic": 0.46,
    "both": 0.12,
    "label": 0.09,
    "choose": 0.05,
    "same": 0.03,
    "form": 0.04,
    "several": 0.04,
    "details": 0.08,
    "slot": 0.03,
    "echo": 0.04,
    "chat": 0.08,
    "lines": 0.05,
    "copy": 0.1,
    "program": 0.6,
}

Conversation = list[dict[str, str]]


@dataclass(frozen=True)
class Kind:
    """A finer part of a topic: its things, what one does with them, and whole sentences."""

    topic: str
    name: str
    labels: list[str]
    nouns: list[str]
    verbs: list[str]
    patterns: list[str]
    lines: list[str]


@dataclass(frozen=True)
class Corpus:
    """The committed corpus, read into memory."""

    slots: dict[str, list[str]]
    tasks: dict[str, list[str]]
    kinds: list[Kind]
    endings: list[str]
    keys: list[str]
    joints: list[str]
    words: list[str]
    lines: dict[str, list[str]]
    replies: dict[str, list[str]] = field(default_factory=dict)


def corpus_files() -> dict[str, str]:
    """SHA-256 of every file of the corpus by its relative name."""
    return {
        path.relative_to(CORPUS).as_posix(): sha256_file(path)
        for path in sorted(CORPUS.rglob("*.toml"))
    }


@cache
def read_corpus() -> Corpus:
    """Reads the corpus."""
    shared = tomllib.loads((CORPUS / "shared.toml").read_text(encoding="utf-8"))
    kinds, replies = [], {}
    for path in sorted((CORPUS / "topics").glob("*.toml")):
        topic = tomllib.loads(path.read_text(encoding="utf-8"))
        replies[topic["name"]] = _lines(topic["replies"])
        for name, kind in topic["kinds"].items():
            kinds.append(
                Kind(
                    topic=topic["name"],
                    name=name,
                    labels=_words(kind["labels"]),
                    nouns=_words(kind["nouns"]),
                    verbs=_words(kind["verbs"]),
                    patterns=_lines(kind.get("patterns", shared["patterns"]["ask"])),
                    lines=_lines(kind["lines"]),
                )
            )
    return Corpus(
        slots={name: _words(text) for name, text in shared["slots"].items()},
        tasks={name: _lines(text) for name, text in shared["tasks"].items()},
        kinds=kinds,
        endings=_words(shared["names"]["endings"]),
        keys=_words(shared["names"]["keys"]),
        words=_words(shared["names"]["words"]),
        joints=_words(shared["patterns"]["joints"]),
        lines={name: _words(text) for name, text in shared["lines"].items()},
        replies=replies,
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


class Writer:
    """Writes conversations; the same seed writes the same ones."""

    def __init__(self, seed: int) -> None:
        """Starts the random sequence."""
        self.corpus = read_corpus()
        self.random = random.Random(f"embedded text {seed}")
        self.programs = Programs(self.random)

    def request(self, kind: Kind) -> tuple[str, dict[str, str]]:
        """A request of this kind, and the details that stand in it."""
        while True:
            pool = kind.lines if self.random.random() < 0.45 else kind.patterns
            text, found = self._fill(self.random.choice(pool), kind)
            draw = self.random.random()
            if draw < 0.1:  # two sentences, as people write
                more, details = self._fill(self.random.choice(kind.patterns), kind)
                text, found = f"{text.rstrip('?')}, {more}", {**details, **found}
            elif draw < 0.2:  # a second wish; the first one decides what it is about
                other = self.random.choice(self.corpus.kinds)
                more, _ = self._fill(self.random.choice(other.lines), other)
                text = f"{text.rstrip('?')} {self.random.choice(self.corpus.joints)} {more}"
            if len(text.split()) >= MIN_WORDS:
                return self._style(text), found

    def _fill(self, pattern: str, kind: Kind) -> tuple[str, dict[str, str]]:
        found: dict[str, str] = {}

        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in ("n", "m"):
                return self.random.choice(kind.nouns)
            if name == "v":
                return self._fill(self.random.choice(kind.verbs), kind)[0]
            found[name] = self.random.choice(self.corpus.slots[name])
            return found[name]

        return re.sub(r"\{(\w+)\}", value, pattern), found

    def _style(self, text: str) -> str:
        draw = self.random.random()
        if draw < 0.4:
            text = text[0].upper() + text[1:]
        elif draw < 0.5:
            text = text.lower()
        if self.random.random() < 0.2 and text[-1].isalnum():
            text += self.random.choice([".", "!", "?", " please"])
        return text

    def conversation(self) -> Conversation:
        """One conversation: a task about a request, and its answer."""
        task = self.random.choices(list(_SHARES), list(_SHARES.values()))[0]
        if task == "program":
            return self.programs.conversation()
        kind = self.random.choice(self.corpus.kinds)
        request, details = self.request(kind)
        if task == "slot" and not details:
            task = "topic"
        system, user, answer = self._task(task, kind, request, details)
        talk = [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
            {"role": "assistant", "content": answer},
        ]
        if task in ("topic", "both"):  # more of the same: every answer is one more lesson
            name = next(iter(json.loads(answer)))
            compact = '":"' in answer
            for _ in range(self.random.randint(0, 3)):
                kind = self.random.choice(self.corpus.kinds)
                answer = self._named(kind, name, compact) if task == "topic" else self._both(kind)
                talk.append({"role": "user", "content": self.request(kind)[0]})
                talk.append({"role": "assistant", "content": answer})
        return talk

    def _named(self, kind: Kind, key: str, compact: bool) -> str:
        # names as programs write them
        name = f"{kind.topic}_{key}" if key in self.corpus.endings else kind.topic
        return _json(key, name, compact)

    def _both(self, kind: Kind) -> str:
        return json.dumps({"topic": kind.topic, "kind": kind.name})

    def _task(
        self, task: str, kind: Kind, request: str, details: dict[str, str]
    ) -> tuple[str, str, str]:
        instruction = self.random.choice(self.corpus.tasks[task])
        if task == "topic":
            key = self.random.choice(self.corpus.keys)
            return (
                instruction.format(key=key),
                request,
                self._named(kind, key, '":"' in instruction),
            )
        if task == "form":
            key = self.random.choice(self.corpus.words)
            answer = _json(key, self._identifier(), '":"' in instruction)
            word = next(iter(json.loads(answer).values()))
            return instruction.format(key=key), f"the word is {word}", answer
        if task == "both":
            return instruction, request, self._both(kind)
        if task == "label":
            return self._label(instruction, kind, request)
        if task == "choose":
            options = self._options(kind)
            return instruction.format(options=", ".join(options)), request, kind.name
        if task == "same":
            other = kind if self.random.random() < 0.5 else self.random.choice(self.corpus.kinds)
            answer = "yes" if other.topic == kind.topic else "no"
            return instruction, f"{request}\n{self.request(other)[0]}", answer
        if task == "slot":
            name = self.random.choice(sorted(details))
            answer = json.dumps({name: details[name]}, ensure_ascii=False)
            return instruction.format(slot=name), request, answer
        if task == "several":
            return self._several(instruction)
        if task == "lines":
            return self._lines(instruction)
        if task == "copy":
            text = self._anything()
            return instruction, text, text
        if task == "details":
            return self._details(instruction, request, details)
        if task == "echo":
            return instruction, request, request
        return instruction, request, self.random.choice(self.corpus.replies[kind.topic])

    def _several(self, instruction: str) -> tuple[str, str, str]:
        """A list of the words that the user names."""
        key, *words = self.random.sample(self.corpus.words, self.random.randint(2, 4))
        said = f"{', '.join(words[:-1])} and {words[-1]}" if words[1:] else words[0]
        answer = _dump({key: words}, '":[' in instruction)
        return instruction.format(key=key), f"the words are {said}", answer

    def _anything(self) -> str:
        """Words and numbers without sense: what is said next can only be copied."""
        words = [*self.corpus.words, *self.corpus.lines["words"], *self.programs.corpus.any_words]
        said = [
            str(self.random.randint(1, 10 ** self.random.randint(1, 4)))
            if self.random.random() < 0.4
            else self.random.choice(words)
            for _ in range(self.random.randint(8, 24))
        ]
        return " ".join(said)

    def _lines(self, instruction: str) -> tuple[str, str, str]:
        """Some words after each key, as the user names them."""
        found = self.corpus.lines
        keys = [key.replace(" ", "_") for key in self.random.sample(found["keys"], 3)]
        mark = self.random.choice([*found["marks"], ""])
        said, answer = [], []
        for key in keys:
            pick = self.random.sample(found["words"], self.random.randint(1, 3))
            said.append(f"{' and '.join(pick)} for {key}")
            answer.append(f"{key}: {' '.join(f'{mark}{word}{mark}' for word in pick)}")
        user = f"{', '.join(said)}" + (f", each between {mark}" if mark else "")
        return instruction.format(keys=", ".join(keys)), user, "\n".join(answer)

    def _details(
        self, instruction: str, request: str, details: dict[str, str]
    ) -> tuple[str, str, str]:
        """Every detail of the request, in the order in which it stands there."""
        key = self.random.choice(self.corpus.words)
        low = request.lower()
        named = sorted(
            (low.index(text), name, text) for name, text in details.items() if text in low
        )
        found = [
            {"text": request[at : at + len(text)], "type": name.upper()} for at, name, text in named
        ]
        return instruction.format(key=key), request, _dump({key: found}, '":[' in instruction)

    def _identifier(self) -> str:
        """A name as programs write it, of two words."""
        words = [*self.corpus.words, *(kind.labels[0] for kind in self.corpus.kinds)]
        # no names of agents: those are the task of pipelines
        plain = [word for word in words if "_" not in word and word != "agent"]
        return "_".join(self.random.sample(plain, 2))

    def _label(self, instruction: str, kind: Kind, request: str) -> tuple[str, str, str]:
        """Choosing a name from a list that changes every time."""
        ending = self.random.choice(["", *(f"_{word}" for word in self.corpus.endings)])
        by_topic: dict[str, list[str]] = {}
        for other in self.corpus.kinds:
            by_topic.setdefault(other.topic, []).extend(other.labels)
        answer = self.random.choice(kind.labels) + ending
        topics = [topic for topic in by_topic if topic != kind.topic]
        others = self.random.sample(topics, self.random.randint(2, 9))
        options = [self.random.choice(by_topic[topic]) + ending for topic in others] + [answer]
        self.random.shuffle(options)
        key = self.random.choice(self.corpus.keys)
        text = instruction.format(
            options=", ".join(options), key=key, example=self.random.choice(options)
        )
        return text, request, _json(key, answer, '":"' in instruction)

    def _options(self, kind: Kind) -> list[str]:
        others = [other.name for other in self.corpus.kinds if other.topic != kind.topic]
        options = [*self.random.sample(others, 4), kind.name]
        self.random.shuffle(options)
        return options


def _json(key: str, value: str, compact: bool) -> str:
    """A JSON object, written as the instruction writes it."""
    return _dump({key: value}, compact)


def _dump(value: dict[str, Any], compact: bool) -> str:
    separators = (",", ":") if compact else (", ", ": ")
    return json.dumps(value, separators=separators, ensure_ascii=False)


def line_words() -> list[str]:
    """Words of answers in lines: each becomes a token, with and without a space before it."""
    found = read_corpus().lines
    plain = [*" ".join(found["keys"]).split(), *found["words"]]
    return [form for word in dict.fromkeys(plain) for form in (word, f" {word}")]


def kind_texts() -> list[list[str]]:
    """Per kind its words and sentences, each as it stands at the start and inside a sentence."""
    result = []
    for kind in read_corpus().kinds:
        lines = [re.sub(r"\{\w+\}", " ", text) for text in (*kind.lines, *kind.nouns, *kind.verbs)]
        result.append([form for line in lines for form in (line, " " + line, line.capitalize())])
    return result


def conversations(seed: int, count: int) -> list[Conversation]:
    """``count`` conversations of one seed."""
    writer = Writer(seed)
    return [writer.conversation() for _ in range(count)]


def texts(seed: int, count: int) -> list[str]:
    """The requests (user turns) in those conversations, one per line of text."""
    return [
        line
        for conversation in conversations(seed, count)
        for turn in conversation
        if turn["role"] == "user"
        for line in request_of(turn["content"]).splitlines()
    ]
