"""The only door to huggingface_hub: listings, addresses, tokens, its cache, and refusals in words.

huggingface_hub takes the endpoint, the token and the cache from its own environment variables
(``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and the rest). It neither retries every call nor sets
every time limit, so both are added here. A token is never part of a message.
"""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from huggingface_hub import HfApi, constants, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile

# Offered without types; httpx is the HTTP library that huggingface_hub uses, under whichever name.
from huggingface_hub.utils import build_hf_headers, httpx  # type: ignore[attr-defined]

from quantpick.domain.listing import Listing, RemoteFile
from quantpick.domain.names import printable
from quantpick.domain.policy import LONGEST_WAIT, Policy
from quantpick.errors import AccessError, HubError, NotFoundError, QuantpickError
from quantpick.web import Web, WebError, wait_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_T = TypeVar("_T")

# Its warnings tell of retries and of a disk that is too small; both are dealt with here.
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

_COMMIT = r"[0-9a-f]{40}"
_LOGIN = "set HF_TOKEN to a token that may read it, or run: hf auth login"
_LIMITED = 429

#: Answers that stand, by the Hub's own word or by HTTP status; the first match counts.
_REFUSALS: tuple[tuple[str | int, type[QuantpickError], str, str], ...] = (
    (
        "GatedRepo",
        AccessError,
        "{repo_id} is gated: its licence has to be accepted first",
        f"accept it at {constants.ENDPOINT}/{{repo_id}}, then set HF_TOKEN or run: hf auth login",
    ),
    ("DisabledRepo", AccessError, "the Hub has disabled {repo_id}", "choose another repo"),
    (
        "RevisionNotFound",
        NotFoundError,
        "{repo_id} has no revision {revision}",
        "leave --revision out for the newest commit",
    ),
    (
        "RepoNotFound",
        NotFoundError,
        "the Hub has no repo {repo_id}, or does not show it to you",
        "check the spelling; for a private repo set HF_TOKEN or run: hf auth login",
    ),
    (401, AccessError, "the Hub refuses access to {repo_id} (401)", _LOGIN),
    (403, AccessError, "the Hub refuses access to {repo_id} (403)", _LOGIN),
    (404, NotFoundError, "a file that {repo_id} lists is not there (404)", "try again later"),
    (410, NotFoundError, "a file that {repo_id} lists is gone (410)", "try again later"),
)
_DISABLED = "Access to this resource is disabled."


def endpoint() -> str:
    """Return the address of the Hub, or of the mirror that HF_ENDPOINT names."""
    return str(constants.ENDPOINT)


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the Hub."""
    return bool(constants.is_offline_mode())


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a whole commit hash, which never means anything else."""
    return revision is not None and re.fullmatch(_COMMIT, revision) is not None


def list_repo(repo_id: str, revision: str | None, policy: Policy) -> Listing:
    """Return a repo's files with sizes and sha256 at the commit that ``revision`` names now.

    One call; a mirror that leaves out the sizes is asked for the tree as well. Raises
    NotFoundError, AccessError or HubError.
    """
    token = _headers().get("authorization", "").removeprefix("Bearer ")
    api = HfApi(library_name="quantpick", token=token or False)
    info = _with_retries(
        lambda: api.model_info(
            repo_id, revision=revision, files_metadata=True, timeout=policy.timeout
        ),
        policy,
        repo_id,
        revision,
    )
    if info.sha is None or not is_commit(info.sha):
        raise HubError(f"the Hub names no commit for {repo_id}", "try again later")
    commit, files = info.sha, tuple(_remote_files(info))
    if not files and info.siblings:
        files = _with_retries(
            lambda: tuple(_tree_files(api, repo_id, commit, policy)), policy, repo_id, revision
        )
    return Listing(
        repo_id=repo_id,
        revision=commit,
        files=files,
        license=_licence(info),
        base_model=_card_value(info, "base_model"),
    )


def connect(policy: Policy) -> Web:
    """Return connections to the Hub that carry its token. Raises HubError in offline mode."""
    headers = _headers()
    return Web(constants.ENDPOINT, headers, policy.timeout, policy.connections)


def file_url(repo_id: str, revision: str, path: str) -> str:
    """Return the address on the Hub that a file at a commit is fetched from."""
    return hf_hub_url(repo_id, path, revision=revision)


def cache_folder() -> Path:
    """Return the folder of the Hub cache."""
    return Path(constants.HF_HUB_CACHE)


def repo_cache(repo_id: str) -> Path:
    """Return the folder of one repo in the Hub cache."""
    return cache_folder() / repo_folder_name(repo_id=repo_id, repo_type="model")


def cache_lock(repo_id: str, blob: str) -> Path:
    """Return the file that huggingface_hub locks while it writes a blob of its cache."""
    return cache_folder() / ".locks" / repo_cache(repo_id).name / f"{blob}.lock"


def refusal(error: WebError, repo_id: str, revision: str | None) -> QuantpickError:
    """Return the error for an answer that stands, or for one that retries did not better."""
    for key, kind, message, hint in _REFUSALS:
        if key in {error.code, error.status}:
            names = {"repo_id": repo_id, "revision": revision}
            return kind(message.format(**names), hint.format(**names))
    if error.status is None:
        return HubError(
            f"cannot reach the Hub for {repo_id}: {error}",
            "check the network, HF_ENDPOINT and proxy settings, then try again",
        )
    return HubError(f"the Hub answered {error.status} for {repo_id}", _hub_hint(error))


def _headers() -> dict[str, str]:
    if offline():
        raise HubError("HF_HUB_OFFLINE is set, so the Hub is not asked", "unset HF_HUB_OFFLINE")
    try:
        headers: dict[str, str] = build_hf_headers(library_name="quantpick")
    except OSError:
        # The file with the token cannot be read: then there is none.
        headers = build_hf_headers(library_name="quantpick", token=False)
    if not all(text.isascii() for text in headers.values()):
        raise AccessError(
            "the token cannot be sent: it holds characters that no token has", "check HF_TOKEN"
        )
    return headers


def _remote_files(info: ModelInfo) -> Iterator[RemoteFile]:
    for sibling in info.siblings or ():
        lfs = sibling.lfs
        size = sibling.size if sibling.size is not None else lfs.size if lfs else None
        # The types hold only as far as the Hub's JSON does.
        if isinstance(size, int) and size >= 0 and isinstance(sibling.rfilename, str):
            yield _remote_file(sibling, sibling.rfilename, size)


def _tree_files(api: HfApi, repo_id: str, commit: str, policy: Policy) -> Iterator[RemoteFile]:
    session = get_session()
    unlimited = session.timeout
    # The call takes no time limit of its own, and waits for ever without one.
    session.timeout = policy.timeout
    try:
        for entry in api.list_repo_tree(repo_id, revision=commit, recursive=True):
            if isinstance(entry, RepoFile) and entry.size >= 0:
                yield _remote_file(entry, entry.path, entry.size)
    finally:
        session.timeout = unlimited


def _remote_file(entry: RepoSibling | RepoFile, path: str, size: int) -> RemoteFile:
    sha256, oid = entry.lfs.sha256 if entry.lfs else None, entry.blob_id
    if sha256 is not None and re.fullmatch(r"[0-9a-f]{64}", str(sha256)) is None:
        raise HubError(f"the Hub lists a sha256 that is none for {printable(path)}", "try later")
    git_oid = None if sha256 or re.fullmatch(_COMMIT, str(oid)) is None else str(oid)
    return RemoteFile(path, size, sha256, git_oid)


def _licence(info: ModelInfo) -> str | None:
    """Return the card's licence; ``other`` says nothing, and its name is a field of its own."""
    licence = _card_value(info, "license")
    return (_card_value(info, "license_name") or licence) if licence == "other" else licence


def _card_value(info: ModelInfo, field: str) -> str | None:
    value = info.card_data.get(field) if info.card_data else None
    if isinstance(value, list) and value:
        value = value[0]
    return printable(value) if isinstance(value, str) else None


def _with_retries(call: Callable[[], _T], policy: Policy, repo_id: str, revision: str | None) -> _T:
    for wait in (*policy.waits, None):
        try:
            return call()
        except OfflineModeIsEnabled:
            raise
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            found = _web_error(error)
            if wait is None or found.final or (found.wait or 0) > LONGEST_WAIT:
                raise refusal(found, repo_id, revision) from error
            time.sleep(wait if found.wait is None else found.wait)
    raise AssertionError("the last try returns or raises")


def _web_error(error: Exception) -> WebError:
    """Return what huggingface_hub met, in the form that our own requests report it."""
    response: Any = getattr(error, "response", None)
    if not isinstance(error, HfHubHTTPError) or response is None:
        final = isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol))
        return WebError(type(error).__name__, final=final)
    status, headers = int(response.status_code), response.headers
    disabled = headers.get("X-Error-Message") == _DISABLED
    return WebError(
        str(status),
        status=status,
        code="DisabledRepo" if disabled else headers.get("X-Error-Code", ""),
        wait=wait_of(headers),
        final=status not in {408, _LIMITED} and status < 500,  # noqa: PLR2004 -- a server's error
    )


def _hub_hint(error: WebError) -> str:
    if error.status != _LIMITED:
        return "the Hub or a proxy has trouble: try again later"
    wait = "some minutes" if error.wait is None else f"{error.wait:.0f} s"
    return f"the Hub limits requests: wait {wait}, or set HF_TOKEN for a higher limit"
