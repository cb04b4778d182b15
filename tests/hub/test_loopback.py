"""The Hub on loopback itself: real clients find it like the true one, and faults do as they say."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen

import pytest
from huggingface_hub import HfApi, RepoFile
from huggingface_hub.errors import HfHubHTTPError

from tests.hub import faults
from tests.hub.loopback import LoopbackHub

if TYPE_CHECKING:
    from email.message import Message

    from tests.hub.loopback import About

REPO = "someone/tiny-GGUF"
NAME = "sub folder/tiny-Q4_K_M.gguf"
DATA = bytes(range(256)) * 8
SHA256 = hashlib.sha256(DATA).hexdigest()
CARD = b"# card\n"
OLD, NEW = "a" * 40, "b" * 40

RESOLVE = f"/{REPO}/resolve/main/sub%20folder/tiny-Q4_K_M.gguf"
MODEL = f"/api/models/{REPO}"


class Answer(NamedTuple):
    """What came back to one request; redirects are not followed."""

    status: int
    headers: Message
    body: bytes


@pytest.fixture
def shelf(hub: LoopbackHub) -> LoopbackHub:
    """Return the hub with one repo of one quant and a card."""
    return shelved(hub)


def shelved(hub: LoopbackHub, about: About | None = None) -> LoopbackHub:
    """Put the repo on the hub, with this said of it."""
    hub.add_repo(REPO, {NAME: DATA, "README.md": CARD}, **(about or {}))
    return hub


def ask(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """Make one request over a connection of its own."""
    with closing(connect(url)) as connection:
        connection.request(method, target(url), headers=headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def connect(url: str) -> HTTPConnection:
    return HTTPConnection(urlsplit(url).netloc, timeout=10)


def target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def part(url: str, first: int, last: int) -> Answer:
    """Ask for these bytes of a file."""
    return ask(url, headers={"Range": f"bytes={first}-{last}"})


def link(hub: LoopbackHub) -> str:
    """Return a link to the quant on the CDN, as the hub gives it now."""
    return str(ask(hub.endpoint + RESOLVE).headers["Location"])


def api(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


def listed(hub: LoopbackHub) -> dict[str, RepoFile]:
    """List the tree as the real client does."""
    entries = api(hub).list_repo_tree(REPO, recursive=True)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def hf_download(hub: LoopbackHub, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Download the quant into a folder with `hf`, which has a home there as well."""
    own = {"HOME": str(folder), "HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.endpoint}
    program = Path(sys.executable).with_name("hf")
    return subprocess.run(
        [program, "download", REPO, NAME, "--local-dir", folder],
        env={"PATH": os.environ["PATH"], "HF_HUB_DISABLE_UPDATE_CHECK": "1", **own, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# In good health


@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_the_real_client_lists_the_repo(page_size: int) -> None:
    with LoopbackHub(page_size=page_size) as hub:
        shelved(hub)
        info = api(hub).model_info(REPO, files_metadata=True)
        files = listed(hub)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    assert sizes == {NAME: len(DATA), "README.md": len(CARD)}
    assert {path: file.size for path, file in files.items()} == sizes
    lfs = files[NAME].lfs
    assert lfs is not None
    assert (lfs.sha256, lfs.size) == (SHA256, len(DATA))
    assert (files["README.md"].lfs, files[NAME].xet_hash) == (None, None)


def test_a_small_file_comes_from_the_hub_by_a_relative_redirect(shelf: LoopbackHub) -> None:
    url = f"{shelf.endpoint}/{REPO}/resolve/main/README.md"
    first = ask(url, "HEAD")
    assert first.status == 307
    assert first.headers["Location"].startswith("/api/resolve-cache/models/")
    assert ask(urljoin(url, first.headers["Location"])).body == CARD
    git = hashlib.sha1(b"blob %d\0" % len(CARD) + CARD).hexdigest()
    assert first.headers["X-Linked-ETag"] == f'"{git}"'
    assert listed(shelf)["README.md"].blob_id == git
    assert shelf.requests("cdn") == []


def test_hf_downloads_a_file(shelf: LoopbackHub, tmp_path: Path) -> None:
    assert hf_download(shelf, tmp_path).returncode == 0
    assert (tmp_path / NAME).read_bytes() == DATA


# Redirects


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/x.gguf", "file:///etc/passwd", "ftp://127.0.0.1/x", "../x", "http://[/"],
)
def test_a_redirect_may_go_anywhere(url: str, shelf: LoopbackHub) -> None:
    shelf.add_fault(faults.redirect_to(url))
    for method in ("HEAD", "GET"):
        answer = ask(shelf.endpoint + RESOLVE, method)
        assert (answer.status, answer.headers["Location"]) == (302, url)
        assert answer.headers["X-Linked-ETag"] == f'"{SHA256}"'
    assert ask(f"{shelf.endpoint}/{REPO}/resolve/main/missing.gguf").status == 404
    assert ask(shelf.endpoint + MODEL).status == 200


def test_a_redirect_can_lead_to_another_file(shelf: LoopbackHub) -> None:
    shelf.add_repo("other/repo", {"other.gguf": b"other"})
    other = ask(f"{shelf.endpoint}/other/repo/resolve/main/other.gguf").headers["Location"]
    shelf.add_fault(faults.redirect_to(other, path=REPO, times=1))
    for body in (b"other", DATA):
        with urlopen(shelf.endpoint + RESOLVE) as answer:
            assert answer.read() == body


def test_a_redirect_can_lead_back_for_ever(shelf: LoopbackHub, tmp_path: Path) -> None:
    shelf.add_fault(faults.redirect_loop())
    with pytest.raises(HTTPError, match="infinite loop"):
        urlopen(shelf.endpoint + RESOLVE)
    shelf.log.clear()
    assert hf_download(shelf, tmp_path).returncode == 1
    assert len(shelf.requests("hub", "HEAD")) > 10


# Bodies


@pytest.mark.parametrize(
    ("shift", "total", "told", "first"),
    [(5, 0, f"15-24/{len(DATA)}", 15), (-5, 0, f"5-14/{len(DATA)}", 5), (0, 99, "10-19/99", 10)],
)
def test_a_range_can_be_another_one(
    shift: int, total: int, told: str, first: int, shelf: LoopbackHub
) -> None:
    url = link(shelf)
    shelf.add_fault(faults.wrong_range(shift, total))
    answer = part(url, 10, 19)
    assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes {told}")
    assert answer.body == DATA[first : first + 10]
    assert ask(url).body == DATA


def test_a_range_moved_past_the_end_is_what_is_left(shelf: LoopbackHub) -> None:
    url, last = link(shelf), len(DATA) - 1
    shelf.add_fault(faults.wrong_range(5))
    assert part(url, last - 9, last).body == DATA[-5:]
    assert part(url, last, last).body == DATA[-1:]


def test_a_body_can_be_too_long(shelf: LoopbackHub, tmp_path: Path) -> None:
    source = tmp_path / "of a file"
    source.write_bytes(DATA)
    shelf.add_repo(REPO, {NAME: source})
    url = link(shelf)
    shelf.add_fault(faults.extra(7))
    assert ask(url).body == DATA + bytes(7)
    end = part(url, len(DATA) - 2, len(DATA) + 99)
    assert end.body == DATA[-2:] + bytes(7)
    assert end.headers["Content-Range"].endswith(f"/{len(DATA) + 7}")
    assert hf_download(shelf, tmp_path / "to").returncode == 1


def test_a_page_can_come_instead_of_the_file(shelf: LoopbackHub) -> None:
    url = link(shelf)
    shelf.add_fault(faults.html())
    for answer in (ask(url), part(url, 10, 19)):
        assert (answer.status, answer.headers.get_content_type()) == (200, "text/html")
        assert answer.body.startswith(b"<!DOCTYPE html>")
    assert ask(shelf.endpoint + MODEL).headers.get_content_type() == "application/json"


def test_a_page_can_come_instead_of_everything(shelf: LoopbackHub) -> None:
    shelf.add_fault(faults.html(server=None))
    for place in (MODEL, RESOLVE, "/"):
        assert ask(shelf.endpoint + place).body.startswith(b"<!DOCTYPE html>")


def test_a_body_can_drip(shelf: LoopbackHub) -> None:
    url, start = link(shelf), time.monotonic()
    shelf.add_fault(faults.slow(100))
    assert part(url, 0, 29).body == DATA[:30]
    assert 0.25 < time.monotonic() - start < 5


# Connections


def test_transfers_beyond_a_limit_are_refused(shelf: LoopbackHub) -> None:
    url = link(shelf)
    shelf.add_fault(faults.limit_connections(2))
    shelf.add_fault(faults.stall(10, seconds=2, times=2))
    with closing(connect(url)) as one, closing(connect(url)) as two:
        for connection in (one, two):
            connection.request("GET", target(url))
        busy = [connection.getresponse() for connection in (one, two)]
        assert ask(url).status == 503
        assert ask(url, "HEAD").status == 200
        assert [answer.read() for answer in busy] == [DATA, DATA]
    assert ask(url).status == 200


def test_each_limit_counts_for_itself(shelf: LoopbackHub) -> None:
    url = link(shelf)
    shelf.add_fault(faults.limit_connections(1))
    shelf.add_fault(faults.limit_connections(0, path="other.gguf"))
    assert ask(url).status == 200
    shelf.add_fault(faults.limit_connections(0, times=1))
    assert [ask(url).status for _ in range(3)] == [503, 200, 200]


def test_a_transfer_makes_room_before_its_client_knows_it_ended(shelf: LoopbackHub) -> None:
    url = link(shelf)
    shelf.add_fault(faults.limit_connections(1))
    assert {ask(url).status for _ in range(200)} == {200}


def test_a_transfer_that_broke_makes_room(shelf: LoopbackHub) -> None:
    url = link(shelf)
    shelf.add_fault(faults.limit_connections(1))
    shelf.add_fault(faults.drop(10, times=1))
    with pytest.raises(IncompleteRead):
        ask(url)
    assert ask(url).body == DATA


# Links and requests that run out


@pytest.mark.parametrize("lifetime", [-1, 0.05])
def test_a_link_holds_for_its_lifetime(lifetime: float, shelf: LoopbackHub) -> None:
    shelf.link_lifetime = lifetime
    url = link(shelf)
    time.sleep(max(lifetime, 0) * 2)
    answers = [ask(url), ask(url, "HEAD"), part(url, 0, 9)]
    assert [answer.status for answer in answers] == [403] * 3
    shelf.link_lifetime = 60
    assert ask(link(shelf)).body == DATA


def test_links_can_end_at_once(shelf: LoopbackHub) -> None:
    assert shelf.link_lifetime is None
    url = link(shelf)
    assert ask(url).status == 200
    shelf.expire_links()
    assert [ask(url).status, ask(link(shelf)).status] == [403, 200]


def test_requests_beyond_the_limit_wait_a_second(shelf: LoopbackHub) -> None:
    # The client takes a while to begin, and the limit lasts no longer than a second.
    there = api(shelf)
    there.model_info(REPO)
    shelf.api_limit = 2
    answers = [ask(shelf.endpoint + MODEL) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["RateLimit"] == '"api";r=0;t=1'
    assert answers[2].headers["RateLimit-Policy"] == '"fixed window";"api";q=500;w=300'
    with pytest.raises(HfHubHTTPError, match="429"):
        there.model_info(REPO)
    assert ask(shelf.endpoint + RESOLVE).status == 302
    time.sleep(1)
    assert [ask(shelf.endpoint + MODEL).status for _ in range(3)] == [200, 200, 429]
    shelf.api_limit = None
    assert ask(shelf.endpoint + MODEL).status == 200


def test_a_status_can_tell_when_to_come_back(shelf: LoopbackHub) -> None:
    told = {"RateLimit": '"api";r=0;t=2', "Retry-After": "2"}
    shelf.add_fault(faults.status(429, headers=told, path="/tree/"))
    answer = ask(f"{shelf.endpoint}{MODEL}/tree/main")
    assert (answer.status, {name: answer.headers[name] for name in told}) == (429, told)


# Listings that differ from the files


def test_a_mirror_can_leave_out_sizes(hub: LoopbackHub) -> None:
    shelved(hub, {"no_blobs": True})
    siblings = api(hub).model_info(REPO, files_metadata=True).siblings or []
    told = [(sibling.rfilename, sibling.size, sibling.lfs) for sibling in siblings]
    assert told == [(NAME, None, None), ("README.md", None, None)]
    assert listed(hub)[NAME].size == len(DATA)


def test_listings_can_claim_another_checksum(hub: LoopbackHub, tmp_path: Path) -> None:
    claim = "c" * 64
    shelved(hub, {"claims": {NAME: claim}})
    siblings = api(hub).model_info(REPO, files_metadata=True).siblings or []
    lfs = [file.lfs.sha256 for file in (siblings[0], listed(hub)[NAME]) if file.lfs]
    assert lfs == [claim, claim]
    assert ask(hub.endpoint + RESOLVE, "HEAD").headers["X-Linked-ETag"] == f'"{claim}"'
    assert ask(link(hub)).body == DATA
    # The real client does not look.
    assert hf_download(hub, tmp_path).returncode == 0


def test_a_file_can_change_after_it_was_listed(hub: LoopbackHub) -> None:
    for sha in (OLD, NEW):
        hub.add_repo(REPO, {NAME: DATA, "README.md": CARD}, sha=sha)
    before, url = listed(hub), link(hub)
    etag = ask(url).headers["ETag"]
    hub.replace_bytes(REPO, NAME, b"changed")
    hub.replace_bytes(REPO, "README.md", b"new card")
    assert listed(hub) == before
    resumed = ask(url, headers={"Range": "bytes=3-", "If-Range": etag})
    assert (resumed.status, resumed.body) == (200, b"changed")
    for revision in ("main", OLD, NEW):
        for path, body in ((NAME, b"changed"), ("README.md", b"new card")):
            place = f"/{REPO}/resolve/{revision}/{path.replace(' ', '%20')}"
            with urlopen(hub.endpoint + place) as answer:
                assert answer.read() == body


# Xet


def test_hf_fetches_by_xet(hub: LoopbackHub, tmp_path: Path) -> None:
    shelved(hub, {"xet": True})
    xet_hash = listed(hub)[NAME].xet_hash
    assert ask(hub.endpoint + RESOLVE, "HEAD").headers["X-Xet-Hash"] == xet_hash
    assert hf_download(hub, tmp_path).returncode == 0
    assert (tmp_path / NAME).read_bytes() == DATA
    assert hub.requests("cdn") == []
    assert any("/xet-read-token/" in entry.path for entry in hub.requests("hub"))


def test_a_file_of_xet_comes_from_the_cdn_as_well(hub: LoopbackHub, tmp_path: Path) -> None:
    shelved(hub, {"xet": True, "claims": {"README.md": "c" * 64}})
    assert listed(hub)["README.md"].xet_hash is None
    assert hf_download(hub, tmp_path, HF_HUB_DISABLE_XET="1").returncode == 0
    assert (tmp_path / NAME).read_bytes() == DATA
    assert len(hub.requests("cdn")) == 1


def test_a_token_for_xet_is_given_to_those_let_in(hub: LoopbackHub) -> None:
    place = f"{hub.endpoint}{MODEL}/xet-read-token/main"
    assert ask(place).status == 401
    assert ask(f"{shelved(hub).endpoint}{MODEL}/xet-read-token/main").status == 404
    shelved(hub, {"xet": True, "gated": True})
    assert ask(place).status == 401
    given = ask(place, headers={"Authorization": "Bearer hf_accepted"})
    assert given.headers["X-Xet-Cas-Url"] == f"local://{hub.xet_folder}"
    hub.add_fault(faults.status(503, path="/xet-read-token/"))
    assert ask(place).status == 503
