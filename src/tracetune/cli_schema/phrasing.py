"""What the offline generator writes from: requests for a cell, put together from its words."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tracetune.cli_schema import words
from tracetune.cli_schema.clauses import Said, Speech, Unsayable, article, plural
from tracetune.cli_schema.context import resolved_by
from tracetune.cli_schema.plan import Cell, Style, places_of
from tracetune.cli_schema.pointing import POOLS, filled, hidden, this_clause, this_object
from tracetune.cli_schema.schema import Argument, CliSchema, Flag, Place
from tracetune.files import sha256_json
from tracetune.llm import Grammar

_FORMS_PER_EXAMPLE = 3
_TRIES = 8
"""Draws per form after which a cell has no more forms."""
_DETERMINER = re.compile(r"^((?:all the|all|the|a new|an|a|another) )?(.*)$")
_PARTICLE = re.compile(r"^(\w+) (up|in|out|down|together|away|off|over) \{o\}$")
_FOR_ME = ("let me", "tell me", "give me", "get me", "show me", "make me", "bring me", "put me")
_MINE = ("i ", "gotta", "lets", "time to", "my next", "it is time", "help me", "would be nice")


@dataclass
class _Draft:
    """A request that is being put together.

    Attributes:
        object: The object of the verb.
        clauses: What follows it.
        needs: Fields of the context that the request refers to.
        hides: Fields that must not be in the context, because they would fill a gap.
    """

    object: Said
    clauses: list[Said] = field(default_factory=list)
    needs: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()

    @property
    def parts(self) -> list[Said]:
        return [self.object, *self.clauses]

    def noun_phrase(self) -> str:
        """The object with what stands before its noun."""
        before = [part.text for part in self.clauses if part.before]
        found = _DETERMINER.match(self.object.text)
        first, rest = found.groups("") if found else ("", self.object.text)
        return " ".join([*([first.strip()] if first else []), *before, rest])

    def after(self) -> list[str]:
        """What follows, sentences that go on with "and" last."""
        texts = [part.text for part in self.clauses if not part.before]
        return sorted(texts, key=lambda text: text.startswith(("and ", "but ")))


class Phrases:
    """Requests for the cells of one program.

    Args:
        schema: The program.
    """

    def __init__(self, schema: CliSchema) -> None:
        self._schema = schema
        self._speech: dict[str, Speech] = {}

    def _speech_of(self, place: Place) -> Speech:
        found = self._speech.get(place.label)
        if found is None:
            found = self._speech[place.label] = Speech(self._schema, place)
        return found

    def grammar(self, cell: Cell, seed: Sequence[Any]) -> Grammar | None:
        """The grammar of one request to the writer.

        Args:
            cell: What is wanted, with its count.
            seed: Of the choice of forms.

        Returns:
            None if no template can say it.
        """
        draw = random.Random(sha256_json([*seed, "forms", cell.id]))
        wanted = cell.count * _FORMS_PER_EXAMPLE
        forms: dict[str, dict[str, Any]] = {}
        values: dict[str, tuple[str, ...]] = {}
        for _ in range(wanted * _TRIES):
            try:
                form, used = self._form(cell, draw)
            except Unsayable:
                return None
            forms.setdefault(str(form), form)
            values |= used
            if len(forms) >= wanted:
                break
        pools = {name: list(texts) for name, texts in sorted(values.items())}
        return Grammar(items=list(forms.values()), values=pools, count=cell.count)

    def _form(
        self, cell: Cell, draw: random.Random
    ) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        """One form of an item, and the values of its slots."""
        if cell.style == "ambiguous":
            draft, text = _Draft(Said("")), self._ambiguous(cell, draw)
        else:
            speech = self._speech_of(places_of(self._schema, cell)[0])
            if cell.missing:
                draft = self._missing(speech, cell, draw)
            else:
                draft = self._draft(speech, cell.style, draw)
            text = _say(speech, cell.style, draft, draw)
        form: dict[str, Any] = {"request": text, "context": None}
        values = {name: texts for part in draft.parts for name, texts in part.values.items()}
        if cell.context:
            form["context"] = filled(draft.needs, draft.hides, draw)
            values |= POOLS
        if not cell.asks_back:
            command, sub = cell.places[0]
            args = {name: value for part in draft.parts for name, value in part.args.items()}
            flags = [flag for part in draft.parts for flag in part.flags]
            form |= {"command": command, "subcommand": sub, "args": args, "flags": flags}
        return form, values

    def _draft(self, speech: Speech, style: Style, draw: random.Random) -> _Draft:
        """Which arguments and flags are said, and how."""
        place, primary, exact = speech.place, speech.primary, style == "precise"
        pointed = (
            [a for a in place.spec.args if resolved_by(place, a)] if style == "context" else []
        )
        this = primary if primary in pointed else draw.choice(pointed) if pointed else None
        said = primary is not None and (
            primary.required or (style != "minimal" and draw.random() < 0.7)
        )
        if this is not None and this == primary:
            found, needs = this_object(speech, this, draw)
            draft = _Draft(found, needs=needs)
        else:
            bare = style == "minimal"
            found = speech.object(draw, said=said, exact=exact, bare=bare)
            draft = _Draft(found, hides=() if said else hidden(place, primary))
        if this is not None and this != primary:
            clause, needs = this_clause(speech, this, draw)
            draft.clauses.append(clause)
            draft.needs += needs
        given = {name for part in draft.parts for name in part.args}
        for part in _chosen(place, given, style, draw):
            if isinstance(part, Flag):
                draft.clauses.append(speech.flag(part, draw, exact=exact))
            else:
                draft.clauses.append(speech.clause(part, draw, exact=exact))
        return draft

    def _missing(self, speech: Speech, cell: Cell, draw: random.Random) -> _Draft:
        """Everything that is required is said but one argument."""
        place, primary = speech.place, speech.primary
        left_out = place.spec.argument(cell.missing)
        assert left_out is not None
        assert primary is not None
        if primary == left_out:
            noun = draw.choice(speech.nouns)
            forms = [f"{article(noun)} {noun}", f"the {noun}", f"some {noun}", f"my {noun}"]
            forms += [f"a new {noun}", f"another {noun}"] * speech.is_new
            forms += [f"one of the {plural(noun)}", f"that {noun}"] * (not speech.is_new)
            found = Said(plural(noun) if speech.is_list else draw.choice(forms))
        else:
            found = speech.object(draw, said=True)
        draft = _Draft(found, hides=hidden(place, left_out))
        for argument in place.spec.required:
            if argument not in (left_out, primary):
                draft.clauses.append(speech.clause(argument, draw))
        if place.spec.flags and draw.random() < 0.2:
            draft.clauses.append(speech.flag(draw.choice(place.spec.flags), draw))
        return draft

    def _ambiguous(self, cell: Cell, draw: random.Random) -> str:
        """A request that several commands fit."""
        kind, _, _ = cell.about.partition(" ")
        speech = self._speech_of(places_of(self._schema, cell)[0])
        if kind == "group":
            noun = draw.choice(speech.nouns)
            text = draw.choice(words.AMBIGUOUS_GROUP)
            return text.replace("{ns}", plural(noun)).replace("{n}", noun)
        if kind == "verb":
            verb = draw.choice(self._own_verbs(speech))
            text = verb.replace("{o}", draw.choice(words.AMBIGUOUS_OBJECTS))
        else:
            text = draw.choice(words.UNCLEAR)
        opening = draw.choice((*words.CASUAL_OPENINGS, *words.POLITE_OPENINGS))
        return _framed(opening, text, draw.choice(words.CASUAL_ENDINGS))

    def _own_verbs(self, speech: Speech) -> list[str]:
        """Forms of the verb that mean no other verb of the program."""
        others = {
            form
            for place in self._schema.places()
            if place.verb != speech.place.verb
            for form in self._speech_of(place).verbs
        }
        return [verb for verb in speech.verbs if verb not in others] or [f"{speech.literal} {{o}}"]


def _chosen(
    place: Place, given: set[str], style: Style, draw: random.Random
) -> list[Argument | Flag]:
    """What is said beside the object: everything required, and some of the rest."""
    needed: list[Argument | Flag] = [a for a in place.spec.required if a.name not in given]
    more: list[Argument | Flag] = [
        *(arg for arg in place.spec.args if not arg.required and arg.name not in given),
        *place.spec.flags,
    ]
    low, high = {
        "minimal": (0, 0),
        "options": (2, 3),
        "precise": (0, 2),
        "word_order": (0, 2),
        "context": (0, 1),
    }.get(style, (0, 1))
    count = min(len(more), draw.randint(low, high))
    if style == "options" and not given and not needed:
        count = max(count, min(len(more), 1))
    chosen = [*needed, *draw.sample(more, count)]
    names = given | {part.name for part in chosen if isinstance(part, Argument)}
    # No command line could leave out a positional argument before one that is given.
    for argument in place.spec.args:
        if argument.positional and argument.name not in names:
            later = place.spec.args[place.spec.args.index(argument) :]
            chosen = [part for part in chosen if part not in later or not _is_positional(part)]
            break
    return chosen


def _is_positional(part: Argument | Flag) -> bool:
    return isinstance(part, Argument) and part.positional


def _say(speech: Speech, style: Style, draft: _Draft, draw: random.Random) -> str:
    """The request in words."""
    if style == "minimal":
        return _shortest(speech, draft, draw)
    if style == "word_order":
        return _reordered(speech, draft, draw)
    verbs: Sequence[str] = speech.verbs
    if style == "precise":
        verbs = speech.verbs[:2]
    elif style == "synonyms":
        verbs = speech.other_verbs()
    text = _imperative(draw.choice(verbs), draft)
    if style == "precise":
        return _sentence(_framed(draw.choice(words.PRECISE_OPENINGS), text, ""))
    if style == "casual" or (style != "synonyms" and draw.random() < 0.5):
        opening, ending = draw.choice(words.CASUAL_OPENINGS), draw.choice(words.CASUAL_ENDINGS)
        return _framed(opening, text, ending)
    question = "?" if (opening := draw.choice(words.POLITE_OPENINGS)).endswith("you ") else ""
    return _framed(opening, text, question)


def _imperative(verb: str, draft: _Draft) -> str:
    return " ".join([verb.replace("{o}", draft.noun_phrase()), *draft.after()])


def _framed(opening: str, text: str, ending: str) -> str:
    if text.startswith(_FOR_ME) and opening.lower().startswith(_MINE):
        opening = ""
    if opening.endswith("you ") and ending == "":
        ending = "?" if opening.startswith(("could", "would", "any", "can")) else ""
    return f"{opening}{text}{ending}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def _shortest(speech: Speech, draft: _Draft, draw: random.Random) -> str:
    """Verb and object, in one order or the other."""
    verb = draw.choice(speech.verbs[:3]) if draw.random() < 0.5 else f"{speech.literal} {{o}}"
    text = _imperative(verb, draft)
    if re.fullmatch(r"\S+ \{o\}", verb) and draw.random() < 0.3:
        text = " ".join([draft.noun_phrase(), verb.removesuffix(" {o}"), *draft.after()])
    return text + draw.choice(("", "", "", " please", "!", " now"))


def _reordered(speech: Speech, draft: _Draft, draw: random.Random) -> str:
    """Details or the object first, or a question."""
    noun, after = draft.noun_phrase(), draft.after()
    verb = draw.choice(speech.verbs)
    pronoun = "them" if speech.is_list else "it"
    # "bring it up", not "bring up it".
    alone = _PARTICLE.sub(r"\1 {o} \2", verb).replace("{o}", pronoun)
    rest = " ".join(after)
    whole = _imperative(verb, draft)
    forms = [
        f"{noun}: {alone} {rest}",
        f"{noun}, {alone} {rest} please",
        f"is it possible to {whole}?",
        f"with {noun}, do this: {alone} {rest}",
        f"for {noun}: {alone} {rest}",
        f"what I want is this: {whole}",
        f"regarding {noun}, please {alone} {rest}",
        f"as for {noun}, {alone} {rest}",
    ]
    if speech.is_list and not noun.startswith(("all ", "the ")):
        forms += [
            f"what {noun} {rest} are there?",
            f"which {noun} do we have {rest}?",
            f"are there any {noun} {rest}?",
            f"how about {noun} {rest}?",
        ]
    front = [text for text in after if not text.startswith(("and ", "but "))]
    if front:
        first = draw.choice(front)
        others = " ".join(text for text in after if text != first)
        forms += [f"{first}, {verb.replace('{o}', noun)} {others}"] * 3
    return " ".join(draw.choice(forms).split())
