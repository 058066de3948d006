"""The whole sample: the routing agent, the agents of the archive and its search.

Every part has generators of its own, so that a further part changes none of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tools.sample.archive_reviews import ArchiveReviews
from tools.sample.clicks import Feedback
from tools.sample.entities import EntityAgent
from tools.sample.judgements import Judgements
from tools.sample.language import Grammar
from tools.sample.plan import make_history
from tools.sample.private import in_archive
from tools.sample.profiles import ProfileAgent
from tools.sample.reviewing import Annotation
from tools.sample.reviews import Reviews
from tools.sample.searches import SearchPlanner
from tools.sample.spans import Span


@dataclass
class Part:
    """What is posted together, in this order.

    Attributes:
        spans: The spans.
        first: Span annotations of the daily review.
        sessions: Session annotations.
        notes: Notes on spans.
        late: Span annotations posted afterwards.
        documents: Annotations of documents in the results of searches.
        opinions: Further ones of the same documents, each under an identifier.
    """

    spans: list[Span] = field(default_factory=list)
    first: list[Annotation] = field(default_factory=list)
    sessions: list[Annotation] = field(default_factory=list)
    notes: list[Annotation] = field(default_factory=list)
    late: list[Annotation] = field(default_factory=list)
    documents: list[Annotation] = field(default_factory=list)
    opinions: list[Annotation] = field(default_factory=list)


def make_sample() -> list[Part]:
    """The whole sample: first what happened around the routing agent, then the archive."""
    grammar = Grammar.load()
    return [_routing(grammar), _archive(grammar)]


def all_spans() -> list[Span]:
    """The spans of all parts."""
    return [span for part in make_sample() for span in part.spans]


def _routing(grammar: Grammar) -> Part:
    history = make_history()
    reviews = Reviews(history, grammar)
    return Part(history.spans, reviews.first, reviews.sessions, reviews.notes, reviews.late)


def _archive(grammar: Grammar) -> Part:
    part = Part()
    secrets = [(kind, text) for kind, texts in in_archive().items() for text in texts]
    # The last address stands in an item of the archive.
    secrets.remove(("email", in_archive()["email"][-1]))
    words = grammar.shared["archive_feedback"]
    for agent in (ProfileAgent(grammar, secrets[::2]), EntityAgent(grammar)):
        agent.run()
        reviews = ArchiveReviews(agent, words)
        part.spans += agent.spans
        part.first += reviews.first
        part.late += reviews.late
    search = SearchPlanner(grammar, secrets[1::2]).run()
    part.spans += search.spans
    part.first += Feedback(search).first
    judgements = Judgements(search)
    part.documents += judgements.first
    part.opinions += judgements.second
    return part
