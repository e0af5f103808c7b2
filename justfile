# The project's verbs. `uv run just` lists them.

set positional-arguments := true

_default:
    @just --list --unsorted

# Install what the tests need and run them all; arguments go to pytest.
test *arguments: _test-packages
    uv run --group test pytest "$@"

# The tests that need gigabytes and minutes: vLLM, a fine-tuned model, hundreds of adapters.
test-slow *arguments: _test-packages
    uv run --group test pytest tests/slow "$@"

# Formatting, lint, types, architecture and pins.
check:
    uv run --group lint ruff format --check .
    uv run --group lint ruff check .
    uv run --group lint --group test mypy
    uv run --group lint lint-imports
    python3 scripts/lock.py --check

# Format and mend what can be mended.
fmt:
    uv run --group lint ruff check --fix .
    uv run --group lint ruff format .

# Start Modelry from this checkout.
serve *arguments:
    uv run modelry up "$@"

# Measure: start, memory, gateway. Prints ratios; see bench/README.md.
bench *arguments:
    uv run --group test python -m bench "$@"

# Resolve every dependency anew and pin it in pyproject.toml.
lock:
    python3 scripts/lock.py

# Pin the packages of runtimes that have no file yet, or of those that are named.
lock-runtimes *names:
    python3 scripts/lock_runtimes.py "$@"

# Pin the packages of clients that have no file yet, or of those that are named.
lock-clients *names:
    uv run --group test python scripts/lock_clients.py "$@"

# Bring the console's third-party assets, as they are pinned, from npm's registry.
vendor:
    python3 scripts/vendor_assets.py

# Take a picture of every page of the console, in both themes, or of those that are named.
screenshots *pages: _test-packages
    uv run --group test python scripts/screenshots.py "$@"

# Write the next migration, e.g. `just migration 0002 "add key limits"`.
migration number message:
    uv run --group lint python scripts/migration.py "$@"
    @just fmt

_test-packages:
    @python3 scripts/system_packages.py
