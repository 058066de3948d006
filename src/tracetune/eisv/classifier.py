"""The bar of the honest gate: how well the numbers of a prompt tell the shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracetune.eisv.imitator import affine
from tracetune.eisv.prompt import Variant, numbers_of
from tracetune.eisv.states import Floats, Window
from tracetune.eisv.vocabulary import AFFINITY, EISV_TOKENS, SHAPES, shape_index
from tracetune.errors import DataError
from tracetune.records import Record

TREES = 300


class Classified(Record):
    """What a classifier says of held-out windows.

    Attributes:
        variant: Whose numbers it was given.
        n_train: Windows it was trained on.
        n_test: Windows it was asked about.
        predicted: The shape it says, per window.
        one_token: The token with the highest expected coherence under its probabilities: the best
            single answer to its numbers.
        accuracy: Share that is right.
        balanced_accuracy: Mean of the shares of each shape that occurs in the test rows.
        recall: That share, per shape.
        confusion: True shape to said shape to windows.
        untaught: Shapes of test rows that no training row has; it cannot say them.
    """

    variant: str
    n_train: int
    n_test: int
    predicted: list[str]
    one_token: list[str]
    accuracy: float
    balanced_accuracy: float
    recall: dict[str, float]
    confusion: dict[str, dict[str, int]]
    untaught: list[str]


def shown_numbers(windows: Sequence[Window], variant: Variant) -> Floats:
    """The numbers that the prompt of a variant shows, and nothing else.

    Returns:
        ``(windows, 13)``: the twelve means, rounded as in the prompt, and the count of states;
        ``(windows, 14)`` with the duration, unless the variant leaves it out. The line of the shape
        that ``full`` has is no number and stays out.
    """
    columns = [[len(window) for window in windows]]
    if variant != "no_shape_no_duration":
        columns.append([round(window.duration) for window in windows])
    return np.column_stack([numbers_of(windows), *columns])


def classify_numbers(
    train: Floats,
    train_shapes: Sequence[str],
    test: Floats,
    test_shapes: Sequence[str],
    *,
    variant: Variant,
    seed: int,
) -> Classified:
    """Trains extremely randomised trees on the numbers of training rows and asks test rows.

    Every shape weighs the same in training, because recognition is judged by shape.

    Args:
        train: Numbers of the training windows, as ``shown_numbers`` gives them.
        train_shapes: Their shapes.
        test: Numbers of the test windows.
        test_shapes: Their shapes.
        variant: Whose numbers they are.
        seed: Of the trees.

    Raises:
        DataError: No training or no test rows, or an unknown shape.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    if not len(train_shapes) or not len(test_shapes):
        raise DataError(
            f"a classifier needs rows: {len(train_shapes)} to train, {len(test_shapes)} to test",
            remedy="give more trajectories, or look into the split",
        )
    for shape in {*train_shapes, *test_shapes}:
        shape_index(shape)
    model: Any = ExtraTreesClassifier(
        n_estimators=TREES, class_weight="balanced", random_state=seed, n_jobs=1
    )
    model.fit(train, np.asarray(train_shapes, dtype=str))
    chances = model.predict_proba(test)
    classes = [str(name) for name in model.classes_]
    predicted = [classes[i] for i in chances.argmax(axis=1)]
    # (shapes, tokens): which tokens each shape counts.
    counted = np.array([affine(shape) for shape in classes])
    one_token = [EISV_TOKENS[i] for i in np.round(chances @ counted, 9).argmax(axis=1)]
    right = [said == true for said, true in zip(predicted, test_shapes, strict=True)]
    recall = {
        shape: float(np.mean([right[i] for i in at]))
        for shape in SHAPES
        if (at := [i for i, true in enumerate(test_shapes) if true == shape])
    }
    return Classified(
        variant=variant,
        n_train=len(train_shapes),
        n_test=len(test_shapes),
        predicted=predicted,
        one_token=one_token,
        accuracy=float(np.mean(right)),
        balanced_accuracy=float(np.mean(list(recall.values()))),
        recall=recall,
        confusion=confusion(test_shapes, predicted),
        untaught=[shape for shape in recall if shape not in classes],
    )


def confusion(true: Sequence[str], said: Sequence[str]) -> dict[str, dict[str, int]]:
    """True shape to said shape to rows, all nine shapes in the order of the rules."""
    table = {shape: dict.fromkeys(SHAPES, 0) for shape in SHAPES}
    for one, other in zip(true, said, strict=True):
        table[one][other] += 1
    return table


def one_token_coherence(tokens: Sequence[str], true: Sequence[str]) -> Floats:
    """``(n,)`` coherence of answers of a single token with the true shapes: 1 or 0."""
    return np.array(
        [float(token in AFFINITY[shape]) for token, shape in zip(tokens, true, strict=True)]
    )
