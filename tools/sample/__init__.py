"""The sample telemetry: seeded histories of an application, posted to a real Phoenix server.

A routing agent: ``language`` words the requests, ``plan`` decides what happened, ``reviews`` what
people said about it. A media archive: ``profiles`` and ``entities`` are two agents (``archive``,
``archive_reviews``), ``searches`` looks for the items of ``catalogue``, ``clicks`` says which of
them people chose and ``judgements`` what archivists think of them. ``whole`` joins them, ``post``
sends them to a server, and ``python -m tools.sample`` is the command.
"""
