"""Requests to an exported model of a command-line program: for ``kedro ask`` and from Python."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracetune.cli_schema.context import Context
from tracetune.cli_schema.schema import CliSchema
from tracetune.errors import DataError

MOST_TOKENS = 512
"""Room for an answer, in tokens. A grammar bounds every text (100 characters) and list; an answer
that fills several of them may come to its end here all the same, and is then said to be cut."""


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


class Interpreter:
    """An exported model that answers requests for as long as the ``with`` block lasts.

    Every answer is under the grammar of the schema and is checked strictly.

    Args:
        model: The exported folder, with the GGUF file and the adapter it was made from.
        schema: The program.
        threads: CPU threads; None: one for a small file, else two.

    Raises:
        DataError: The folder is not complete, or the model was trained for another schema, or for
            this one before it was edited.

    Example:
        >>> with Interpreter(folder, schema) as gh:
        ...     gh.ask("show my open prs").command_line
    """

    def __init__(self, model: Path, schema: CliSchema, *, threads: int | None = None) -> None:
        from tracetune.cli_schema.answer_schema import decoding_schema

        file = next(model.glob("*.gguf"), None)
        if file is None:
            raise DataError(
                "there is no GGUF file", where=str(model), remedy="export the model again"
            )
        self.schema = schema
        self._instruction = _instruction(model, schema)
        self._grammar = decoding_schema(schema)
        self._file, self._threads = file, threads
        self._open = ExitStack()
        self._model: Any = None

    def __enter__(self) -> Interpreter:
        """Loads the file."""
        from tracetune.export.runtime import GgufModel

        self._model = self._open.enter_context(GgufModel(self._file, threads=self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        """Frees the model."""
        self._model = None
        self._open.close()

    def ask(self, request: str, context: Context | None = None) -> Asked:
        """Answers one request.

        An answer that came to the end of its room, or holds a text as long as the grammar allows,
        is reported as a problem and stands for no command line: something may be missing in it.

        Args:
            request: What the user says.
            context: Where the user is.
        """
        from tracetune.cli_schema.answer_schema import MAX_TEXT, maybe_cut
        from tracetune.cli_schema.objects import (
            COMMAND,
            AnswerError,
            canonical,
            command_line,
            parse_answer,
            problems,
        )
        from tracetune.cli_schema.prompt import user_text

        turns = [
            {"role": "system", "content": self._instruction},
            {"role": "user", "content": user_text(request, context)},
        ]
        found = self._model.answer(turns, max_tokens=MOST_TOKENS, grammar=self._grammar)
        sure, took = found.confidence, found.latency_ms
        if found.finish == "length":
            return Asked(found.text, None, ["the answer was cut"], sure, took)
        try:
            value = parse_answer(found.text)
        except AnswerError as error:
            return Asked(found.text, None, [f"the answer is {error}"], sure, took)
        wrong = [f"{problem.path}: {problem.message}" for problem in problems(self.schema, value)]
        if not wrong and maybe_cut(self.schema, value):
            wrong = [f"a text may have been cut at {MAX_TEXT} characters"]
        runs = not wrong and value["type"] == COMMAND
        line = command_line(self.schema, canonical(self.schema, value)) if runs else None
        return Asked(found.text, line, wrong, sure, took)


def ask(
    model: Path,
    schema: CliSchema,
    request: str,
    *,
    context: Context | None = None,
    threads: int | None = None,
) -> Asked:
    """Loads an exported model, answers one request and frees it again.

    Args:
        model: As for :class:`Interpreter`.
        schema: The program.
        request: What the user says.
        context: Where the user is.
        threads: As for :class:`Interpreter`.

    Raises:
        DataError: The folder is not complete, or the model was trained for another schema.
    """
    with Interpreter(model, schema, threads=threads) as interpreter:
        return interpreter.ask(request, context)


def _instruction(model: Path, schema: CliSchema) -> str:
    """The system turn of the training, once it is known to be about this program."""
    from tracetune.cli_schema.load import schema_hash
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
    if output.get("schema_sha256") != schema_hash(schema):
        raise DataError(
            f"the schema of {schema.cli_name} is not the one that the model was trained for; it "
            "was edited since",
            where=str(path),
            remedy="run kedro run --pipeline=cli for this name, or take the edit back",
        )
    instruction: str = serving["instruction"]
    return instruction
