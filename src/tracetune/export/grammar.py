"""JSON Schemas as grammars of llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracetune.errors import ConfigurationError
from tracetune.export.extra import runtime


def from_schema(schema: Mapping[str, Any]) -> str:
    """A grammar of a JSON Schema that leaves no choice of white space.

    Raises:
        ConfigurationError: It is no JSON Schema. What llama.cpp does not know of JSON Schema it
            does not say here.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
        closed = {**schema, "x-guidance": {"whitespace_flexible": False}}
        text: str = runtime().json_schema_to_grammar(closed)
    except SchemaError as error:
        raise refused(error.message) from None
    except (RuntimeError, ValueError) as error:
        raise refused(str(error)) from None
    return text


def refused(why: str) -> ConfigurationError:
    """The error of a grammar that cannot be used."""
    return ConfigurationError(
        f"llama.cpp cannot use this grammar: {why}",
        where="grammar",
        remedy="correct the GBNF text, or use the parts of JSON Schema that llama.cpp knows",
    )
