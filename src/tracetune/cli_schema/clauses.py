"""Parts of a request for one command: its object, its arguments, its flags, each said in words.

Every part says exactly what stands in the answer. Values that are drawn are slots of the grammar
(:class:`tracetune.llm.Grammar`): the same slot stands in the request and in the answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tracetune.cli_schema import verbs, words
from tracetune.cli_schema.schema import PLACEHOLDER, Argument, CliSchema, Flag, Place
from tracetune.cli_schema.values import pool
from tracetune.llm.recombine import tidy

_WORK_WITH = re.compile(
    r"^(work with|manage|handle|operate on|administer|commands? (?:for|about)|deal with)\s+", re.I
)
_ARTICLE = re.compile(r"^(?:a|an|the|all|new|your)\s+", re.I)


@dataclass(frozen=True)
class Said:
    """Something said and what it means.

    Attributes:
        text: Words, with slots.
        args: Arguments that it gives.
        flags: Flags that it gives.
        before: Stands before the noun, as an adjective does.
        values: The slots and their values.
    """

    text: str
    args: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    before: bool = False
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)


def plain(text: str) -> str:
    """Text of a schema as it can stand in a form: one line, without the braces of slots."""
    return " ".join(re.sub(r"[{}]", " ", text).split())


def sayable(text: str) -> bool:
    """Whether a value survives in a form exactly: no slots in it, and nothing that is tidied."""
    return (
        "{" not in text
        and "}" not in text
        and tidy(text) == text
        and text in tidy(f'show "{text}" now')
    )


def spoken(name: str) -> str:
    """A name as words: ``run_id`` is ``run id``."""
    return plain(re.sub(r"[_\-]+", " ", name)) or "it"


def singular(noun: str) -> str:
    """``pull requests`` → ``pull request``, ``boxes`` → ``box``; other words stay."""
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if re.search(r"(?:x|ch|sh|ss|z)es$", noun):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun


def plural(noun: str) -> str:
    """``pull request`` → ``pull requests``."""
    if noun.endswith("s") and singular(noun) != noun:
        return noun
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(?:s|x|ch|sh|z)$", noun) else "s")


def past(verb: str) -> str:
    """``attune`` → ``attuned``, ``hum`` → ``hummed``; regular verbs only."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return _doubled(verb) + "ed"


def gerund(verb: str) -> str:
    """``attune`` → ``attuning``, ``hum`` → ``humming``."""
    return (verb[:-1] if verb.endswith("e") and not verb.endswith("ee") else _doubled(verb)) + "ing"


def _doubled(verb: str) -> str:
    """With its last letter twice where a short word is spelled so."""
    short = re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", verb)
    return verb + verb[-1] if short else verb


def article(noun: str) -> str:
    """``a`` or ``an``."""
    return "an" if noun[:1].lower() in "aeio" and noun[:1].islower() else "a"


class Speech:
    """How one command or subcommand is said.

    Args:
        schema: The program.
        place: What is run.
    """

    def __init__(self, schema: CliSchema, place: Place) -> None:
        self.place = place
        self.spec = place.spec
        self.primary = self._primary()
        self.nouns = self._nouns()
        self.verbs = self._verbs()
        self.is_list = self._is(verbs.LISTS)
        self.is_new = self._is(verbs.MAKES) and not self.is_list
        everything = [flag.name for flag in self.spec.flags]
        everything += [value for arg in self.spec.args for value in arg.values]
        self.all_is_taken = "all" in everything
        """Whether the word "all" would say something of its own."""

    def _is(self, family: Sequence[str]) -> bool:
        return any(name in family for name in (self.place.verb, *self.spec.aliases))

    def _primary(self) -> Argument | None:
        """The argument that says which one: the first that is required or positional."""
        for argument in self.spec.args:
            if argument.required or argument.positional:
                return argument
        return None

    def _nouns(self) -> tuple[str, ...]:
        """What the command is about, the exact word first."""
        place = self.place
        if place.subcommand is None:
            primary = self.primary
            if primary is not None and primary.type == "string" and not _is_vague(primary.name):
                return verbs.NOUNS.get(primary.name, (spoken(primary.name),))
            said = self._description()[1].split(" from ")[0].split(" with ")[0]
            return (singular(_ARTICLE.sub("", said)) or spoken(place.command),)
        known = verbs.NOUNS.get(place.command)
        if known is not None:
            return known
        said = plain(_WORK_WITH.sub("", place.group.description).rstrip("."))
        exact = singular(_ARTICLE.sub("", said).lower()) if len(said.split()) <= 3 else ""
        names = [exact, spoken(singular(place.command))]
        return tuple(dict.fromkeys(name for name in names if name))

    def _description(self) -> tuple[str, str]:
        """Verb and rest of the description: ``Stop a running container``."""
        text = plain(self.spec.description).rstrip(".")
        verb, _, rest = text.partition(" ")
        return (verb.lower() if not verb.isupper() else verb), rest

    def _verbs(self) -> tuple[str, ...]:
        """Forms with ``{o}``; those that name the command literally first."""
        for name in (self.place.verb, *self.spec.aliases):
            for family, forms in verbs.VERBS.items():
                if name.lower() in family:
                    return forms
        verb, _ = self._description()
        name = spoken(self.place.verb)
        own = [f"{name} {{o}}", f"do the {name} of {{o}}", f"run {name} on {{o}}"]
        for family, forms in verbs.VERBS.items():
            if verb in family:
                return (own[0], *forms, *own[1:])
        own += [f"do a {name} for {{o}}"]
        if re.fullmatch(r"[a-z]{3,}", name):
            done, doing = past(name), gerund(name)
            own += [f"get {{o}} {done}", f"have {{o}} {done}", f"do some {doing} of {{o}}"]
            own += [f"see to it that {{o}} is {done}", f"start {doing} {{o}}"]
        return (own[0], f"{verb} {{o}}", *own[1:])

    @property
    def literal(self) -> str:
        """The name as it is said."""
        return spoken(self.place.verb)

    def other_verbs(self) -> list[str]:
        """Forms without the literal name."""
        word = re.compile(rf"\b{re.escape(self.literal)}\b", re.I)
        return [verb for verb in self.verbs if not word.search(verb)] or list(self.verbs)

    def object(
        self, draw: random.Random, *, said: bool, exact: bool = False, bare: bool = False
    ) -> Said:
        """The object of the verb.

        Args:
            draw: Chance.
            said: Whether the primary argument is said, if there is one.
            exact: Only the exact noun.
            bare: Without an article.
        """
        noun = self.nouns[0] if exact else draw.choice(self.nouns)
        primary = self.primary
        if primary is not None and said:
            return self._named(noun, primary, draw, exact=exact, bare=bare)
        if self.is_list:
            return Said(self._many(noun, draw, bare=bare))
        if bare:
            return Said(noun)
        if self.is_new:
            first = article(noun)
            return Said(draw.choice((f"{first} {noun}", f"a new {noun}", f"another {noun}")))
        if self.place.subcommand is None and not self.spec.required:
            rest = self._description()[1]
            if rest and draw.random() < 0.5:
                return Said(rest)
        return Said(f"the {noun}")

    def _many(self, noun: str, draw: random.Random, *, bare: bool) -> str:
        many = self._exact_many() or plural(noun)
        if bare or self.all_is_taken:
            return many if bare or draw.random() < 0.6 else f"the {many}"
        return draw.choice((many, many, f"the {many}", f"all {many}", f"all the {many}"))

    def _exact_many(self) -> str:
        """``unused images``, where the description says more than the noun; else nothing."""
        said = _ARTICLE.sub("", self._description()[1]).lower()
        many = plural(self.nouns[0])
        return said if said.endswith(f" {many}") and len(said.split()) <= 3 else ""

    def _named(
        self, noun: str, primary: Argument, draw: random.Random, *, exact: bool, bare: bool
    ) -> Said:
        """The object with the value that says which one."""
        value = self.value(primary, draw)
        text = value.text
        name = spoken(primary.name)
        if primary.type in ("enum", "boolean"):
            forms = [f"{plural(noun)} with {name} {text}", f"{noun} {name} {text}"]
        elif primary.type == "integer":
            forms = [f"{noun} {text}", f"{noun} {text}", f"{noun} #{text}"]
            forms += [f"{noun} number {text}", f"the {noun} with the {name} {text}"]
        elif self.is_list:
            forms = [
                f"{plural(noun)} {form.replace('{words}', name).replace('{v}', text)}"
                for form in forms_of(primary)
            ]
        elif self.is_new and self.place.subcommand is not None:
            new = f"{article(noun)} {noun}"
            forms = [f"{noun} {text}", f"the {noun} {text}"]
            if primary.name == "name":
                forms += [f"{new} called {text}", f"{new} named {text}", f"a new {noun} {text}"]
            elif primary.type == "path":
                forms = [f"{new} from {text}", f"{new} with {text}", f"a new {noun} of {text}"]
            else:
                forms += [f"{new} {name} {text}", f"a new {noun} {text}", f"{new} for {text}"]
        elif primary.type == "path":
            forms = [text, f"the {name} {text}", f"what is in {text}"]
        else:
            forms = [f"the {noun} {text}", f"{noun} {text}"]
            if self.place.subcommand is None or primary.name in ("repository", "repo"):
                forms += [text, text]
        if exact or bare:
            forms = [forms[1 if forms[0].startswith("the ") else 0]]
        return Said(draw.choice(forms), value.args, values=value.values)

    def value(self, argument: Argument, draw: random.Random) -> Said:
        """A value of an argument as words; the words and the value may differ (hints)."""
        hints = [hint for hint in argument.natural_language if hint.value is not None]
        if argument.type == "enum":
            fixed = [value for value in argument.values if sayable(value)]
            if not fixed:
                raise Unsayable(f"no value of {argument.name!r} can be said in a template")
            chosen = draw.choice(fixed)
            said = [plain(chosen.replace("_", " "))] * 2
            said += [plain(w) for h in hints if h.value == chosen for w in h.alternatives]
            return Said(draw.choice(said), {argument.name: chosen})
        if argument.type == "boolean":
            yes = draw.random() < 0.7
            said = [plain(w) for h in hints if h.value is yes for w in h.alternatives]
            said += ["on", "true", "yes"] if yes else ["off", "false", "no"]
            return Said(draw.choice(said), {argument.name: yes})
        hints = [hint for hint in hints if not isinstance(hint.value, str) or sayable(hint.value)]
        if hints and draw.random() < 0.3:
            hint = draw.choice(hints)
            return Said(plain(draw.choice(hint.alternatives)), {argument.name: hint.value})
        slot, values = pool(argument)
        token = f"{{{slot}#{self.spec.args.index(argument) + 1}}}"
        return Said(token, {argument.name: token}, values={slot: values})

    def clause(self, argument: Argument, draw: random.Random, *, exact: bool = False) -> Said:
        """An argument that is not the object, said."""
        value = self.value(argument, draw)
        name = spoken(argument.name)
        if argument.type == "enum" and self.is_list and not exact and draw.random() < 0.6:
            return Said(value.text, value.args, before=True)
        patterns = [hint.pattern for hint in argument.natural_language if hint.pattern]
        if patterns and (exact or draw.random() < 0.5):
            before, after = PLACEHOLDER.split(draw.choice(patterns), maxsplit=1)
            text = f"{plain(before)} {value.text} {plain(after)}"
            return Said(" ".join(text.split()), value.args, values=value.values)
        if argument.type == "enum" and self.is_list:
            forms: Sequence[str] = ("that are {v}", "with {words} {v}", "where the {words} is {v}")
        elif exact:
            forms = words.PRECISE_ARGUMENT
        else:
            forms = forms_of(argument)
        text = draw.choice(forms).replace("{words}", name).replace("{v}", value.text)
        return Said(text, value.args, values=value.values)

    def flag(self, flag: Flag, draw: random.Random, *, exact: bool = False) -> Said:
        """A flag, said."""
        forms = [plain(phrase) for phrase in flag.natural_language]
        forms += words.FLAGS.get(flag.name, ())
        if flag.description and (exact or len(forms) < 3):
            forms += _from_description(plain(flag.description).rstrip("."))
        if not forms:
            forms = [f"with {spoken(flag.name)}", f"using {spoken(flag.name)}"]
        return Said(draw.choice(forms), flags=(flag.name,))


def forms_of(argument: Argument) -> tuple[str, ...]:
    """Ways of saying an argument by its name, where its type is the one that they speak of."""
    number = argument.type in ("integer", "float")
    if argument.type in ("enum", "boolean") or number != (argument.name in words.NUMBERS):
        return words.GENERIC_ARGUMENT
    return words.ARGUMENTS.get(argument.name, words.GENERIC_ARGUMENT)


class Unsayable(Exception):
    """Something that no template can say; the cell stays short and is reported as such."""


def _is_vague(name: str) -> bool:
    return name in ("name", "id", "number", "value", "arg", "argument", "target", "path", "file")


def _from_description(text: str) -> list[str]:
    """``Include stopped containers`` → ``including stopped containers``; ``Only ids`` …"""
    first, _, rest = text.partition(" ")
    low = first.lower() if not first.isupper() or len(first) == 1 else first
    if not rest:
        return [f"with {low}"]
    if low == "only":
        return [f"only {rest}", f"just {rest}"]
    if low in ("include", "including"):
        return [f"including {rest}", f"and include {rest}", f"with {rest}"]
    if low in ("show", "print"):
        return [f"and {low} {rest}", f"with {rest.removeprefix('the ')}"]
    return [f"and {low} {rest}", f"and also {low} {rest}"]
