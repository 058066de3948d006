"""Cheap baselines: what an adapter must not lose against.

Both learn from the training rows alone, never from validation or test rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from tracetune.errors import DataError
from tracetune.evaluation.generate import Answer
from tracetune.evaluation.targets import parse_answer
from tracetune.outputs import OutputSpec
from tracetune.records import Example, Message


def user_text(prompt: Sequence[Message]) -> str:
    """What the user said: the text of all user turns, one per line."""
    return "\n".join(message.content for message in prompt if message.role == "user")


def completion_text(row: Example) -> str:
    """The expected answer of a row as text: its first assistant turn."""
    return row.completion[0].content


def taught(train: Sequence[Example]) -> list[tuple[str, str]]:
    """What the rows teach as (last user turn, answer): one pair per assistant turn."""
    found = []
    for row in train:
        turns = [*row.prompt, *row.completion]
        for place in range(len(row.prompt), len(turns)):
            if turns[place].role == "assistant":
                found.append((turns[place - 1].content, turns[place].content))
    return found


def _need_rows(train: Sequence[Example]) -> None:
    if not train:
        raise DataError(
            "the cheap baselines have no training rows to learn from",
            remedy="check the funnel report for why no row was kept",
        )


class MajorityClass:
    """Always gives the most frequent answer of the training rows.

    Ties go to the target whose name sorts first. Its confidence is the share of that target among
    the training rows.
    """

    name = "majority"

    def __init__(self, train: Sequence[Example], output: OutputSpec) -> None:
        """Counts the targets of the training rows."""
        _need_rows(train)
        texts: dict[str, Counter[str]] = {}
        for _, text in taught(train):
            target = parse_answer(text, output).target
            if target is not None:
                texts.setdefault(target.label, Counter())[text] += 1
        if not texts:
            raise DataError(
                "no training row names a target in the fields of the output specification",
                remedy="compare telemetry.output.target with what the agent writes",
            )
        best = min(texts, key=lambda target: (-texts[target].total(), target))
        self.text = min(texts[best], key=lambda text: (-texts[best][text], text))
        self.share = texts[best].total() / len(taught(train))

    def answers(self, prompts: Sequence[Sequence[Message]]) -> list[Answer]:
        """The same answer for every prompt."""
        found = []
        for _ in prompts:
            start = time.perf_counter()
            text = self.text
            latency = (time.perf_counter() - start) * 1000
            found.append(Answer(text, tokens=0, confidence=self.share, latency_ms=latency))
        return found


class NearestNeighbour:
    """Gives the answer of the most similar training prompt (of its last user turn).

    Similarity is the cosine of TF-IDF vectors over character 3- to 5-grams within words
    (``sublinear_tf``): typing errors and inflected words still share most of their n-grams, and it
    needs no word list of any language. Ties go to the earlier training row; a prompt that shares
    nothing with any of them gets the majority answer. It states no confidence: a cosine is no
    probability.
    """

    name = "nearest"

    def __init__(self, train: Sequence[Example], output: OutputSpec) -> None:
        """Learns the n-grams and their weights from the training prompts."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        _need_rows(train)
        pairs = taught(train)
        self._texts = [text for _, text in pairs]
        self._otherwise = MajorityClass(train, output).text
        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, lowercase=True
        )
        self._matrix = self._vectorizer.fit_transform([request for request, _ in pairs])

    def answers(self, prompts: Sequence[Sequence[Message]]) -> list[Answer]:
        """The nearest row's answer, prompt by prompt, each timed alone."""
        found = []
        for prompt in prompts:
            start = time.perf_counter()
            vector = self._vectorizer.transform([prompt[-1].content])
            similarity = (self._matrix @ vector.T).toarray().ravel()
            best = int(similarity.argmax())
            text = self._texts[best] if similarity[best] > 0 else self._otherwise
            latency = (time.perf_counter() - start) * 1000
            found.append(Answer(text, tokens=0, confidence=None, latency_ms=latency))
        return found


BASELINES = (MajorityClass.name, NearestNeighbour.name, "keyword")
"""Names of the cheap baselines in the predictions, in the order of the report.

A judgement has those that its task allows: the keyword matcher reads the schema of a program
(:mod:`tracetune.cli_schema.baselines`).
"""
