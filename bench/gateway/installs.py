"""The peers' programs, at pinned versions, under `.bench/` of the repository.

nginx is Debian's, installed here where it is missing and we are root. The PyPI peers get
an environment of their own each. Their bytecode is compiled, as pip leaves it, also where
PYTHONDONTWRITEBYTECODE is set: LiteLLM imports while it serves, and is slower without.

Whatever is Python runs on Debian's, where there is one, Modelry and LiteLLM alike: nginx
is Debian's build too, and an interpreter that was compiled by hand, without profile-guided
optimisation, takes a fifth more of the processor for the same code.
"""

import os
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".bench"

VLLM_ROUTER = "0.1.17"
LITELLM = "1.109.1"
PINNED = {"nginx": "Debian's", "vllm-router": VLLM_ROUTER, "litellm": LITELLM}
# What this LiteLLM pins and an index may not have yet. The first two serve a database and
# a licence, neither of which is configured here.
_LITELLM_ANY = ("litellm-proxy-extras", "litellm-enterprise", "certifi")

_DEBIANS = Path("/usr/bin/python3")
_PYTHON = str(_DEBIANS) if _DEBIANS.exists() else "3.11"
_PROJECT = Path(__file__).parents[2]


class NotInstalled(Exception):
    """What is missing, and why it could not be had."""


def nginx() -> Path:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is not None:
        return Path(found)
    install = "apt-get install -y --no-install-recommends nginx-light"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NotInstalled(f"nginx is missing; as root: {install}")
    for command in ("apt-get update", install):
        _run(command.split(), {**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    return Path("/usr/sbin/nginx")


def vllm_router() -> Path:
    folder = _environment(f"vllm-router-{VLLM_ROUTER}", f"vllm-router=={VLLM_ROUTER}")
    return folder / "bin" / "vllm-router"


def litellm() -> Path:
    folder = _environment(f"litellm-{LITELLM}", f"litellm[proxy]=={LITELLM}", _LITELLM_ANY)
    return folder / "bin" / "litellm"


def modelry() -> Path:
    """The interpreter of an environment with this checkout in it."""
    folder = FOLDER / "modelry"
    python = folder / "bin" / "python"
    uv = shutil.which("uv")
    if uv is None:
        raise NotInstalled("Modelry needs uv: pip install uv")
    prepare_folder()
    if not python.exists():
        _run([uv, "venv", "--quiet", "--python", _PYTHON, str(folder)], dict(os.environ))
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder)]
    # Where its pins are read: from its own pyproject.toml.
    _run([*install, "--editable", str(_PROJECT)], dict(os.environ), _PROJECT)
    return python


def _environment(name: str, requirement: str, any_version: tuple[str, ...] = ()) -> Path:
    folder = FOLDER / name
    # Written last: an installation that was broken off is made anew.
    complete = folder / "complete"
    if complete.exists():
        return folder
    uv = shutil.which("uv")
    if uv is None:
        raise NotInstalled(f"{requirement} needs uv: pip install uv")
    prepare_folder()
    shutil.rmtree(folder, ignore_errors=True)
    overrides = FOLDER / f"{name}-overrides.txt"
    overrides.write_text("\n".join(any_version))
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder)]
    _run([uv, "venv", "--quiet", "--python", _PYTHON, str(folder)], dict(os.environ))
    _run([*install, "--override", str(overrides), requirement], dict(os.environ))
    complete.touch()
    return folder


def prepare_folder() -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")


def _run(command: list[str], environment: dict[str, str], cwd: Path = Path("/")) -> None:
    """By default in a folder outside the project, whose pins are not the peers'."""
    print(f"+ {' '.join(command)}", flush=True)
    try:
        done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
    except OSError as error:
        raise NotInstalled(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise NotInstalled(f"{' '.join(command)}: {(done.stdout + done.stderr)[-1000:].strip()}")
