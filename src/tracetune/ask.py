"""A request to an exported model of a command-line program: for ``kedro ask``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tracetune.cli_schema.context import Context
from tracetune.cli_schema.schema import CliSchema
from tracetune.errors import DataError

MOST_TOKENS = 512
"""Longest answer under a grammar, whose texts and lists are bounded: none comes near it."""


@dataclass(frozen=True)
class Asked:
    """What the model answered.

    Attributes:
        text: The answer as it came: one JSON object.
        command_line: The command it would run, shell-quoted; None for a question back or an answer
            that is not valid. It is never run.
        problems: Why the answer is not valid; empty if it is.
        confidence: Mean probability of its tokens.
        latency_ms: Milliseconds for the answer, model loaded.
    """

    text: str
    command_line: str | None
    problems: list[str] = field(default_factory=list)
    confidence: float | None = None
    latency_ms: float = 0.0


def ask(
    model: Path,
    schema: CliSchema,
    request: str,
    *,
    context: Context | None = None,
    threads: int = 2,
) -> Asked:
    """Answers a request under the grammar of the schema, and checks the answer strictly.

    Args:
        model: The exported folder, with the GGUF file and the adapter it was made from.
        schema: The program.
        request: What the user says.
        context: Where the user is.
        threads: CPU threads.

    Raises:
        DataError: The folder is not complete, or the model was trained for another schema.
    """
    from tracetune.cli_schema.answer_schema import decoding_schema
    from tracetune.cli_schema.objects import (
        COMMAND,
        AnswerError,
        canonical,
        command_line,
        parse_answer,
        problems,
    )
    from tracetune.cli_schema.prompt import user_text
    from tracetune.export.runtime import GgufModel

    instruction = _instruction(model, schema)
    file = next(model.glob("*.gguf"), None)
    if file is None:
        raise DataError("there is no GGUF file", where=str(model), remedy="export the model again")
    turns = [
        {"role": "system", "content": instruction},
        {"role": "user", "content": user_text(request, context)},
    ]
    with GgufModel(file, threads=threads) as loaded:
        found = loaded.answer(turns, max_tokens=MOST_TOKENS, grammar=decoding_schema(schema))
    sure, took = found.confidence, found.latency_ms
    try:
        value = parse_answer(found.text)
    except AnswerError as error:
        return Asked(found.text, None, [f"the answer is {error}"], sure, took)
    wrong = [f"{problem.path}: {problem.message}" for problem in problems(schema, value)]
    runs = not wrong and value["type"] == COMMAND
    line = command_line(schema, canonical(schema, value)) if runs else None
    return Asked(found.text, line, wrong, sure, took)


def _instruction(model: Path, schema: CliSchema) -> str:
    """The system turn of the training, once it is known to be about this program."""
    from tracetune.files import read_json

    path = model / "adapter" / "serving.json"
    if not path.is_file():
        raise DataError(
            "the exported folder does not say how the model was trained",
            where=str(path),
            remedy="run the pipeline again",
        )
    serving = read_json(path)
    output = serving["output"]
    if output.get("compare") != "cli" or output.get("schema") != schema.cli_name:
        raise DataError(
            f"the model was trained for {output.get('schema') or 'another task'}, and the schema "
            f"is that of {schema.cli_name}",
            where=str(path),
            remedy="run kedro run --pipeline=cli for this name",
        )
    instruction: str = serving["instruction"]
    return instruction
