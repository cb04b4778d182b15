"""The way to the Hub: certificates, proxies, redirects, tokens, time limits, and how often."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.hub import faults
from tests.hub.asking import (
    API,
    COMMIT,
    GOOD,
    NAME,
    REPO,
    RESOLVE,
    SPEC,
    TOKEN,
    asked,
    at,
    fails,
    fill,
    succeeds,
    tokens,
)
from tests.hub.forward import Proxy
from tests.hub.loopback import LoopbackHub
from tests.hub.secure import SecureHub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.command import Command

#: Variables of the machine that runs the tests that decide of the way to the Hub.
OUTSIDE = ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
OUTSIDE += [f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO")]


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def shelf(hub: LoopbackHub) -> LoopbackHub:
    """Return the hub with a repo of one single and one split quant."""
    fill(hub)
    return hub


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[SecureHub]:
    """Return a hub behind TLS with the same repo."""
    with SecureHub(tmp_path) as hub:
        fill(hub)
        yield hub


@pytest.fixture(params=[LoopbackHub, SecureHub], ids=["http", "https"])
def either(request: pytest.FixtureRequest) -> LoopbackHub:
    """Return a hub without TLS, then one with it."""
    found = request.getfixturevalue("secure" if request.param is SecureHub else "shelf")
    assert isinstance(found, LoopbackHub)
    return found


# Certificates


@pytest.mark.parametrize("door", ["listing", "bytes"])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_own_authority_is_trusted_where_a_variable_names_it(
    quantpick: Command, secure: SecureHub, door: str, variable: str
) -> None:
    there = at(quantpick, secure.endpoint, **{variable: str(secure.authority)})
    words = [SPEC]
    if door == "bytes":
        assert there("lock", SPEC, SSL_CERT_FILE=str(secure.authority)).status == 0
        secure.log.clear()
        words = ["--locked"]
    succeeds(there, *words)
    assert (there.cwd / NAME).read_bytes() == GOOD
    assert asked(secure) == [*(["api"] if door == "listing" else []), "resolve", "cdn"]


@pytest.mark.parametrize("door", ["listing", "bytes"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_certificate_that_nobody_vouches_for_is_refused_at_once_and_named(
    quantpick: Command, secure: SecureHub, door: str, host: str
) -> None:
    env = {"SSL_CERT_FILE": str(secure.authority)}
    words = [SPEC]
    if door == "bytes":
        assert at(quantpick, secure.endpoint, **env)("lock", SPEC).status == 0
        secure.log.clear()
        words = ["--locked"]
    start = time.monotonic()
    # The certificate is of 127.0.0.1, so for the other name even the right authority is no help.
    address, known = secure.endpoint.replace("127.0.0.1", host), env if host == "localhost" else {}
    there = at(quantpick, address, **known)
    said = fails(there, *words, "--retries", "9")
    assert "certificate" in said
    assert secure.log == []
    # The waits before nine further tries are 55 s.
    assert time.monotonic() - start < 40


# Proxies: hub.invalid and cdn.invalid are names that only the proxy knows


def office(command: Command, hub: LoopbackHub, **env: str) -> Command:
    """Return a command that has to go through a proxy to get anywhere."""
    scheme = urlsplit(hub.endpoint).scheme
    hub.answers.cdn_endpoint = f"{scheme}://cdn.invalid"
    if isinstance(hub, SecureHub):
        env = {"SSL_CERT_FILE": str(hub.authority), **env}
    return at(command, f"{scheme}://hub.invalid", **env)


def places(hub: LoopbackHub) -> dict[str, str]:
    addresses = {"hub.invalid": hub.endpoint, "cdn.invalid": hub.cdn_endpoint}
    return {name: urlsplit(address).netloc for name, address in addresses.items()}


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_all_requests_go_through_an_http_proxy(
    quantpick: Command, shelf: LoopbackHub, variable: str
) -> None:
    with Proxy(places(shelf)) as proxy:
        succeeds(office(quantpick, shelf, **{variable: f"http://{proxy.host}"}), SPEC)
    assert proxy.asked == ["hub.invalid", "hub.invalid", "cdn.invalid"]
    assert asked(shelf) == ["api", "resolve", "cdn"]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_all_requests_go_through_tunnels_of_a_proxy(
    quantpick: Command, secure: SecureHub, variable: str
) -> None:
    with Proxy(places(secure)) as proxy:
        succeeds(office(quantpick, secure, **{variable: f"http://{proxy.host}"}), SPEC)
    assert set(proxy.asked) == {"hub.invalid:443", "cdn.invalid:443"}
    assert asked(secure) == ["api", "resolve", "cdn"]


def test_all_requests_go_through_a_socks_proxy(quantpick: Command, either: LoopbackHub) -> None:
    with Proxy(places(either), socks=True) as proxy:
        succeeds(office(quantpick, either, ALL_PROXY=f"socks5h://{proxy.host}"), SPEC)
    port = 443 if isinstance(either, SecureHub) else 80
    assert set(proxy.asked) == {f"hub.invalid:{port}", f"cdn.invalid:{port}"}
    assert asked(either) == ["api", "resolve", "cdn"]


@pytest.mark.parametrize(
    ("login", "written"), [("ann:secret", "ann:secret"), ("ann:p@ss:w/rd", "ann:p%40ss%3Aw%2Frd")]
)
def test_proxy_gets_its_login(
    quantpick: Command, either: LoopbackHub, login: str, written: str
) -> None:
    with Proxy(places(either), login=login) as proxy:
        there = office(quantpick, either, ALL_PROXY=f"http://{written}@{proxy.host}")
        succeeds(there, SPEC, "--retries", "0")
    assert asked(either) == ["api", "resolve", "cdn"]


def test_proxy_that_refuses_the_login_is_named_and_the_password_is_not(
    quantpick: Command, either: LoopbackHub
) -> None:
    with Proxy(places(either), login="ann:secret") as proxy:
        there = office(quantpick, either, ALL_PROXY=f"http://ann:hunter2@{proxy.host}")
        result = there("download", SPEC, "--retries", "0")
    assert result.status == 5
    assert "proxy" in next(line for line in result.stderr.splitlines() if "error: " in line)
    assert "hunter2" not in result.stdout + result.stderr
    assert either.log == []


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "gopher://127.0.0.1:9", "http://[::1"])
def test_proxy_that_is_none_is_no_bug(quantpick: Command, shelf: LoopbackHub, proxy: str) -> None:
    there = office(quantpick, shelf, HTTP_PROXY=proxy)
    result = there("download", SPEC, "--retries", "0")
    assert result.status == 5, result.stderr
    assert "proxy" in result.stderr
    assert shelf.log == []


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("around", ["127.0.0.1", "localhost,127.0.0.1", "*"])
def test_no_request_goes_through_a_proxy_where_no_proxy_says_so(
    online: Command, around: str
) -> None:
    with Proxy({}) as proxy:
        address = f"http://{proxy.host}"
        succeeds(online, SPEC, HTTP_PROXY=address, ALL_PROXY=address, NO_PROXY=around)
        assert proxy.asked == []
        succeeds(online, SPEC, "--force", "--cache", HTTP_PROXY=address)
    assert len(proxy.asked) == 3


# Redirects


def elsewhere(hub: LoopbackHub, host: str) -> str:
    """Return the hub's address under another name."""
    return hub.endpoint.replace("127.0.0.1", host)


@pytest.mark.parametrize("host", ["localhost", "ann:secret@localhost"])
@pytest.mark.parametrize("path", [API, RESOLVE], ids=["api", "resolve"])
def test_token_does_not_follow_to_another_host(
    online: Command, shelf: LoopbackHub, host: str, path: str
) -> None:
    place = {"Location": elsewhere(shelf, host) + path + "?blobs=true"}
    shelf.add_fault(faults.status(302, headers=place, path=path, times=1))
    succeeds(online, SPEC, HF_TOKEN=TOKEN)
    twice = [("api", True), ("api", False), ("resolve", True)]
    if path == RESOLVE:
        twice = [("api", True), ("resolve", True), ("resolve", False)]
    assert tokens(shelf) == [*twice, ("cdn", False)]


def test_token_follows_to_another_place_of_the_hub(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: GOOD}, sha=COMMIT, gated=True)
    place = {"Location": RESOLVE.replace(COMMIT, "main")}
    hub.add_fault(faults.status(307, headers=place, path=RESOLVE, times=1))
    succeeds(online, SPEC, HF_TOKEN=TOKEN)
    assert tokens(hub) == [("api", True), ("resolve", True), ("resolve", True), ("cdn", False)]


@pytest.mark.parametrize("server", ["hub", "cdn"])
def test_token_does_not_follow_to_a_host_that_two_readers_of_an_address_see_differently(
    online: Command, shelf: LoopbackHub, server: faults.Server
) -> None:
    # By RFC 3986 the host is what is before the backslash; others take that for a password.
    stranger = elsewhere(shelf, "localhost").replace(
        str(urlsplit(shelf.endpoint).port), str(urlsplit(shelf.cdn_endpoint).port)
    )
    place = rf"{stranger}\@{urlsplit(shelf.endpoint).netloc}/lfs/any"
    where = "/resolve/" if server == "hub" else ""
    shelf.add_fault(
        faults.status(302, headers={"Location": place}, server=server, path=where, times=1)
    )
    online("download", SPEC, "--retries", "0", HF_TOKEN=TOKEN)
    assert len(shelf.log) >= 2
    assert {entry.authorization for entry in shelf.requests("cdn")} <= {None}


def test_token_does_not_follow_to_another_scheme(
    quantpick: Command, shelf: LoopbackHub, secure: SecureHub
) -> None:
    place = f"http://hub.invalid:443{RESOLVE}"
    secure.add_fault(faults.redirect_to(place, path=RESOLVE))
    with (
        Proxy(places(secure)) as tunnels,
        Proxy({"hub.invalid": places(shelf)["hub.invalid"]}) as http,
    ):
        env = {"HTTPS_PROXY": f"http://{tunnels.host}", "HTTP_PROXY": f"http://{http.host}"}
        succeeds(office(quantpick, secure, **env), SPEC, HF_TOKEN=TOKEN)
    assert tokens(secure) == [("api", True), ("resolve", True)]
    assert tokens(shelf) == [("resolve", False), ("cdn", False)]


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "javascript:alert(1)",
        "data:,x",
        "",
        "http://[",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:x/",
        "http://a b/",
        "http://\x7f\t\x01/x",
    ],
)
def test_redirect_to_what_is_no_place_of_the_web_is_refused(
    online: Command, shelf: LoopbackHub, place: str
) -> None:
    shelf.add_fault(faults.redirect_to(place, path="/resolve/"))
    said = fails(online, SPEC, "--retries", "3", HF_TOKEN=TOKEN)
    assert said.isprintable()
    assert tokens(shelf) == [("api", True), ("resolve", True)]


def test_control_characters_of_a_redirect_are_quoted(online: Command, shelf: LoopbackHub) -> None:
    shelf.add_fault(faults.redirect_to(f"{shelf.cdn_endpoint}/\x01\x7f b", path="/resolve/"))
    assert fails(online, status=3).isprintable()
    assert [entry.path for entry in shelf.requests("cdn")] == ["/%01%7F%20b"]


@pytest.mark.parametrize("path", [API, RESOLVE], ids=["api", "resolve"])
def test_redirects_in_a_circle_are_refused(online: Command, shelf: LoopbackHub, path: str) -> None:
    place = {"Location": f"{shelf.endpoint}{path}"}
    shelf.add_fault(faults.status(302, headers=place, path=path))
    fails(online, SPEC, "--retries", "1")
    assert 3 < len(shelf.log) < 60
