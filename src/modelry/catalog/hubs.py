"""Model hubs: what a repository of Hugging Face's or ModelScope's holds, at one pinned commit.

Hugging Face is asked through its own client, so that its tokens, mirrors and errors
mean what people know them to mean. The files themselves come like any others
(`download.py`).
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

import httpx2

from modelry.catalog.formats import NOTHING, Allowed, is_program, needed
from modelry.catalog.remote import Listing, RemoteFile
from modelry.catalog.sources import HubFiles, is_inside, patterns_of
from modelry.errors import FetchError, InvalidRequest
from modelry.settings import Secret

HF_ENDPOINT = "https://huggingface.co"
MODELSCOPE_ENDPOINT = "https://www.modelscope.cn"
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class HubSettings:
    """Where hubs are, and who we are there. `offline`: neither is asked."""

    hf_endpoint: str = HF_ENDPOINT
    hf_token: Secret | None = None
    modelscope_endpoint: str = MODELSCOPE_ENDPOINT
    modelscope_token: Secret | None = None
    offline: bool = False


def list_hub(source: HubFiles, settings: HubSettings, allowed: Allowed = NOTHING) -> Listing:
    """The files that `source` names. Raises `FetchError` or `InvalidRequest`."""
    if settings.offline:
        raise FetchError(
            f"{source} is not here, and Modelry is set to be offline",
            hint="unset MODELRY_OFFLINE, or bring the model in with `modelry bundle import`",
        )
    listing = _LISTERS[source.hub](source, settings)
    return Listing(_chosen(source, listing.files, allowed), listing.revision)


def _chosen(
    source: HubFiles, files: tuple[RemoteFile, ...], allowed: Allowed
) -> tuple[RemoteFile, ...]:
    by_name = {file.name: file for file in files if is_inside(file.name)}
    path = source.path
    if not path:
        return tuple(by_name[name] for name in needed(by_name, allowed))
    if path in by_name:
        return (by_name[path],)
    patterns = patterns_of(path)
    if patterns:
        found = [
            name
            for name in by_name
            if any(fnmatchcase(name, each) for each in patterns)
            and (allowed.programs or not is_program(name))
        ]
        lacking = [each for each in patterns if not any(fnmatchcase(name, each) for name in found)]
        if lacking:
            # Some of what is named is no model yet.
            found, path = [], lacking[0]
    else:
        found = [name for name in by_name if name.startswith(path + "/")]
        if found:
            below = {name.removeprefix(path + "/"): name for name in found}
            found = [below[name] for name in needed(below, allowed)]
    if not found:
        raise InvalidRequest(
            f"source: {source.repo} has no file {path}",
            hint="its files: " + _some(sorted(by_name)),
            param="source",
        )
    return tuple(by_name[name] for name in sorted(found))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


# -- Hugging Face ----------------------------------------------------------------------


def _list_hf(source: HubFiles, settings: HubSettings) -> Listing:
    # Imported when first needed: a third of a second that most starts can do without.
    hub: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    token = None if settings.hf_token is None else settings.hf_token.reveal()
    api = hub.HfApi(endpoint=settings.hf_endpoint, token=token or False, library_name="modelry")
    try:
        info = api.model_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=_TIMEOUT_S
        )
    except errors.GatedRepoError:
        raise _gated(source, settings, token is not None) from None
    except errors.RevisionNotFoundError:
        raise FetchError(
            f"{source.repo} has no revision {source.revision}",
            hint="a revision is a branch, a tag or a commit",
        ) from None
    except errors.RepositoryNotFoundError as error:
        raise _unknown(source, error.response.status_code, token is not None) from None
    except errors.HfHubHTTPError as error:
        raise _answered("Hugging Face", error.response) from None
    except (httpx2.HTTPError, OSError) as error:
        raise _unreachable(settings.hf_endpoint, error) from None
    headers = () if token is None else (("authorization", f"Bearer {token}"),)
    files = tuple(
        RemoteFile(
            name=file.rfilename,
            url=hub.hf_hub_url(
                source.repo, file.rfilename, revision=info.sha, endpoint=settings.hf_endpoint
            ),
            size_bytes=file.size,
            sha256=None if file.lfs is None else file.lfs.sha256,
            git_oid=file.blob_id if file.lfs is None else None,
            headers=headers,
        )
        for file in info.siblings or ()
    )
    return Listing(files, info.sha)


def _gated(source: HubFiles, settings: HubSettings, with_token: bool) -> FetchError:
    page = f"{settings.hf_endpoint}/{source.repo}"
    if with_token:
        hint = f"accept its licence at {page} with the account that MODELRY_HF_TOKEN belongs to"
    else:
        hint = f"accept its licence at {page}, and set MODELRY_HF_TOKEN to a token of that account"
    return FetchError(f"{source.repo} is gated: its makers ask who uses it", hint=hint)


def _unknown(source: HubFiles, status: int, with_token: bool) -> FetchError:
    if status == 401 and with_token:
        return FetchError(
            f"Hugging Face does not accept the token, or does not show {source.repo} to it",
            hint="check MODELRY_HF_TOKEN, and the repository's name",
        )
    hint = "check its name; a private one needs MODELRY_HF_TOKEN"
    return FetchError(f"there is no repository {source.repo} on Hugging Face", hint=hint)


# -- ModelScope ------------------------------------------------------------------------


def _list_modelscope(source: HubFiles, settings: HubSettings) -> Listing:
    base = f"{settings.modelscope_endpoint}/api/v1/models/{source.repo}/repo"
    revision = source.revision or "master"
    token = settings.modelscope_token
    headers = () if token is None else (("authorization", f"Bearer {token.reveal()}"),)
    try:
        with httpx2.Client(timeout=_TIMEOUT_S, follow_redirects=True) as client:
            answer = client.get(
                f"{base}/files",
                params={"Revision": revision, "Recursive": "true"},
                headers=dict(headers),
            )
    except httpx2.HTTPError as error:
        raise _unreachable(settings.modelscope_endpoint, error) from None
    if answer.status_code == 404:
        hint = "check its name and revision; a private one needs MODELRY_MODELSCOPE_TOKEN"
        raise FetchError(
            f"there is no repository {source.repo} at {revision} on ModelScope", hint=hint
        )
    if answer.status_code != 200:
        raise _answered("ModelScope", answer)
    try:
        entries = [each for each in answer.json()["Data"]["Files"] if each["Type"] != "tree"]
        files = tuple(
            RemoteFile(
                name=str(each["Path"]),
                url=f"{base}?Revision={quote(revision, safe='')}"
                f"&FilePath={quote(str(each['Path']), safe='')}",
                size_bytes=int(each["Size"]),
                sha256=each.get("Sha256") or None,
                headers=headers,
            )
            for each in entries
        )
        commits = [str(each["Revision"]) for each in entries if each.get("Revision")]
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError(f"ModelScope's answer is not usable: {error!r}") from None
    # It names a commit for each file, and none for all: the digests are what is pinned.
    return Listing(files, source.revision or max(commits, default=None))


_LISTERS: dict[str, Callable[[HubFiles, HubSettings], Listing]] = {
    "hf": _list_hf,
    "modelscope": _list_modelscope,
}


# -- what went wrong -------------------------------------------------------------------


def _answered(who: str, response: httpx2.Response) -> FetchError:
    status = response.status_code
    if status == 429:
        return FetchError(
            f"{who} lets us ask no more for now (429)",
            retryable=True,
            hint="wait a few minutes; with a token of an account more is allowed",
        )
    return FetchError(f"{who} answered {status}", retryable=status >= 500)


def _unreachable(endpoint: str, error: Exception) -> FetchError:
    return FetchError(
        f"{endpoint} cannot be reached: {str(error) or type(error).__name__}",
        retryable=True,
        hint="check the network and the proxy; a mirror can be set with MODELRY_HF_ENDPOINT",
    )
