"""The Python package index as this machine's own clients are set up to reach it.

Reads what uv and pip read: environment variables first, then configuration
files; the index, further indexes, folders of wheels, trusted hosts, proxy and
certificates. Who has pointed `pip install` at a mirror gets weights from there
as well.
"""

import configparser
import os
import ssl
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx2
import truststore
from unearth import Link, PackageFinder
from unearth.auth import MultiDomainBasicAuth
from unearth.errors import URLError
from unearth.fetchers import Fetcher, PyPIClient

from modelry.errors import FetchError

DEFAULT_INDEX = ""
"""Stands for the index that Python's package clients use where none is set."""
_CONNECT_TIMEOUT_S = 20.0
_READ_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class IndexSettings:
    """`indexes`: URLs, the default one first, or `DEFAULT_INDEX`.

    URLs can hold passwords: never show them whole.
    """

    indexes: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    proxy: str | None = None
    certificates: str | None = None


def read_index_settings(environ: Mapping[str, str], home: Path) -> IndexSettings:
    """What uv and pip would use, uv's settings first."""
    uv = _uv_settings(environ, home)
    pip = _pip_settings(environ, home)
    extras = [*uv.get("extra", ()), *pip.get("extra-index-url", ())]
    default = [*uv.get("default", ()), *pip.get("index-url", ()), DEFAULT_INDEX][:1]
    if pip.get("no-index"):
        default, extras = uv["default"][:1], uv["extra"]
    return IndexSettings(
        indexes=tuple(dict.fromkeys([*default, *extras])),
        find_links=tuple(
            dict.fromkeys(
                link if "://" in link else Path(link).expanduser().absolute().as_uri()
                for link in [*uv.get("find-links", ()), *pip.get("find-links", ())]
            )
        ),
        trusted_hosts=tuple(pip.get("trusted-host", ())),
        proxy=next(iter(pip.get("proxy", ())), None),
        certificates=next(iter(pip.get("cert", ())), None),
    )


def uv_variables(settings: IndexSettings) -> dict[str, str]:
    """The same for uv, in its own environment variables."""
    indexes = [url for url in settings.indexes if url != DEFAULT_INDEX]
    by_default = len(indexes) < len(settings.indexes)
    variables = {
        "UV_DEFAULT_INDEX": "" if by_default or not indexes else indexes.pop(0),
        "UV_INDEX": " ".join(indexes),
        "UV_FIND_LINKS": ",".join(settings.find_links),
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
        "SSL_CERT_FILE": settings.certificates or "",
        "ALL_PROXY": settings.proxy or "",
        # Whichever index has a package may give it, as with pip: its digest is known.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_NO_INDEX": "" if settings.indexes else "1",
    }
    return {name: value for name, value in variables.items() if value}


@dataclass(frozen=True)
class Wheel:
    """A wheel's place on the index. `sha256` as the index states it, if it does."""

    filename: str
    url: str
    sha256: str | None


class PackageIndex:
    """One session with the index; use it as a context manager, in one thread."""

    def __init__(self, settings: IndexSettings) -> None:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if settings.certificates:
            context.load_verify_locations(settings.certificates)
        self.session = PyPIClient(
            trusted_hosts=settings.trusted_hosts,
            verify=context,
            proxy=settings.proxy,
            follow_redirects=True,
            timeout=httpx2.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            event_hooks={"response": [_refuse_failures]},
        )
        self.session.auth = MultiDomainBasicAuth(prompting=False, index_urls=settings.indexes)
        if not settings.indexes and not settings.find_links:
            raise FetchError(
                "no package index is set up on this machine",
                hint="pip's no-index is on; unset it, or name a folder of wheels with find-links",
            )
        urls = [url for url in settings.indexes if url != DEFAULT_INDEX]
        # A finder without any source takes the default index by itself.
        by_default = len(urls) < len(settings.indexes)
        self.finder = PackageFinder(
            cast(Fetcher, self.session),
            index_urls=[] if by_default else urls,
            find_links=[] if by_default else settings.find_links,
            trusted_hosts=settings.trusted_hosts,
            # Only a file is taken out of it: the platform is of no matter.
            ignore_compatibility=True,
            only_binary=[":all:"],
        )
        if by_default:
            for url in urls:
                self.finder.add_index_url(url)
            for link in settings.find_links:
                self.finder.add_find_links(link)

    def __enter__(self) -> "PackageIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def find_wheel(self, package: str, version: str) -> Wheel:
        """Raises `FetchError` where the index does not have it or cannot be reached."""
        try:
            matches = self.finder.find_matches(f"{package}=={version}", allow_prereleases=True)
            links = [match.link for match in matches if match.link.is_wheel]
        except httpx2.HTTPError as error:
            raise unreachable(error) from None
        except (URLError, ValueError) as error:
            raise FetchError(f"the package index's answer is not usable: {error}") from None
        if not links:
            raise FetchError(
                f"the package index has no wheel of {package} {version}",
                hint="check the package's name and version, and the index pip or uv is set to",
            )
        link: Link = links[0]
        # From a JSON page or from the fragment of an HTML page's link.
        sha256 = (link.hash_option or {}).get("sha256", [None])[0]
        return Wheel(link.filename, link.url_without_fragment, sha256)


def unreachable(error: httpx2.HTTPError) -> FetchError:
    """What a person is told when the index cannot be reached or refuses."""
    hint = "check the network, and the index and proxy that pip or uv is set to"
    if isinstance(error, httpx2.HTTPStatusError):
        status = error.response.status_code
        host = error.request.url.host
        if status in (401, 403):
            return FetchError(f"the package index {host} refuses access ({status})", hint=hint)
        return FetchError(f"{host} answered {status}", retryable=True, hint=hint)
    host = ""
    try:
        host = f" {error.request.url.host}"
    except RuntimeError:
        pass
    reason = str(error) or type(error).__name__
    message = f"the package index{host} cannot be reached: {reason}"
    return FetchError(message, retryable=True, hint=hint)


def _refuse_failures(response: httpx2.Response) -> None:
    # The finder takes such an answer for an empty index: to a person "no such
    # package" would be the wrong news.
    if response.status_code in (401, 403, 407, 429) or response.status_code >= 500:
        response.raise_for_status()


Found = dict[str, list[str]]


def _uv_settings(environ: Mapping[str, str], home: Path) -> Found:
    found: Found = {"default": [], "extra": [], "find-links": []}
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if environ.get(name):
            found["default"].append(_unnamed(environ[name]))
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL"):
        found["extra"] += [_unnamed(entry) for entry in environ.get(name, "").split()]
    found["find-links"] += environ.get("UV_FIND_LINKS", "").replace(",", " ").split()
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [config_home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]
    if environ.get("UV_CONFIG_FILE"):
        files = [Path(environ["UV_CONFIG_FILE"])]
    for file in files:
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            continue
        for index in table.get("index", ()):
            if index.get("explicit"):
                # Asked only for packages that a project names.
                continue
            place = "default" if index.get("default") else "extra"
            found[place].append(str(index.get("url", "")))
        if table.get("index-url"):
            found["default"].append(str(table["index-url"]))
        found["extra"] += [str(url) for url in table.get("extra-index-url", ())]
        found["find-links"] += [str(link) for link in table.get("find-links", ())]
    return found


def _unnamed(entry: str) -> str:
    """An index's URL, which can be given as `name=url`."""
    label, _, rest = entry.partition("=")
    return rest if rest and "/" not in label else entry


_PIP_OPTIONS: dict[str, Callable[[str], list[str]]] = {
    "index-url": lambda text: [text.strip()],
    "extra-index-url": str.split,
    "find-links": str.split,
    "trusted-host": str.split,
    "proxy": lambda text: [text.strip()],
    "cert": lambda text: [text.strip()],
    "no-index": lambda text: ["yes"] if text.strip().lower() in ("1", "true", "yes", "on") else [],
}


def _pip_settings(environ: Mapping[str, str], home: Path) -> Found:
    """The strongest word on each option: the environment, then the last file that has it."""
    found: Found = {}
    for file in _pip_files(environ, home):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "download"):
            if not parser.has_section(section):
                continue
            for option, value in parser.items(section):
                name = option.replace("_", "-")
                if name in _PIP_OPTIONS:
                    found[name] = _PIP_OPTIONS[name](value)
    for name, split in _PIP_OPTIONS.items():
        given = environ.get("PIP_" + name.upper().replace("-", "_"))
        if given:
            found[name] = split(given)
    return found


def _pip_files(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    """https://pip.pypa.io/en/stable/topics/configuration/#location, weakest first."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"):
        yield Path(folder) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(environ.get("VIRTUAL_ENV") or sys.prefix) / "pip.conf"
    if named:
        yield Path(named)
