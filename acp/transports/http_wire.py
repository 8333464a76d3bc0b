"""Requests over HTTP/1.1 and HTTP/2 to one endpoint: all that a client needs of `httpx2`.

HTTP/2 is spoken where TLS agrees on it. Proxies are those of the environment, and no redirect is followed: it would
take the credentials elsewhere.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import anyio
import httpx2

from ..errors import AcpError
from .cookies import Cookies
from .remote import OPENING, check_credentials, checked_headers, is_loopback, keep_silent

keep_silent("hpack", "httpcore2", "httpx2")

LARGEST_REFUSAL = 8 * 2**10
"""Bytes of an answer that says why there is none."""
POSTING = 90.0
"""Seconds that a server gets to take a message; it may wait for its agent."""
ENDING = 2.0
"""Seconds that it gets to hear that we go."""


class NotReached(AcpError):
    """The network failed. `is_unsent`: before anything was sent."""

    def __init__(self, message: str, *, is_unsent: bool) -> None:
        super().__init__(message)
        self.is_unsent = is_unsent


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of an answer, names of headers in lower case, and its body or the beginning of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def says(self) -> str:
        """The answer in a line, for people."""
        phrase = httpx2.codes.get_reason_phrase(self.status)
        words = self.body.decode(errors="replace").strip().split("\n")[0][:500]
        return f"{self.status} {phrase}".strip() + (f": {words}" if words else "")


class HttpWire:
    """One endpoint. `shown` is its URL without what nobody should read. Raises ValueError for one that cannot be."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        cookies: Cookies | None = None,
    ) -> None:
        where, given = _target(url), checked_headers(headers or {})
        self.shown = str(where.copy_with(query=None, fragment=None))
        self._secure = where.scheme == "https"
        check_credentials(given, where.host, secure=self._secure, insecure=insecure)
        self._returns_secure = self._secure or is_loopback(where.host)
        self._cookies = cookies or Cookies()
        self._url = str(where)
        timeout = httpx2.Timeout(OPENING, read=POSTING, write=POSTING, pool=None)
        self._listening = httpx2.Timeout(OPENING, read=None, pool=None)
        self._client = httpx2.AsyncClient(
            http2=True,
            verify=(tls or True) if self._secure else False,
            headers={"user-agent": "acp-laguna", "accept-encoding": "identity", **given},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # ours outlive the connection
            timeout=timeout,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=60.0),
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def request(
        self, method: str, headers: Mapping[str, str], content: bytes | None = None, *, most: int = LARGEST_REFUSAL
    ) -> Reply:
        """Ask, and take at most so many bytes of an answer that is no refusal. Raises NotReached."""
        try:
            async with self._client.stream(method, self._url, headers=self._said(headers), content=content) as answer:
                reply = self._reply(answer)
                size = most if answer.is_success else LARGEST_REFUSAL
                return Reply(reply.status, reply.headers, await _beginning(answer, size))
        except httpx2.HTTPError as error:
            raise self._not_reached(error) from error

    @asynccontextmanager
    async def listen(self, headers: Mapping[str, str]) -> AsyncGenerator[tuple[Reply, AsyncIterator[bytes]]]:
        """An answer that goes on: its head, and what comes. Raises NotReached, in the block too."""
        said = self._said(headers)
        try:
            async with self._client.stream("GET", self._url, headers=said, timeout=self._listening) as answer:
                reply = self._reply(answer)
                if not answer.is_success:
                    reply = Reply(reply.status, reply.headers, await _beginning(answer, LARGEST_REFUSAL))
                yield reply, answer.aiter_raw()
        except httpx2.HTTPError as error:
            raise self._not_reached(error) from error

    def _said(self, headers: Mapping[str, str]) -> httpx2.Headers:
        # The id of a session is a header, and may be any text.
        return httpx2.Headers({**self._cookies.headers(secure=self._returns_secure), **headers}, encoding="utf-8")

    def _reply(self, answer: httpx2.Response) -> Reply:
        self._cookies.take(answer.headers.get_list("set-cookie"))
        return Reply(answer.status_code, answer.headers)

    def _not_reached(self, error: httpx2.HTTPError) -> NotReached:
        is_unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
        what = "cannot be reached" if is_unsent else "is not reached any more"
        return NotReached(f"{self.shown} {what}: {_words(error)}", is_unsent=is_unsent)


async def _beginning(answer: httpx2.Response, most: int) -> bytes:
    """The body, or as much of it as is not too much."""
    body = bytearray()
    with anyio.CancelScope() as enough:  # a generator that is left by `break` is not closed in time
        async for data in answer.aiter_raw():
            body += data
            if len(body) > most:
                enough.cancel()
    return bytes(body[: most + 1])


def _words(error: httpx2.HTTPError) -> str:
    return str(error) or ("it took too long" if isinstance(error, httpx2.TimeoutException) else "the connection broke")


def _target(url: str) -> httpx2.URL:
    try:
        where = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"not a URL of HTTP: {error}") from None
    if where.scheme not in ("http", "https") or not where.host:
        raise ValueError("not a URL of HTTP: it has no host")
    if where.userinfo:
        raise ValueError("credentials do not belong in a URL; give them in a header")
    return where
