"""How a memory does while it is used: operations timed, recall estimated live, and both told to OpenTelemetry if asked.

Nothing here sends anything by itself, and nothing knows of texts: sampled queries are kept as vectors, in memory alone.
"""
