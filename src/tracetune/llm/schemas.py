"""JSON Schema as domains write it, and the part of it that Anthropic's structured outputs express.

These have no form there and are carried another way:

- A map with open names (``additionalProperties: {...}``) is a list of objects with ``name`` and
  ``value``, and becomes a map again in the answer.
- A list of types (``["string", "null"]``) is a choice between schemas.
- Lengths, ranges, patterns and the like go into the description (``anthropic.transform_schema``).

So the service guarantees less than the schema says, and every answer is checked against the schema.
"""

from __future__ import annotations

import json
from typing import Any

from tracetune.errors import ConfigurationError

Schema = dict[str, Any]

WRAPPED = "answer"
"""Field that holds an answer whose schema is not an object."""

_COMBINED = ("anyOf", "oneOf", "allOf")


class InvalidAnswer(Exception):
    """An answer that is not in the form that was asked for; the text says why."""


class AnswerForm:
    """One schema, both ways: what the service is asked for, and the answer as the domain wants it.

    Args:
        schema: JSON Schema of the answer.

    Raises:
        ConfigurationError: The schema is no JSON Schema, or cannot be asked for.
    """

    def __init__(self, schema: Schema) -> None:
        import jsonschema

        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise _refused(f"the schema of the answer is no JSON Schema: {error.message}") from None
        self._validator = jsonschema.Draft202012Validator(schema)
        _check_references(schema, schema)
        self._schema = _spread(schema)
        self._wrapped = not _is_object(self._schema)
        self._plain = _encode(self._schema)
        asked = self._plain
        if self._wrapped:
            inner = dict(self._plain)
            definitions = inner.pop("$defs", None)
            asked = _fixed_object({WRAPPED: inner})
            if definitions is not None:
                asked["$defs"] = definitions
        self.asked = _transform(asked)
        """The schema for ``output_config.format``."""

    def read(self, text: str) -> Any:
        """The value in an answer.

        Raises:
            InvalidAnswer: It is not JSON, names something twice, or does not fit the schema.
        """
        import jsonschema

        try:
            value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        except RecursionError:
            raise InvalidAnswer("the answer is nested too deeply") from None
        except ValueError as error:
            raise InvalidAnswer(f"the answer is not JSON ({error})") from None
        if self._wrapped:
            if not isinstance(value, dict) or set(value) != {WRAPPED}:
                raise InvalidAnswer(f"the answer does not have the one field {WRAPPED!r}")
            value = value[WRAPPED]
        value = self._decode(value, self._schema, self._plain)
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidAnswer("the answer holds half a character (a lone surrogate)") from None
        problem = jsonschema.exceptions.best_match(self._validator.iter_errors(value))
        if problem is not None:
            place = problem.json_path.removeprefix("$").lstrip(".")
            raise InvalidAnswer(f"{place + ': ' if place else ''}{problem.message[:300]}")
        return value

    def _decode(self, value: Any, schema: Schema, asked: Schema) -> Any:
        """``value``, which came in the form ``asked``, in the form ``schema``."""
        while "$ref" in schema:
            schema, asked = _resolve(schema, self._schema), _resolve(asked, self._plain)
        if _is_map(schema):
            return self._map(value, schema["additionalProperties"], _value_schema(asked))
        for keyword in _COMBINED:
            variants = schema.get(keyword)
            if variants is None:
                continue
            for variant, form in zip(variants, asked[keyword], strict=True):
                if keyword == "allOf" or self._fits(value, form):
                    return self._decode(value, variant, form)
            return value
        if isinstance(value, dict) and _is_object(schema):
            fields, forms = schema.get("properties", {}), asked.get("properties", {})
            return {
                name: self._decode(inner, fields[name], forms[name]) if name in fields else inner
                for name, inner in value.items()
            }
        if isinstance(value, list) and isinstance(schema.get("items"), dict):
            return [self._decode(inner, schema["items"], asked["items"]) for inner in value]
        return value

    def _map(self, value: Any, schema: Schema, asked: Schema) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if not isinstance(value, list):
            raise InvalidAnswer("a map did not come as a list of names and values")
        for pair in value:
            if not isinstance(pair, dict) or set(pair) != {"name", "value"}:
                raise InvalidAnswer("an entry of a map is not one name and one value")
            name = pair["name"]
            if not isinstance(name, str) or name in found:
                raise InvalidAnswer(f"a map has the name {name!r} twice, or it is no text")
            found[name] = self._decode(pair["value"], schema, asked)
        return found

    def _fits(self, value: Any, form: Schema) -> bool:
        import jsonschema

        whole = {**form, "$defs": self._plain.get("$defs", {})}
        return bool(jsonschema.Draft202012Validator(whole).is_valid(value))


def _spread(schema: Schema) -> Schema:
    """``schema`` with a choice between schemas in place of every list of types."""
    found = dict(schema)
    for keyword in ("properties", "$defs"):
        if keyword in found:
            found[keyword] = {name: _spread(inner) for name, inner in found[keyword].items()}
    for keyword in ("items", "additionalProperties"):
        if isinstance(found.get(keyword), dict):
            found[keyword] = _spread(found[keyword])
    for keyword in _COMBINED:
        if keyword in found:
            found[keyword] = [_spread(variant) for variant in found[keyword]]
    if not isinstance(found.get("type"), list):
        return found
    types, rest = found.pop("type"), found
    definitions = {"$defs": rest.pop("$defs")} if "$defs" in rest else {}
    return {"anyOf": [_only(rest, name) for name in types], **definitions}


def _encode(schema: Schema) -> Schema:
    """``schema`` with a list of names and values in place of every map."""
    if "$ref" in schema:
        found: Schema = {"$ref": schema["$ref"]}
    elif _is_map(schema):
        found = _encode_map(schema)
    else:
        found = _encode_parts(schema)
    if "$defs" in schema:
        found["$defs"] = {name: _encode(inner) for name, inner in schema["$defs"].items()}
    return found


def _encode_map(schema: Schema) -> Schema:
    if schema.get("properties") or "patternProperties" in schema:
        raise _refused("a map has either fixed or open names, not both")
    inner = schema["additionalProperties"]
    if not isinstance(inner, dict) or not inner:
        raise _refused("the values of an open map need a schema")
    pair = _fixed_object({"name": {"type": "string"}, "value": _encode(inner)})
    text = "A map: every name once. " + str(schema.get("description", ""))
    known = ("type", "additionalProperties", "description", "$defs")
    rest = {key: value for key, value in schema.items() if key not in known}
    if rest:
        text += " " + json.dumps(rest, ensure_ascii=False)
    return {"type": "array", "items": pair, "description": text.strip()}


def _encode_parts(schema: Schema) -> Schema:
    found = {key: value for key, value in schema.items() if key != "$defs"}
    for keyword in _COMBINED:
        if keyword in schema:
            found[keyword] = [_encode(variant) for variant in schema[keyword]]
    if "properties" in schema:
        found["properties"] = {name: _encode(inner) for name, inner in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        found["items"] = _encode(schema["items"])
    return found


_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
    "array": {"items", "minItems", "maxItems", "uniqueItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}
_OF_TYPE["integer"] = _OF_TYPE["number"]
_ANY_TYPE = set().union(*_OF_TYPE.values())


def _only(schema: Schema, name: str) -> Schema:
    """The keywords of ``schema`` that speak of the type ``name``."""
    mine = _OF_TYPE.get(name, set())
    kept = {key: value for key, value in schema.items() if key not in _ANY_TYPE or key in mine}
    return {"type": name, **kept}


def _transform(schema: Schema) -> Schema:
    import anthropic

    try:
        return anthropic.transform_schema(schema)
    except (ValueError, AssertionError, AttributeError, TypeError) as error:
        raise _refused(f"the schema of the answer cannot be asked for: {error}") from None


def _is_map(schema: Schema) -> bool:
    more = schema.get("additionalProperties", False)
    # Open beside fixed names only allows what nobody asks for: it is asked for without.
    return isinstance(more, dict) or (more is True and not schema.get("properties"))


def _is_object(schema: Schema) -> bool:
    return schema.get("type") == "object" and not _is_map(schema)


def _fixed_object(fields: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def _value_schema(asked: Schema) -> Schema:
    found: Schema = asked["items"]["properties"]["value"]
    return found


def _resolve(schema: Schema, root: Schema) -> Schema:
    path = str(schema["$ref"])
    found: Any = root
    for step in path.removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    if not path.startswith("#/$defs/") or not isinstance(found, dict):
        raise _refused(f"only references to $defs can be asked for, not {path!r}")
    return found


def _check_references(part: Any, root: Schema) -> None:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            _resolve(part, root)
        for inner in part.values():
            _check_references(inner, root)
    elif isinstance(part, list):
        for inner in part:
            _check_references(inner, root)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a field twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refused(what: str) -> ConfigurationError:
    return ConfigurationError(
        what,
        where="answer_schema of a request",
        remedy="change the schema; docs/generation.md says what can be asked for",
    )
