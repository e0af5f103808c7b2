"""Modelry: one command turns a model into a callable service."""

# Also in pyproject.toml; a test keeps them equal. Asking the installed
# package's metadata would cost every process a tenth of a second.
__version__ = "0.1.0"
