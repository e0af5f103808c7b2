"""Modelry: one command turns a model into a callable service."""

from importlib.metadata import version

__version__ = version("modelry")
