"""Engines: what can run weights, and how. One file an engine, one contract in `base`."""
