"""A GGUF file that answers, in this process, through llama.cpp (xllamacpp).

Settings are those under which the file is comparable with the model it was made from: a float32
cache, no flash attention, greedy, nothing kept between two requests.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from tracetune.errors import ConfigurationError, DataError, ServerError
from tracetune.export import grammar as grammar_rules
from tracetune.export.extra import runtime

if TYPE_CHECKING:
    import numpy

MAGIC = b"GGUF"
SMALL = 64 * 2**20
"""Bytes of a file up to which one thread answers sooner than two that wait for each other."""
_SECONDS = 600
_ALL = 1 << 24
"""More probabilities than any vocabulary has."""
_PUSH = 1000.0
"""Added to the logit of a token that shall be written."""

Message = Mapping[str, str]
Grammar = str | Mapping[str, Any]


@dataclass(frozen=True)
class GgufAnswer:
    """One answer.

    Attributes:
        text: The answer without surrounding blanks and special tokens.
        finish: ``stop``: the model ended its turn, or the grammar is complete; ``length``: cut.
        tokens: Generated tokens, the end token included.
        confidence: Mean probability that the model gave to the tokens it wrote, from 0 to 1, before
            any grammar took choices away. llama.cpp gives none for tokens that end within a
            character; None if there is no other token.
        latency_ms: Time from messages to answer.
    """

    text: str
    finish: Literal["stop", "length"]
    tokens: int
    confidence: float | None
    latency_ms: float


class GgufModel:
    """A GGUF file, loaded for as long as the ``with`` block lasts.

    llama.cpp opens a port on 127.0.0.1 beside its functions; only this object knows its key.

    Args:
        path: The file.
        threads: CPU threads; None: one for a small file, else two.
        context: Longest conversation in tokens, answer included.

    Example:
        >>> with GgufModel(Path("demo-q4_k_m.gguf")) as model:
        ...     model.answer([{"role": "user", "content": "Hi"}], max_tokens=16).text
    """

    def __init__(self, path: Path, *, threads: int | None = None, context: int = 2048) -> None:
        self.path = path
        self._threads = threads
        self.context = context
        self._key = secrets.token_hex(16)
        self._server: Any = None
        self._grammars: dict[str, str] = {}

    def __enter__(self) -> GgufModel:
        """Loads the file.

        Raises:
            DataError: It does not exist, is no GGUF file, or cannot be loaded.
            ConfigurationError: The runtime is not installed.
        """
        check_magic(self.path)
        xllamacpp = runtime()
        with _caught() as log:
            try:
                self._server = xllamacpp.Server(self._params(xllamacpp))
            except RuntimeError as error:
                raise DataError(
                    f"llama.cpp cannot load the file ({_last_line(log) or error})",
                    where=str(self.path),
                    remedy="export the model again; a file that was cut is not usable",
                ) from None
        # llama.cpp never ends when it is closed before its loop has begun: one token begins it.
        self.greedy([0], 1)
        return self

    def __exit__(self, *_: object) -> None:
        """Frees the model and closes its port."""
        self._server = None

    @property
    def threads(self) -> int:
        """CPU threads: as given, or by the size of the file."""
        return self._threads or (1 if self.path.stat().st_size < SMALL else 2)

    def _params(self, xllamacpp: Any) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        params.n_ctx = self.context
        params.n_parallel = 1
        params.n_gpu_layers = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_prompt = False
        params.cache_ram_mib = 0
        params.fit_params = False
        params.warmup = False
        params.verbosity = -1
        params.use_jinja = True
        # What the model wrote, as it is: no search for tool calls or thoughts in it.
        params.force_pure_content_parser = True
        params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
        params.ui = False
        params.hostnames = ["127.0.0.1"]
        params.api_keys = [self._key]
        return params

    def answer(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        grammar: Grammar | None = None,
    ) -> GgufAnswer:
        """The greedy answer to a conversation, through the chat template in the file.

        Args:
            messages: Turns with ``role`` and ``content``; the last one is the user's.
            max_tokens: Longest answer in tokens.
            grammar: What may be written: GBNF text, or a JSON Schema. A schema allows no free white
                space. An answer that was cut (``finish`` is ``length``) may still be incomplete.

        Raises:
            ConfigurationError: The grammar cannot be used.
            DataError: The conversation does not fit the context.
        """
        body: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "cache_prompt": False,
            "logprobs": True,
            "top_logprobs": 1,
        }
        if not messages:
            raise DataError("there is no conversation to answer", where=str(self.path))
        if grammar is not None:
            body["grammar"] = self._gbnf(grammar)
        start = time.perf_counter()
        found = self._call("handle_chat_completions", body)
        latency = (time.perf_counter() - start) * 1000
        choice = found["choices"][0]
        logs = [token["logprob"] for token in (choice.get("logprobs") or {}).get("content", [])]
        return GgufAnswer(
            text=(choice["message"]["content"] or "").strip(),
            finish="stop" if choice["finish_reason"] == "stop" else "length",
            tokens=found["usage"]["completion_tokens"],
            confidence=math.fsum(map(math.exp, logs)) / len(logs) if logs else None,
            latency_ms=latency,
        )

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text as the runtime reads a prompt: special tokens by their text."""
        body = {"content": text, "add_special": True, "parse_special": True}
        ids: list[int] = self._post("/tokenize", body)["tokens"]
        return ids

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt that the chat template in the file makes, ready for an answer."""
        body = {"messages": [dict(message) for message in messages]}
        prompt: str = self._post("/apply-template", body)["prompt"]
        return prompt

    def next_log_probabilities(
        self, prompt_ids: Sequence[int], *, keep: bool = False
    ) -> numpy.ndarray[Any, Any]:
        """Natural log-probabilities of all tokens after a prompt, shape (vocabulary,).

        Args:
            prompt_ids: Token ids of the prompt.
            keep: Whether the prompt stays in the cache, for a series of prompts that each begin
                with the one before.
        """
        import numpy

        # What comes next is of no interest, but a token that ends within a character would be kept
        # back, and its probabilities with it.
        found = self._one(prompt_ids, self.tokenize("a")[-1], probabilities=_ALL, keep=keep)
        values = numpy.full(len(found["top_logprobs"]), -numpy.inf)
        for token in found["top_logprobs"]:
            values[token["id"]] = token["logprob"]
        return values

    def log_probability(
        self, prompt_ids: Sequence[int], token: int, *, keep: bool = False
    ) -> float:
        """Natural log-probability of one token after a prompt; cheap for any vocabulary.

        Args:
            prompt_ids: Token ids of the prompt.
            token: The token.
            keep: As in :meth:`next_log_probabilities`.
        """
        found = self._one(prompt_ids, token, probabilities=1, keep=keep)
        if found is None:
            return float(self.next_log_probabilities(prompt_ids, keep=keep)[token])
        return float(found["logprob"])

    def _one(self, prompt_ids: Sequence[int], token: int, *, probabilities: int, keep: bool) -> Any:
        """Lets the model write ``token``; what it thought of it before it was pushed to."""
        body = {
            "prompt": list(prompt_ids),
            "max_tokens": 1,
            "temperature": 0,
            "n_probs": probabilities,
            "cache_prompt": keep,
            "logit_bias": [[token, _PUSH]],
        }
        choice = self._call("handle_completions", body)["choices"][0]
        return choice["logprobs"]["content"][0] if choice["logprobs"] else None

    def greedy(self, prompt_ids: Sequence[int], max_tokens: int) -> list[int]:
        """Token ids that the model writes after a prompt, its end token included if it ends."""
        body = {
            "prompt": list(prompt_ids),
            "n_predict": max_tokens,
            "temperature": 0,
            "return_tokens": True,
            "cache_prompt": False,
        }
        ids: list[int] = self._post("/completion", body)["tokens"]
        return ids

    def _gbnf(self, grammar: Grammar) -> str:
        """The text of a grammar; a JSON Schema is proved to be in force first, once."""
        if isinstance(grammar, str):
            if not grammar.strip() or grammar.startswith("%"):
                raise grammar_rules.refused("it is no GBNF text")
            return grammar
        key = json.dumps(grammar, sort_keys=True)
        if key not in self._grammars:
            text = grammar_rules.from_schema(grammar)
            if self._ignores(text):
                raise grammar_rules.refused("it does not know something in this JSON Schema")
            self._grammars[key] = text
        return self._grammars[key]

    def _ignores(self, grammar: str) -> bool:
        """Whether llama.cpp drops a grammar, which it does in silence when it cannot read it.

        No JSON text begins with a closing brace: if the model can be pushed to write one, nothing
        holds it back.
        """
        [brace] = self.tokenize("}")[-1:]
        body = {
            "prompt": [brace],
            "max_tokens": 1,
            "temperature": 0,
            "n_probs": 1,
            "cache_prompt": False,
            "grammar": grammar,
            "logit_bias": [[brace, _PUSH]],
        }
        choice = self._call("handle_completions", body)["choices"][0]
        return [token["id"] for token in choice["logprobs"]["content"]] == [brace]

    def _loaded(self) -> Any:
        if self._server is None:
            raise RuntimeError("the model is not loaded; use it in a with block")
        return self._server

    def _call(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        call, words = getattr(self._loaded(), name), ""
        try:
            if "grammar" in body:
                with _caught() as log:  # a wrong grammar is explained there and nowhere else
                    found = call(body)
                    words = _last_line(log, "error parsing grammar")
            else:
                found = call(body)
        except (RuntimeError, ValueError) as error:
            raise DataError(
                f"llama.cpp cannot read the request ({error})",
                where=str(self.path),
                remedy="give every turn a role and a content",
            ) from None
        if "error" in found:
            raise _as_exception(found["error"], "grammar" in body, words, self.path)
        result: dict[str, Any] = found
        return result

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._loaded().listening_address}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_SECONDS) as reply:
            found: dict[str, Any] = json.load(reply)
            return found


def check_magic(path: Path) -> None:
    """Refuses what is no GGUF file.

    Raises:
        DataError: There is no such file, or it begins with something else.
    """
    start = b""
    if path.is_file():
        with path.open("rb") as handle:
            start = handle.read(len(MAGIC))
    if start != MAGIC:
        raise DataError(
            "this is no GGUF file" if path.is_file() else "there is no such file",
            where=str(path),
            remedy="export the model: kedro run --pipeline=export",
        )


def _as_exception(
    error: Mapping[str, Any], grammar: bool, words: str, path: Path
) -> ConfigurationError | DataError | ServerError:
    message = str(error.get("message", error))
    if error.get("type") == "exceed_context_size_error":
        return DataError(
            f"the conversation does not fit the context ({message})",
            where=str(path),
            remedy="shorten it, or load the model with a larger context",
        )
    if grammar and "grammar" in message:
        return grammar_rules.refused(words or message)
    return ServerError(f"llama.cpp refused the request ({message})", where=str(path))


@contextlib.contextmanager
def _caught() -> Iterator[IO[bytes]]:
    """What C code writes to standard error in the block, kept from the console."""
    with tempfile.TemporaryFile() as log:
        before = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield log
        finally:
            os.dup2(before, 2)
            os.close(before)


def _last_line(log: IO[bytes], mark: str = "") -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line and mark in line), "")
