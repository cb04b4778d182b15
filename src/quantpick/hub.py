"""The Hub: listings, addresses and refusals in words; the only door to huggingface_hub.

huggingface_hub tells the endpoint, the token and the cache, from its own environment variables
(``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and the rest). Its calls to the API are not used: they
have neither a time limit nor a further try everywhere, and know other certificates and proxies
than the connections that bring the bytes. A token is never part of a message.
"""

from __future__ import annotations

import json
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.file_download import repo_folder_name

# Offered without types.
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from quantpick.domain.listing import MOST_BYTES, Listing, RemoteFile
from quantpick.domain.names import is_sha1, is_sha256, printable
from quantpick.errors import AccessError, HubError, NotFoundError, QuantpickError
from quantpick.web import PROXY_LOGIN, UNTRUSTED, Web, WebError, origin, with_retries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quantpick.domain.policy import Policy

_LOGIN = "set HF_TOKEN to a token that may read it, or run: hf auth login"
_LIMITED, _NOT_FOUND = 429, 404

#: Bytes of the longest listing that is read: one of 10,000 files takes some 3 MB.
_MOST_JSON = 64 << 20
_BLOCK = 1 << 20

#: Pages of a tree that are read: the Hub puts 1,000 files on one.
_MOST_PAGES = 1000

#: Seconds that a listing may take to arrive, however steadily it drips.
_LISTING_TIME = 120.0

#: Characters of the longest licence or base model that a card can name.
_MOST_WORD = 200

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


def endpoint() -> str:
    """Return the address of the Hub, or of the mirror that HF_ENDPOINT names."""
    return str(constants.ENDPOINT)


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the Hub."""
    return bool(constants.is_offline_mode())


def list_repo(
    repo_id: str, revision: str | None, policy: Policy, shared: Web | None = None
) -> Listing:
    """Return a repo's files with sizes and sha256 at the commit that ``revision`` names now.

    One call; a mirror that leaves out the sizes is asked for the tree as well. ``shared`` are
    connections to use and to leave open. Raises NotFoundError, AccessError or HubError.
    """
    web = shared or connect(policy)
    place = f"{constants.ENDPOINT}/api/models/{repo_id}"
    named = "" if revision is None else f"/revision/{quote(revision, safe='')}"
    try:
        info, _ = _get_json(web, f"{place}{named}?blobs=true", policy)
        commit = info.get("sha") if isinstance(info, dict) else None
        if not is_sha1(commit):
            raise HubError(f"the Hub names no commit for {repo_id}", "try again later")
        siblings = info.get("siblings")
        files = tuple(_files(siblings, "rfilename", "blobId", "sha256"))
        if isinstance(siblings, list) and len(files) < len(siblings):
            files = tuple(_tree_files(web, f"{place}/tree/{commit}", policy))
    except WebError as error:
        # Of a bare 404 nothing but the repo can be meant.
        error.code = error.code or ("RepoNotFound" if error.status == _NOT_FOUND else "")
        raise refusal(error, repo_id, revision) from error
    finally:
        if shared is None:
            web.close()
    card = info.get("cardData")
    card = card if isinstance(card, dict) else {}
    return Listing(repo_id, commit, files, _licence(card), _card_value(card, "base_model"))


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
    if error.status is None or error.status == PROXY_LOGIN:
        return HubError(f"cannot reach the Hub for {repo_id}: {error}", _network_hint(error))
    return HubError(f"the Hub answered {error.status} for {repo_id}", _hub_hint(error))


def _headers() -> dict[str, str]:
    if offline():
        raise HubError("HF_HUB_OFFLINE is set, so the Hub is not asked", "unset HF_HUB_OFFLINE")
    about: dict[str, Any] = {
        "library_name": "quantpick",
        "library_version": version("quantpick"),
    }
    try:
        headers: dict[str, str] = build_hf_headers(**about)
    except (OSError, ValueError):
        # The file with the token cannot be read: then there is none.
        headers = build_hf_headers(**about, token=False)
    if not all(text.isascii() and text.isprintable() for text in headers.values()):
        raise AccessError(
            "the token cannot be sent: it holds characters that no token has", "check HF_TOKEN"
        )
    return headers


def _get_json(web: Web, url: str, policy: Policy) -> tuple[Any, str | None]:
    """Return the JSON at an address, and the address of the next page. Raises WebError."""

    def read() -> tuple[bytes, str | None]:
        answer = web.get(url, {})
        found, end = bytearray(), time.monotonic() + _LISTING_TIME
        whole = False
        try:
            while data := answer.read(_BLOCK):
                found += data
                if len(found) > _MOST_JSON:
                    raise WebError("the answer is too long to be a listing", final=True)
                if time.monotonic() > end:
                    raise WebError(f"the listing takes more than {_LISTING_TIME:.0f} s")
            whole = True
        finally:
            answer.close(reusable=whole)
        return bytes(found), _next_page(url, answer.headers.get("Link", ""))

    body, following = with_retries(read, policy)
    try:
        return json.loads(body), following
    except (ValueError, RecursionError) as error:
        raise WebError("the answer is no JSON", final=True) from error


def _next_page(url: str, link: str) -> str | None:
    """Return the next page that a Link header names, on the same server."""
    found = re.search(r'<([^<>]*)>\s*;\s*rel="?next"?', link)
    following = urljoin(url, found.group(1)) if found else None
    return following if following and origin(following) == origin(url) else None


def _tree_files(web: Web, place: str, policy: Policy) -> Iterator[RemoteFile]:
    page: str | None = f"{place}?recursive=true&expand=false"
    seen: set[str] = set()
    while page is not None:
        if page in seen or len(seen) == _MOST_PAGES:
            raise WebError("the listing has no end", final=True)
        seen.add(page)
        entries, page = _get_json(web, page, policy)
        yield from _files(entries, "path", "oid", "oid")


def _files(entries: object, path: str, oid: str, sha256: str) -> Iterator[RemoteFile]:
    """Yield the files of a listing, whose fields have other names in the info and in the tree."""
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("type", "file") != "file":
            continue
        lfs = entry.get("lfs")
        lfs = lfs if isinstance(lfs, dict) else {}
        name, size = entry.get(path), entry.get("size", lfs.get("size"))
        if isinstance(name, str) and isinstance(size, int) and 0 <= size < MOST_BYTES:
            digest, blob = lfs.get(sha256), entry.get(oid)
            if lfs and not is_sha256(digest):
                raise HubError(
                    f"the Hub lists a sha256 that is none for {printable(name)}", "try again later"
                )
            yield RemoteFile(name, size, digest, blob if is_sha1(blob) and not lfs else None)


def _licence(card: dict[str, Any]) -> str | None:
    """Return the card's licence; ``other`` says nothing, and its name is a field of its own."""
    licence = _card_value(card, "license")
    return (_card_value(card, "license_name") or licence) if licence == "other" else licence


def _card_value(card: dict[str, Any], field: str) -> str | None:
    """Return a word of the card, None for what is none: nothing, or text without end."""
    value = card.get(field)
    if isinstance(value, list) and value:
        value = value[0]
    text = value.strip() if isinstance(value, str) else ""
    return printable(text) if 0 < len(text) <= _MOST_WORD else None


def _network_hint(error: WebError) -> str:
    if error.status == PROXY_LOGIN:
        return "check user and password in HTTPS_PROXY and HTTP_PROXY"
    if error.code == UNTRUSTED:
        return "set SSL_CERT_FILE to a file with the certificate of your network or mirror"
    return "check the network, HF_ENDPOINT and proxy settings, then try again"


def _hub_hint(error: WebError) -> str:
    if error.status != _LIMITED:
        return "the Hub or a proxy has trouble: try again later"
    wait = "some minutes" if error.wait is None else f"{error.wait:.0f} s"
    return f"the Hub limits requests: wait {wait}, or set HF_TOKEN for a higher limit"
