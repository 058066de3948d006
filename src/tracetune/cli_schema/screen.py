"""What was written becomes examples, or is rejected with a reason; nothing disappears."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from typing import Any

from pydantic import Field, ValidationError

from tracetune.cli_schema.context import Context, resolved_by
from tracetune.cli_schema.objects import Object, answer_text, command_object, problems
from tracetune.cli_schema.options import CliGenerationOptions
from tracetune.cli_schema.plan import Cell, Style, clarification, places_of
from tracetune.cli_schema.schema import Argument, CliSchema, Place
from tracetune.files import canonical_json
from tracetune.near import Shingles, shingles, similarity
from tracetune.records import Record, Text

REASONS: dict[str, str] = {
    "malformed": "no request, or a context that is none",
    "too_long": "a request of more than 400 characters",
    "off_context": "a context where none was asked for, or none where one was",
    "invalid": "the answer breaks the schema; the detail says where",
    "off_cell": "the answer is of another command than was asked for",
    "context_unused": "the request was to refer to the context, and the answer does not take it",
    "context_fills_gap": "the context gives what was to be missing",
    "contradicts": "the same request in the same context has another answer already",
    "duplicate": "the same request, context and answer",
    "same_request": "too many requests that differ only in numbers",
    "near_duplicate": "nearly the request of another example with the same answer",
}
"""Why something written is no example, in the order in which it is asked."""

_MOST_CHARS = 400
_SHINGLE = 3
_NUMBER = re.compile(r"\d+")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_FLOAT = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?")


class Written(Record):
    """An example that was written and passed.

    Attributes:
        request: What the user says.
        context: What is known of the repository; None: nothing.
        output: The right answer, in canonical form and valid.
        cell: Id of its cell.
        target: What it names: ``pr list``, or ``clarification``.
        style: How it is said.
        request_id: The request to the writer.
    """

    request: Text
    context: dict[str, Any] | None
    output: dict[str, Any]
    cell: str
    target: str
    style: Style
    request_id: str


class Rejected(Record):
    """Something written that is no example.

    Attributes:
        reason: One of :data:`REASONS`.
        detail: What exactly, where there is more to say.
        cell: Id of the cell it was written for.
        request_id: The request to the writer.
        item: As it was written.
    """

    reason: str
    detail: str = ""
    cell: str
    request_id: str
    item: Any = Field(default=None)


class _Refused(Exception):
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def normal(request: str) -> str:
    """A request without regard to case, spaces and numbers: ``Close PR  #12`` → ``close pr ##``."""
    text = unicodedata.normalize("NFKC", request).casefold()
    return _NUMBER.sub("#", " ".join(text.split()))


class Screen:
    """Checks what was written against the schema and against everything that was kept.

    Near-duplicates are looked for among examples with the same answer only: "view pr 12" and "view
    pr 13" share all but one word and are two examples, because their answers differ.

    Args:
        schema: The program.
        options: Thresholds.
    """

    def __init__(self, schema: CliSchema, options: CliGenerationOptions) -> None:
        self._schema, self._options = schema, options
        self._answers: dict[tuple[str, str], str] = {}
        self._same: Counter[str] = Counter()
        self._near: dict[str, list[Shingles]] = defaultdict(list)
        self.rejected: list[Rejected] = []

    def add(self, raw: Any, cell: Cell, request_id: str) -> Written | None:
        """The example in one written item; None, and a row in ``rejected``, if it is none."""
        try:
            found = self._read(raw, cell, request_id)
            self._compare(found)
        except _Refused as refused:
            self.rejected.append(
                Rejected(
                    reason=refused.reason,
                    detail=refused.detail,
                    cell=cell.id,
                    request_id=request_id,
                    item=raw,
                )
            )
            return None
        return found

    def _read(self, raw: Any, cell: Cell, request_id: str) -> Written:
        request = raw.get("request") if isinstance(raw, dict) else None
        if not isinstance(request, str) or not request.strip():
            raise _Refused("malformed", "no request")
        request = request.strip()
        if len(request) > _MOST_CHARS:
            raise _Refused("too_long")
        context = _context(raw.get("context"))
        if (context is not None) != cell.context:
            raise _Refused("off_context")
        if cell.asks_back:
            output, target = clarification(self._schema, cell), "clarification"
            self._check_gap(cell, context)
        else:
            output, target = self._command(raw, cell), cell.target
            if cell.style == "context":
                self._check_use(cell, context, output)
        return Written(
            request=request,
            context=context.plain() if context is not None else None,
            output=output,
            cell=cell.id,
            target=target,
            style=cell.style,
            request_id=request_id,
        )

    def _command(self, raw: dict[str, Any], cell: Cell) -> Object:
        given: dict[str, Any] = {
            key: raw.get(key) for key in ("command", "subcommand", "args", "flags")
        }
        place = places_of(self._schema, cell)[0]
        found: Object = {"type": "command", **given}
        if isinstance(given["args"], dict):
            found["args"] = _typed(place, given["args"])
        wrong = problems(self._schema, found)
        named = self._schema.place(str(given["command"]), _text_or_none(given["subcommand"]))
        if named is not None and named.label != place.label:
            raise _Refused("off_cell", f"the answer is {named.label!r}")
        if wrong:
            first = wrong[0]
            raise _Refused("invalid", f"{first.reason}: {first.path}: {first.message}")
        return command_object(place, found["args"], found["flags"])

    def _check_use(self, cell: Cell, context: Context | None, output: Object) -> None:
        place = places_of(self._schema, cell)[0]
        for argument in place.spec.args:
            known = value_in(context, resolved_by(place, argument))
            if known is not None and output["args"].get(argument.name) == known:
                return
        raise _Refused("context_unused")

    def _check_gap(self, cell: Cell, context: Context | None) -> None:
        place = places_of(self._schema, cell)[0]
        argument = place.spec.argument(cell.missing)
        if argument is not None and value_in(context, resolved_by(place, argument)) is not None:
            raise _Refused("context_fills_gap", cell.missing)

    def _compare(self, found: Written) -> None:
        """Against everything kept; what passes is kept."""
        answer, context = answer_text(found.output), canonical_json(found.context)
        request = normal(found.request)
        same = (" ".join(found.request.casefold().split()), context)
        known = self._answers.get(same)
        if known is not None:
            raise _Refused("duplicate" if known == answer else "contradicts")
        if self._same[request] >= self._options.same_request:
            raise _Refused("same_request", request)
        shape = shingles(request, _SHINGLE)
        threshold = self._options.near_duplicate
        if any(similarity(shape, other) >= threshold for other in self._near[answer]):
            raise _Refused("near_duplicate")
        self._answers[same] = answer
        self._same[request] += 1
        self._near[answer].append(shape)


def value_in(context: Context | None, name: str | None) -> Any:
    """What a context says of ``current_pr``, ``current_branch`` or ``repository``."""
    if context is None or name is None:
        return None
    git = context.git
    if name == "repository":
        both = git.repo_owner and git.repo_name
        return f"{git.repo_owner}/{git.repo_name}" if both else None
    return getattr(git, name)


def _context(raw: Any) -> Context | None:
    """The context in a written item; a number may have come as text."""
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise _Refused("malformed", "the context is no object")
    given = {key: value for key, value in raw.items() if value is not None}
    number = given.get("current_pr")
    if isinstance(number, str) and _INTEGER.fullmatch(number.removeprefix("#")):
        given["current_pr"] = int(number.removeprefix("#"))
    try:
        found = Context.model_validate({"git": given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _Refused("malformed", f"context: {place}: {first['msg']}") from None
    return found if found.lines() else None


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _typed(place: Place, args: dict[str, Any]) -> dict[str, Any]:
    """Arguments with their types: who fills in templates writes every value as text."""
    return {name: _value(place.spec.argument(name), value) for name, value in args.items()}


def _value(argument: Argument | None, value: Any) -> Any:
    if argument is None or not isinstance(value, str):
        return value
    if argument.type == "integer" and _INTEGER.fullmatch(value):
        return int(value)
    if argument.type == "float" and _FLOAT.fullmatch(value):
        return float(value)
    if argument.type == "boolean" and value in ("true", "false"):
        return value == "true"
    return value
