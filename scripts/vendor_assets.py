"""Brings the console's third-party assets into its static folder, each with its licence.

    python3 scripts/vendor_assets.py

Packages are taken with npm from the registry it is set up for, and only at the integrity that
stands here. Files are kept as they are published. `SHA256SUMS` beside them says what was
brought; a test compares it with what is there.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENDOR = ROOT / "src/modelry/console/static/vendor"

ICONS = (
    "activity", "arrow-down", "arrow-left", "arrow-right", "arrow-up", "audio-lines",
    "badge-check", "bot", "box", "braces", "chart-column", "check", "chevron-down",
    "chevron-right", "chevrons-up-down", "circle", "circle-alert", "circle-check",
    "circle-help", "circle-pause", "circle-play", "circle-x", "clock", "code", "columns-2",
    "copy", "cpu", "database", "download", "ellipsis", "external-link", "eye", "eye-off",
    "file-audio", "file-up", "gauge", "git-commit-horizontal", "globe", "hard-drive", "image",
    "image-plus", "info", "key-round", "keyboard", "languages", "layers", "list-filter",
    "list-ordered", "loader-circle", "lock", "log-out", "memory-stick", "menu",
    "message-square", "mic", "monitor", "moon", "package", "palette", "paperclip", "pencil",
    "play", "plus", "refresh-cw", "rocket", "rotate-ccw", "scale", "scroll-text", "search",
    "send", "server", "settings", "share-2", "shield-check", "sliders-horizontal", "sparkles",
    "square", "sun", "terminal", "text-cursor-input", "thumbs-up", "trash-2", "triangle-alert",
    "type", "upload", "user", "users", "volume-2", "wand-sparkles", "wrench", "x", "zap",
)  # fmt: skip


@dataclass(frozen=True)
class Package:
    """`files`: where each file of the package goes, below `vendor/<name>/`."""

    name: str
    version: str
    integrity: str
    files: dict[str, str]

    @property
    def folder(self) -> str:
        return self.name.removesuffix(".org").removesuffix("-static")


PACKAGES = (
    Package(
        "htmx.org",
        "4.0.1",
        "sha512-oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg==",
        {"dist/htmx.esm.min.js": "htmx.js", "LICENSE": "LICENSE"},
    ),
    Package(
        "marked",
        "18.2.1",
        "sha512-ii4bxCTCqqwpT86XZWgJNs+ZnAIZksmLGYMViWA7PDIXYIeNo1x6cDdX3JOip9NM/cI6p8z57FxliACboTruMA==",
        {"lib/marked.esm.js": "marked.js", "LICENSE": "LICENSE"},
    ),
    Package(
        "dompurify",
        "3.5.0",
        "sha512-LYC0ZkE8P1V42JsRYTwMdme/2ET8SpOc5AA2eOFjP/IadvRd2fwiT4TVz5vkfy0XUx12aS2UaRkTnfVPNOv9vw==",
        {"dist/purify.es.mjs": "purify.js", "LICENSE": "LICENSE"},
    ),
    Package(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {"dist/uPlot.esm.js": "uplot.js", "dist/uPlot.min.css": "uplot.css", "LICENSE": "LICENSE"},
    ),
    Package(
        "lucide-static",
        "1.62.0",
        "sha512-WBZA/m2PvkFpMGHDtsBck5P2A9G4ehLlYu4GwwICcmEm1BvYVgj00lCDxKRWLlbMlOibLaiwdQ88G5pHkSWgwA==",
        {f"icons/{icon}.svg": f"{icon}.svg" for icon in ICONS} | {"LICENSE": "LICENSE"},
    ),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        brought = Path(folder, "vendor")
        for package in PACKAGES:
            bring(package, Path(folder), brought / package.folder)
        sums = "".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(brought)}\n"
            for path in sorted(brought.rglob("*"))
            if path.is_file()
        )
        (brought / "SHA256SUMS").write_text(sums)
        shutil.rmtree(VENDOR, ignore_errors=True)
        shutil.copytree(brought, VENDOR)


def bring(package: Package, workspace: Path, into: Path) -> None:
    """Unpack what is wanted of a package. Ends with a message where it is not what is pinned."""
    asked = f"{package.name}@{package.version}"
    subprocess.run(["npm", "pack", "--silent", asked], cwd=workspace, check=True)
    (archive,) = workspace.glob("*.tgz")
    digest = hashlib.sha512(archive.read_bytes()).digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != package.integrity:
        raise SystemExit(f"{asked}: {found} is not {package.integrity}")
    into.mkdir(parents=True)
    with tarfile.open(archive) as files:
        for source, target in package.files.items():
            member = files.extractfile(f"package/{source}")
            if member is None:
                raise SystemExit(f"{asked} has no file {source}")
            (into / target).write_bytes(member.read())
    archive.unlink()


if __name__ == "__main__":
    main()
