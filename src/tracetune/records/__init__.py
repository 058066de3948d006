"""The contracts: every row that crosses a stage.

A row says what it is, where it came from and what must never be split from it. Sources write these
rows, splits and trainers read them, and neither knows the other. The dataset classes validate them
on save and on load.
"""

from tracetune.records.answers import (
    Example,
    Preference,
    Rating,
    make_example,
    make_preference,
    make_rating,
)
from tracetune.records.base import (
    SYNTHETIC,
    Message,
    Provenance,
    Record,
    Row,
    Split,
    Text,
    UtcTime,
)
from tracetune.records.chats import (
    ChatAttachment,
    ChatProvider,
    ChatRewrite,
    ChatRole,
    ChatTurn,
    Conversation,
    RewriteSource,
)
from tracetune.records.conversations import (
    Trajectory,
    Turn,
    make_trajectory,
)
from tracetune.records.eisv import (
    EisvExpression,
    EisvOrigin,
    EisvPattern,
    EisvShape,
    EisvState,
    EisvTrajectory,
    PatternSource,
    make_eisv_trajectory,
    window_ids,
)
from tracetune.records.reviews import Nearest, ReviewItem
from tracetune.records.searches import (
    CatalogueDocument,
    SearchQuery,
    Triplet,
    make_query,
    make_triplet,
)

__all__ = [
    "SYNTHETIC",
    "CatalogueDocument",
    "ChatAttachment",
    "ChatProvider",
    "ChatRewrite",
    "ChatRole",
    "ChatTurn",
    "Conversation",
    "EisvExpression",
    "EisvOrigin",
    "EisvPattern",
    "EisvShape",
    "EisvState",
    "EisvTrajectory",
    "Example",
    "Message",
    "Nearest",
    "PatternSource",
    "Preference",
    "Provenance",
    "Rating",
    "Record",
    "ReviewItem",
    "RewriteSource",
    "Row",
    "SearchQuery",
    "Split",
    "Text",
    "Trajectory",
    "Triplet",
    "Turn",
    "UtcTime",
    "make_eisv_trajectory",
    "make_example",
    "make_preference",
    "make_query",
    "make_rating",
    "make_trajectory",
    "make_triplet",
    "window_ids",
]
