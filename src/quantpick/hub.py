"""The only door to huggingface_hub: listings, files, tokens, and its errors in our words.

huggingface_hub takes the endpoint, the token and the cache from its own environment variables
(``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and the rest). It neither retries every call nor sets
every time limit, so both are added here. A token is never part of a message.
"""

from __future__ import annotations

import errno
import logging
import re
import time
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from huggingface_hub import (
    HfApi,
    constants,
    get_session,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# Offered without types; httpx is the HTTP library that huggingface_hub uses, under whichever name.
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    httpx,
)

from quantpick.domain.listing import Listing, RemoteFile
from quantpick.domain.names import printable
from quantpick.errors import (
    AccessError,
    DiskError,
    HubError,
    IntegrityError,
    NotFoundError,
    QuantpickError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from huggingface_hub.hf_api import ModelInfo

    from quantpick.domain.plan import Plan

_T = TypeVar("_T")

# Its warnings tell of retries and of a disk that is too small; both are dealt with here.
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

#: Seconds to wait for an answer of the Hub's API.
_TIMEOUT = 20.0

#: Seconds to wait before each further try.
_WAITS = (1.0, 2.0, 4.0)

#: The longest wait the Hub may ask for in a Retry-After header, in seconds.
_LONGEST_WAIT = 60.0

#: Answers after which a further try makes sense.
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

#: Seconds that a range of a file may take to arrive, however steadily it drips.
_RANGE_TIME = 120.0

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_COMMIT = r"[0-9a-f]{40}"
_LOGIN = "set HF_TOKEN to a token that may read it, or run: hf auth login"

#: Answers that stand, by huggingface_hub's error or by HTTP status; the first match counts.
_REFUSALS: tuple[tuple[type[Exception] | int, type[QuantpickError], str, str], ...] = (
    (
        OfflineModeIsEnabled,
        HubError,
        "HF_HUB_OFFLINE is set, so the Hub is not asked for {repo_id}",
        "unset HF_HUB_OFFLINE",
    ),
    (
        GatedRepoError,
        AccessError,
        "{repo_id} is gated: its licence has to be accepted first",
        f"accept it at {constants.ENDPOINT}/{{repo_id}}, then set HF_TOKEN or run: hf auth login",
    ),
    (
        UnicodeEncodeError,
        AccessError,
        "the token cannot be sent: it holds characters that no token has",
        "check HF_TOKEN",
    ),
    (DisabledRepoError, AccessError, "the Hub has disabled {repo_id}", "choose another repo"),
    (
        RevisionNotFoundError,
        NotFoundError,
        "{repo_id} has no revision {revision}",
        "leave --revision out for the newest commit",
    ),
    (
        RepositoryNotFoundError,
        NotFoundError,
        "the Hub has no repo {repo_id}, or does not show it to you",
        "check the spelling; for a private repo set HF_TOKEN or run: hf auth login",
    ),
    (401, AccessError, "the Hub refuses access to {repo_id} (401)", _LOGIN),
    (403, AccessError, "the Hub refuses access to {repo_id} (403)", _LOGIN),
    (404, NotFoundError, "a file that {repo_id} lists is not there (404)", "try again later"),
)


def list_repo(repo_id: str, revision: str | None) -> Listing:
    """Return a repo's files with sizes and sha256 at the commit that ``revision`` names now.

    One call. Raises NotFoundError, AccessError or HubError.
    """
    info = _with_retries(
        lambda: HfApi(library_name="quantpick").model_info(
            repo_id, revision=revision, files_metadata=True, timeout=_TIMEOUT
        ),
        repo_id,
        revision,
    )
    if info.sha is None or re.fullmatch(_COMMIT, info.sha) is None:
        raise HubError(f"the Hub names no commit for {repo_id}", "try again later")
    return Listing(
        repo_id=repo_id,
        revision=info.sha,
        files=tuple(_remote_files(info)),
        license=_card_value(info, "license"),
        base_model=_card_value(info, "base_model"),
    )


def fetch_file(
    plan: Plan, path: str, local_dir: Path | None, on_bytes: Callable[[int], None]
) -> str:
    """Fetch one planned file below ``local_dir`` or into the cache; return where it is.

    ``on_bytes`` receives byte counts as they arrive. Nothing is checked but the length.
    Raises NotFoundError, AccessError, HubError, IntegrityError or DiskError.
    """
    arrived = 0

    def count(size: int) -> None:
        nonlocal arrived
        arrived += size
        on_bytes(size)

    def attempt() -> str:
        # A further try starts at the first byte, so what came before is taken back.
        count(-arrived)
        bar: Any = partial(_Bar, count)
        return hf_hub_download(
            plan.repo_id,
            path,
            revision=plan.revision,
            local_dir=local_dir,
            library_name="quantpick",
            tqdm_class=bar,
        )

    return _with_retries(attempt, plan.repo_id, plan.revision)


def cached_path(plan: Plan, path: str) -> str | None:
    """Return where a planned file is in the cache, None if it is not there."""
    found = try_to_load_from_cache(plan.repo_id, path, revision=plan.revision)
    return found if isinstance(found, str) else None


def cache_folder() -> Path:
    """Return the folder of the Hub cache."""
    return Path(constants.HF_HUB_CACHE)


def fetch_range(listing: Listing, file: RemoteFile, start: int, length: int) -> bytes:
    """Fetch ``length`` bytes of a listed file from ``start`` on, both within the file.

    The token goes to the Hub and not along to where it redirects. A server that sends the whole
    file instead is listened to as far as needed. Raises NotFoundError, AccessError, HubError, or
    IntegrityError for a file of another length than listed.
    """
    url = hf_hub_url(listing.repo_id, file.path, revision=listing.revision)
    return _with_retries(
        lambda: _read_range(url, file, start, length), listing.repo_id, listing.revision
    )


def _read_range(url: str, file: RemoteFile, start: int, length: int) -> bytes:
    headers = build_hf_headers(library_name="quantpick")
    headers |= {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
    with get_session().stream(
        "GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True
    ) as answer:
        hf_raise_for_status(answer)
        before = start
        if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
            before = 0
            place = f"bytes {start}-{start + length - 1}/"
            if answer.headers.get("Content-Range") not in {f"{place}{file.size}", f"{place}*"}:
                raise _wrong_length(file.path)
        return _read_body(answer, file, before, length)


def _read_body(answer: Any, file: RemoteFile, before: int, length: int) -> bytes:  # noqa: ANN401 -- httpx comes without types
    """Return ``length`` bytes of a body after the first ``before``, without reading on."""
    found, end = bytearray(), time.monotonic() + _RANGE_TIME
    for data in answer.iter_raw():
        found += data[before:]
        before = max(before - len(data), 0)
        # Not when all is there: a body read to its end leaves the connection for the next range.
        if len(found) > length:
            break
        if time.monotonic() > end:
            raise HubError(
                f"{file.path} comes too slowly: {len(found)} bytes in {_RANGE_TIME:.0f} s",
                "check the network, then try again",
            )
    if len(found) < length:
        raise _wrong_length(file.path)
    return bytes(found[:length])


def _wrong_length(what: str) -> IntegrityError:
    return IntegrityError(
        f"{what} arrived shorter or longer than the Hub lists it",
        "run the same command again; if it repeats, the repo or a proxy is at fault",
    )


class _Bar:
    """Stands in for the progress bar that huggingface_hub would draw, and passes its counts on.

    Xet transfers draw two bars; the one for the network repeats what the other counts.
    """

    def __init__(
        self, on_bytes: Callable[[int], None], desc: str = "", total: int | None = None, **_: object
    ) -> None:
        self._on_bytes = on_bytes
        self._counts = not desc.endswith("downloading bytes")
        self.total = total
        self.n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: float | None = 1) -> None:
        self.n += int(n or 0)
        if self._counts:
            self._on_bytes(int(n or 0))

    def _show(self, *_: object, **__: object) -> None:
        pass

    close = refresh = set_postfix_str = set_description = set_description_str = _show


def _remote_files(info: ModelInfo) -> Iterator[RemoteFile]:
    for sibling in info.siblings or ():
        lfs = sibling.lfs
        size = sibling.size if sibling.size is not None else lfs.size if lfs else None
        # The types hold only as far as the Hub's JSON does.
        if isinstance(size, int) and size >= 0 and isinstance(sibling.rfilename, str):
            yield RemoteFile(sibling.rfilename, size, lfs.sha256 if lfs else None)


def _card_value(info: ModelInfo, field: str) -> str | None:
    value = info.card_data.get(field) if info.card_data else None
    if isinstance(value, list) and value:
        value = value[0]
    return printable(value) if isinstance(value, str) else None


def _with_retries(call: Callable[[], _T], repo_id: str, revision: str | None) -> _T:
    for wait in (*_WAITS, None):
        try:
            return call()
        except (
            OSError,
            httpx.HTTPError,
            httpx.InvalidURL,
            EntryNotFoundError,
            ValueError,
        ) as error:
            translated = _translate(error, repo_id, revision)
            if wait is None or not isinstance(translated, HubError) or _final(error):
                raise translated from error
            time.sleep(_asked_wait(error) or wait)
    raise AssertionError("the last try returns or raises")


def _translate(error: Exception, repo_id: str, revision: str | None) -> QuantpickError:
    """Return our error for one of huggingface_hub's, which hides causes behind other errors."""
    chain = list(_chain(error))
    for cause in chain:
        found = _refusal(cause, repo_id, revision)
        if found is not None:
            return found
    for cause in chain:
        if isinstance(cause, OSError) and (cause.filename or cause.errno in _DISK_FULL):
            return DiskError(
                f"cannot write: {cause.strerror}",
                "free some space, or choose another --local-dir (HF_HOME for --cache)",
            )
    status = _status(chain)
    if any(str(cause).startswith("Consistency check failed") for cause in chain):
        return _wrong_length(f"a file of {repo_id}")
    if status is not None:
        return HubError(f"the Hub answered {status} for {repo_id}", _hub_hint(status))
    return HubError(
        f"cannot reach the Hub for {repo_id}: {type(chain[-1]).__name__}",
        "check the network, HF_ENDPOINT and proxy settings, then try again",
    )


def _refusal(cause: BaseException, repo_id: str, revision: str | None) -> QuantpickError | None:
    """Return the error for a clear answer of the Hub that a further try would not change."""
    status = _status([cause])
    for kind, error, message, hint in _REFUSALS:
        if isinstance(cause, kind) if isinstance(kind, type) else status == kind:
            names = {"repo_id": repo_id, "revision": revision}
            return error(message.format(**names), hint.format(**names))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(chain: list[BaseException]) -> int | None:
    for cause in chain:
        if isinstance(cause, HfHubHTTPError) and cause.response is not None:
            return int(cause.response.status_code)
    return None


def _asked_wait(error: BaseException) -> float | None:
    for cause in _chain(error):
        if isinstance(cause, HfHubHTTPError) and cause.response is not None:
            asked: Any = cause.response.headers.get("Retry-After", "")
            return min(float(asked), _LONGEST_WAIT) if asked.isdigit() else None
    return None


def _final(error: BaseException) -> bool:
    """Whether a further try is of no use, or huggingface_hub has made enough of them itself."""
    chain = list(_chain(error))
    status = _status(chain)
    if status is not None and status not in _RETRIED:
        return True
    final = (OfflineModeIsEnabled, LocalEntryNotFoundError, httpx.InvalidURL)
    return any(isinstance(cause, (*final, httpx.UnsupportedProtocol)) for cause in chain)


def _hub_hint(status: int) -> str:
    if status == 429:  # noqa: PLR2004 -- the HTTP status is the name
        return "the Hub limits requests: wait some minutes, or set HF_TOKEN for a higher limit"
    return "the Hub or a proxy has trouble: try again later"
