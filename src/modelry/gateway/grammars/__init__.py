"""JSON Schemas as grammars, so that what an engine writes is valid whatever its model is like.

Pure: it knows nothing of requests, engines or replicas.
"""
