"""The sample telemetry: a seeded history of a routing agent, posted to a real Phoenix server.

``language`` words the requests, ``plan`` decides what happened, ``reviews`` what people said about
it, ``post`` sends both to a server, and ``python -m tools.sample`` joins them.
"""
