"""The only door to urllib3: one GET, with redirects, proxies, certificates and time limits.

Nothing is tried twice here. A token goes to the origin it is for, and along no redirect to another.
"""

from __future__ import annotations

import os
import ssl
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import truststore
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import parse_url
from urllib3.util.ssl_match_hostname import CertificateError

from quantpick.domain.policy import LONGEST_WAIT, asked_wait
from quantpick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3 import BaseHTTPResponse, PoolManager

    from quantpick.domain.policy import Policy

_T = TypeVar("_T")

#: Redirects followed for one request; browsers and curl allow 20 to 50, the Hub needs two.
_MOST_REDIRECTS = 10

#: Variables that name certificates to trust, as OpenSSL, curl and other programs know them.
_BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

#: The code of an error about a certificate, and the status of a proxy that refuses the login.
UNTRUSTED = "untrusted"
PROXY_LOGIN = 407

_DISABLED = "Access to this resource is disabled."

#: Bytes of a body that is read to its end to keep the connection.
_SHORT = 64 << 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({408, 429})
_SERVER_ERROR = 500
_ERROR = 400

_WORDS = (
    (NameResolutionError, "the name of {host} cannot be looked up"),
    (NewConnectionError, "{host} refuses connections"),
    (ConnectTimeoutError, "{host} does not answer"),
    (ReadTimeoutError, "{host} went silent"),
    (SSLError, "no secure connection to {host}"),
    (ProxyError, "the proxy does not let {host} through"),
    (LocationValueError, "{host} redirects to an address that makes no sense"),
    (HTTPError, "the connection to {host} broke off"),
)


class WebError(Exception):
    """A GET that brought nothing: an answer that is an error, or none at all.

    ``status`` is None where there was no answer. ``code`` is the Hub's own word for the error, or
    ``untrusted`` for a certificate. ``wait`` is the seconds that the server asks to wait, and
    ``final`` says that a further try is useless.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        wait: float | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.wait, self.final = status, code, wait, final


class Answer:
    """An answer with a body still to come. ``url`` is where the redirects ended."""

    def __init__(self, url: str, body: BaseHTTPResponse) -> None:
        self.url, self.body = url, body
        self.status: int = body.status
        self.headers: Mapping[str, str] = body.headers

    def read(self, most: int) -> bytes:
        """Return what has come, at most ``most`` bytes, none at the end. Raises WebError."""
        try:
            return self.body.read1(most, decode_content=False)
        except (HTTPError, OSError) as error:
            raise _broken(error, self.url) from error

    def close(self, *, reusable: bool = False) -> None:
        """Let the connection go: back to the pool, or for good with what it still holds."""
        if not reusable:
            self.body.close()
        self.body.release_conn()

    def dismiss(self) -> None:
        """Let the connection go without looking at the body, which is read if it is short."""
        length = self.headers.get("Content-Length", "")
        short = length.isdecimal() and int(length) <= _SHORT
        if short:
            self.body.drain_conn()
        self.close(reusable=short)

    def abort(self) -> None:
        """End a read that another thread waits in."""
        with suppress(HTTPError, OSError, ValueError, RuntimeError):
            self.body.shutdown()


class Web:
    """Connections that are kept open and shared by threads.

    ``headers`` go along with every request, a token among them to the origin of ``home`` alone.
    ``timeout`` is the seconds to wait for a connection and for each byte.
    """

    def __init__(
        self, home: str, headers: Mapping[str, str], timeout: float, connections: int = 1
    ) -> None:
        self._home, self._headers = origin(home), dict(headers)
        self._timeout = urllib3.Timeout(connect=timeout, read=timeout)
        self._connections = connections
        self._pools: dict[str | None, PoolManager] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Return the answer to a GET, after redirects, with its body unread. Raises WebError."""
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._get(url, headers)
            if answer.status not in _REDIRECTS:
                break
            answer.dismiss()
            url = _next_url(url, answer.headers.get("Location"))
        else:
            raise WebError(f"{_host(url)} redirects in a circle", final=True)
        if answer.status >= _ERROR:
            raise _refused(answer)
        return answer

    def close(self) -> None:
        """Close the connections that are not in use."""
        for pool in self._pools.values():
            pool.clear()

    def _get(self, url: str, headers: Mapping[str, str]) -> Answer:
        sent = {**self._headers, **headers, "Accept-Encoding": "identity"}
        if origin(url) != self._home:
            sent = {name: text for name, text in sent.items() if name.lower() != "authorization"}
        try:
            body = self._pool(url).request(
                "GET",
                url,
                headers=sent,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=self._timeout,
            )
        except (HTTPError, OSError, ValueError) as error:
            raise _broken(error, url) from error
        return Answer(url, body)

    def _pool(self, url: str) -> PoolManager:
        proxy = _proxy(url)
        if proxy not in self._pools:
            self._pools[proxy] = _new_pool(proxy, self._connections)
        return self._pools[proxy]


def with_retries(call: Callable[[], _T], policy: Policy) -> _T:
    """Return what a call returns, after further tries where those make sense. Raises WebError."""
    for wait in (*policy.waits, None):
        try:
            return call()
        except WebError as error:
            if wait is None or error.final or (error.wait or 0) > LONGEST_WAIT:
                raise
            time.sleep(wait if error.wait is None else error.wait)
    raise AssertionError("the last try returns or raises")


def origin(url: str) -> tuple[str | None, str | None, int | None]:
    """Return scheme, host and port of a URL, the port also where the URL leaves it out.

    Read as urllib3 reads it: who decides where a token goes must see the host that is connected to.
    Raises ValueError for a URL that is none.
    """
    parts = parse_url(url)
    return (
        parts.scheme,
        parts.host,
        parts.port or {"http": 80, "https": 443}.get(parts.scheme or ""),
    )


def _next_url(url: str, location: str | None) -> str:
    try:
        target = urljoin(url, location or "")
        scheme, host, _ = origin(target)
    except ValueError:
        scheme, host, target = None, None, ""
    # Two readers may see two hosts in an address with a backslash.
    if not location or "\\" in location or host is None or scheme not in {"http", "https"}:
        raise WebError(f"{_host(url)} redirects to an address that makes no sense", final=True)
    return target


def _refused(answer: Answer) -> WebError:
    answer.close()
    status, headers = answer.status, answer.headers
    if status == PROXY_LOGIN:
        return WebError("the proxy wants another login", status=status, final=True)
    disabled = headers.get("X-Error-Message") == _DISABLED
    retried = status in _RETRIED or status >= _SERVER_ERROR
    return WebError(
        f"{_host(answer.url)} answered {status}",
        status=status,
        code="DisabledRepo" if disabled else headers.get("X-Error-Code", ""),
        wait=wait_of(headers) if retried else None,
        final=not retried,
    )


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds an answer asks to wait, from Retry-After (also a date) or RateLimit."""
    retry_after = headers.get("Retry-After", "")
    with suppress(ValueError, TypeError, OverflowError):
        # Held against the server's own clock, for ours may be wrong.
        until = parsedate_to_datetime(retry_after) - parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, until.total_seconds())
    return asked_wait(retry_after, headers.get("RateLimit", ""))


def _broken(error: Exception, url: str) -> WebError:
    host = _host(url)
    if isinstance(error, SSLError) and _distrusted(error):
        return WebError(f"{host} shows no trusted certificate", code=UNTRUSTED, final=True)
    if isinstance(error, (ProxyError, OSError)) and f" {PROXY_LOGIN} " in str(error):
        return WebError("the proxy wants another login", status=PROXY_LOGIN, final=True)
    words = next((text for kind, text in _WORDS if isinstance(error, kind)), _WORDS[-1][1])
    return WebError(words.format(host=host), final=isinstance(error, LocationValueError))


def _distrusted(error: BaseException | None) -> bool:
    """Whether a TLS error is about the certificate, which a further try does not change."""
    while error is not None:
        if isinstance(error, (ssl.SSLCertVerificationError, CertificateError)):
            return True
        inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        error = inner or error.__cause__
    return False


def _host(url: str) -> str:
    """Return the host of a URL for a message: not its query, which may hold a signature."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "the server"
    except ValueError:
        return "the server"


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _new_pool(proxy: str | None, connections: int) -> PoolManager:
    context = _trust()
    if proxy is None:
        return urllib3.PoolManager(maxsize=connections, ssl_context=context)
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager

        return SOCKSProxyManager(proxy, maxsize=connections, ssl_context=context)
    user = urlsplit(proxy)
    login = f"{unquote(user.username)}:{unquote(user.password or '')}" if user.username else None
    return urllib3.ProxyManager(
        proxy,
        maxsize=connections,
        ssl_context=context,
        proxy_headers=urllib3.make_headers(proxy_basic_auth=login) if login else None,
    )


def _trust() -> ssl.SSLContext:
    """Return the system's certificates, or those of all files that the environment names."""
    named = [os.environ[name] for name in _BUNDLES if os.environ.get(name)]
    if not named:
        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.create_default_context()
    for place in named:
        try:
            if Path(place).is_dir():
                context.load_verify_locations(capath=place)
            else:
                context.load_verify_locations(cafile=place)
        except OSError as error:
            raise UsageError(
                f"cannot read certificates from {place}: {error.strerror or error}",
                f"correct or unset {', '.join(_BUNDLES)}",
            ) from error
    return context
