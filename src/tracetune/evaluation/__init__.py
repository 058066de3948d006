"""Judgement: answers on held-out rows, metrics with their uncertainty, a gate, figures, a report.

It knows rows (:mod:`tracetune.records`), model folders and predictions; not where rows came from
and not how a model was trained. ``docs/evaluation.md`` explains it for users.
"""
