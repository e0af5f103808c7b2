"""A model hub on loopback: Hugging Face's HTTP API and ModelScope's, and files on their own.

    hub = Hub(); hub.add("org/repo", {"config.json": b"{}", "model.safetensors": b"…"})

`gated` repositories ask for a token that was let in, `private` ones are not there
without one. Faults, and what was seen, are the `FileServer`'s.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.file_server import Fault, FileHandler, FileServer

LFS_FROM = 1000
"""Files from this size on are stored as the hubs store large ones: known by their SHA-256."""


@dataclass
class Repo:
    files: dict[str, bytes]
    branches: dict[str, str]
    gated: bool = False
    private: bool = False
    tokens: set[str] = field(default_factory=set)
    wrong: dict[str, str] = field(default_factory=dict)
    """Name → the SHA-256 that is stated of it, where that is not its own."""


class Hub(FileServer):
    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.limited = False
        """Whether it lets nobody ask any more."""
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, repo: str, files: dict[str, bytes], **more: Any) -> str:
        """Offer a repository; returns its commit."""
        told = hashlib.sha256()
        for name in sorted(files):
            told.update(name.encode() + files[name])
        commit = told.hexdigest()[:40]
        self.repos[repo] = Repo(files, {"main": commit, "master": commit}, **more)
        return commit

    def downloads(self) -> list[str]:
        """The names of files that were asked for, in order."""
        found = []
        for request in self.requests:
            split = urlsplit(request.path)
            if "/resolve/" in split.path:
                found.append(unquote(split.path.partition("/resolve/")[2].partition("/")[2]))
            elif split.path.endswith("/repo"):
                found.append(parse_qs(split.query)["FilePath"][0])
        return found


class _Handler(FileHandler):
    served: Hub

    def handle_any(self) -> None:
        token = (self.seen() or "").removeprefix("Bearer ")
        split = urlsplit(self.path)
        parts = [unquote(part) for part in split.path.split("/") if part]
        page = parts[:1] == ["api"] and not split.path.endswith("/repo")
        if self.served.limited and page:
            self.reply(429, b"")
            return
        if self.failed(fault := self.served.next_fault(page=page)):
            return
        if parts[:3] == ["api", "v1", "models"]:
            self.modelscope(parts[3:], parse_qs(split.query), token, fault)
        elif parts[:2] == ["api", "models"]:
            self.info(parts[2:], token)
        elif len(parts) > 4 and parts[2] == "resolve":
            repo = self.repo("/".join(parts[:2]), token)
            if repo is not None:
                self.one(repo, "/".join(parts[4:]), fault)
        else:
            plain = self.served.repos.get("/".join(parts[:2]))
            data = None if plain is None else plain.files.get("/".join(parts[2:]))
            if data is None:
                self.reply(404, b"")
            else:
                self.file(fault.body if fault.body is not None else data, fault)

    do_GET = do_HEAD = handle_any  # noqa: N815

    def repo(self, name: str, token: str) -> Repo | None:
        """The repository, unless it was refused."""
        repo = self.served.repos.get(name)
        known = repo is not None and token in repo.tokens
        if repo is None or (repo.private and not known):
            self.refuse(401 if not token else 404, "RepoNotFound", "Repository not found")
            return None
        if repo.gated and not known:
            self.refuse(403 if token else 401, "GatedRepo", "Access to this model is restricted")
            return None
        return repo

    def refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.reply(status, body, ("x-error-code", code), ("x-error-message", message))

    def info(self, parts: list[str], token: str) -> None:
        repo = self.repo("/".join(parts[:2]), token)
        if repo is None:
            return
        revision = parts[3] if parts[2:3] == ["revision"] else "main"
        commit = self.commit(repo, revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings = [_sibling(name, data, repo) for name, data in repo.files.items()]
        told = {"id": "/".join(parts[:2]), "sha": commit, "siblings": siblings}
        body = {**told, "private": repo.private, "tags": [], "downloads": 0}
        self.reply(200, json.dumps(body).encode(), ("content-type", "application/json"))

    def commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.branches.get(revision)
        return revision if commit is None and revision in repo.branches.values() else commit

    def one(self, repo: Repo, name: str, fault: Fault) -> None:
        data = repo.files.get(name)
        if data is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            self.file(fault.body if fault.body is not None else data, fault)

    def modelscope(
        self, parts: list[str], query: dict[str, list[str]], token: str, fault: Fault
    ) -> None:
        repo = self.served.repos.get("/".join(parts[:2]))
        revision = query.get("Revision", ["master"])[0]
        commit = None if repo is None else self.commit(repo, revision)
        if repo is None or commit is None or (repo.private and token not in repo.tokens):
            self.reply(404, b'{"Code": 10010205001, "Success": false}')
            return
        if parts[2:] == ["repo"]:
            self.one(repo, query["FilePath"][0], fault)
            return
        files = [
            {"Path": name, "Name": name.rpartition("/")[2], "Type": "blob", "Size": len(data),
             "Sha256": repo.wrong.get(name, hashlib.sha256(data).hexdigest()), "Revision": commit}
            for name, data in repo.files.items()
        ]  # fmt: skip
        body = {"Code": 200, "Success": True, "Data": {"Files": files}}
        self.reply(200, json.dumps(body).encode(), ("content-type", "application/json"))


def _sibling(name: str, data: bytes, repo: Repo) -> dict[str, Any]:
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    found: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
    if len(data) >= LFS_FROM or name in repo.wrong:
        sha256 = repo.wrong.get(name, hashlib.sha256(data).hexdigest())
        found["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 135}
    return found
