"""Requests to an endpoint: a client, time limits, and refusals as errors. HTTP begins here."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar, cast

import anyio
import httpx2

from ..model import ModelError
from .endpoint import Endpoint
from .events import Events, EventTooLarge
from .refusal import LARGEST_BODY, Refusal, refusal_of, shown, words_of
from .shapes import count, mapping

log = logging.getLogger(__name__)

T = TypeVar("T")

CLOSED = "the model was closed"
AT_ONCE = 64
"""Requests in flight; more wait."""
LARGEST_WHOLE = 2**26
"""Bytes of an answer that comes in one piece though a stream was asked for."""
DRAINING = 0.1
"""Seconds that a server has to end a stream after it has said that it is done."""
FAREWELL = 1.0
"""Seconds to close a response."""

logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs every request


class Refused(Exception):
    """The endpoint answered with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.words)
        self.refusal = refusal


class Broken(Exception):
    """The connection could not be made, or did not hold. The message is for the user."""


class Exchange:
    """The way to one endpoint. It is made anywhere and used on one event loop. Raises ModelError once it was closed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client: httpx2.AsyncClient | None = None
        self._waits: set[anyio.CancelScope] = set()
        self._closed = False

    async def get(self, url: str, seconds: float, *, post: Mapping[str, Any] | None = None) -> Any:
        """A JSON document. Raises Refused, Broken and ModelError."""
        request = self._request(url, post, stream=False)
        response = await self._send(request, seconds)
        try:
            body = await self._whole(response, seconds)
        finally:
            await _close(response)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(Refusal(response.status_code, "the answer is not JSON")) from None

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any] | None, None]:
        """The chunks of a chat completion; None once the endpoint said that there are no more.

        Raises Refused, Broken and ModelError.
        """
        patience = _Patience(self.endpoint)
        request = self._request(f"{self.endpoint.url}/chat/completions", body, stream=True)
        response = await self._send(request, self.endpoint.first)
        try:
            if _type(response) != "text/event-stream":
                yield self._chunk((await self._whole(response, self.endpoint.first)).decode("utf-8", "replace"))
                return
            events = Events()
            async with aclosing(response.aiter_bytes()) as pieces:
                while (piece := await self._next(pieces, patience.seconds(), patience.words)) is not None:
                    for event in self._events(events, piece):
                        if event == "[DONE]":
                            await self._drain(pieces)
                            yield None
                            return
                        patience.heard()
                        yield self._chunk(event)
            for event in events.end():
                yield None if event == "[DONE]" else self._chunk(event)
        finally:
            await _close(response)

    async def aclose(self) -> None:
        """End every request. Idempotent."""
        self._closed = True
        for wait in tuple(self._waits):
            wait.cancel()
        if self._client is not None:
            await self._client.aclose()

    # Requests ------------------------------------------------------------------------------------------

    def _request(self, url: str, body: Mapping[str, Any] | None, *, stream: bool) -> httpx2.Request:
        if self._closed:
            raise ModelError(CLOSED)
        if self._client is None:
            timeout = httpx2.Timeout(None, connect=self.endpoint.connect, write=self.endpoint.silence)
            limits = httpx2.Limits(max_connections=AT_ONCE)
            # A proxy of the environment must not come between this machine and itself.
            self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=not self.endpoint.is_local)
        # No compression: nothing to gain on a stream of tokens, and no bomb to unpack.
        headers = {"accept-encoding": "identity", "accept": "text/event-stream" if stream else "application/json"}
        if self.endpoint.key:
            headers["authorization"] = f"Bearer {self.endpoint.key}"
        headers |= {name.lower(): value for name, value in self.endpoint.headers.items()}
        return self._client.build_request("GET" if body is None else "POST", url, json=body, headers=headers)

    async def _send(self, request: httpx2.Request, seconds: float) -> httpx2.Response:
        client = cast(httpx2.AsyncClient, self._client)
        words = f"{self.endpoint.url} did not answer within {seconds:g} s"
        response = await self._within(seconds, lambda: client.send(request, stream=True), words)
        if response.is_success:
            return response
        try:
            body = await self._whole(response, self.endpoint.silence, most=LARGEST_BODY, cut=True)
        finally:
            await _close(response)
        headers = {name.lower(): value for name, value in response.headers.items()}
        raise Refused(refusal_of(response.status_code, headers, body, self.endpoint))

    async def _whole(
        self, response: httpx2.Response, seconds: float, *, most: int = LARGEST_WHOLE, cut: bool = False
    ) -> bytes:
        """The body. One that is longer than `most` bytes is cut or refused."""
        body = bytearray()
        words = f"{self.endpoint.url} stopped in the middle of an answer for {seconds:g} s"
        async with aclosing(response.aiter_bytes()) as pieces:
            while len(body) <= most and (piece := await self._next(pieces, seconds, words)) is not None:
                body += piece
        if len(body) > most and not cut:
            raise ModelError(f"{self.endpoint.url} answered with more than {most} bytes")
        return bytes(body[:most])

    async def _next(self, pieces: AsyncIterator[bytes], seconds: float, words: str) -> bytes | None:
        return await self._within(seconds, lambda: anext(pieces, None), words)

    async def _drain(self, pieces: AsyncIterator[bytes]) -> None:
        """Read what follows the end of a stream, which is nothing as a rule: then the connection can be used again."""
        with suppress(Broken):
            while await self._next(pieces, DRAINING, "") is not None:
                pass

    async def _within(self, seconds: float, work: Callable[[], Awaitable[T]], words: str) -> T:
        """The result of some network work, if it comes in time. Raises Broken, with `words` if it does not."""
        if self._closed:
            raise ModelError(CLOSED)
        with anyio.move_on_after(seconds) as wait:
            self._waits.add(wait)
            try:
                return await work()
            except httpx2.ConnectTimeout:
                raise Broken(f"{self.endpoint.url} cannot be reached within {self.endpoint.connect:g} s") from None
            except httpx2.ConnectError as error:
                reason = shown(str(error), self.endpoint) or "no connection"
                raise Broken(f"{self.endpoint.url} cannot be reached: {reason}") from None
            except (httpx2.HTTPError, httpx2.StreamError, anyio.ClosedResourceError) as error:
                reason = shown(str(error), self.endpoint) or type(error).__name__
                raise Broken(f"the connection to {self.endpoint.url} broke: {reason}") from None
            finally:
                self._waits.discard(wait)
        if self._closed:
            raise ModelError(CLOSED)
        raise Broken(words)

    # What came -----------------------------------------------------------------------------------------

    def _events(self, events: Events, piece: bytes) -> list[str]:
        try:
            return events.feed(piece)
        except EventTooLarge:
            raise ModelError(f"{self.endpoint.url} sent an event that is too large") from None

    def _chunk(self, text: str) -> Mapping[str, Any]:
        """A chunk. Raises Refused for one that is an error, or no chunk at all."""
        try:
            chunk = json.loads(text)
        except (ValueError, RecursionError):
            chunk = None
        fields = mapping(chunk)
        if not fields:
            what = "a web page" if text.lstrip().startswith("<") else "something else"
            raise ModelError(f"{self.endpoint.url} gave {what}, not a completion; base_url usually ends in /v1")
        if fields.get("error") or fields.get("object") == "error":
            error = fields.get("error") or fields
            code = count(mapping(error).get("code"))
            status = code if 400 <= code < 600 else 0
            raise Refused(Refusal(status, shown(words_of(error), self.endpoint)))
        return fields


class _Patience:
    """How long to wait for the next bytes: long for the first token, shorter for the others, and never for ever."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._heard = time.monotonic()
        self._began = False

    def heard(self) -> None:
        self._heard, self._began = time.monotonic(), True

    def seconds(self) -> float:
        # Keep-alives are bytes too: they prolong the wait for a token up to `first`, and no further.
        left = self._heard + self._endpoint.first - time.monotonic()
        return max(0.0, min(left, self._endpoint.silence) if self._began else left)

    @property
    def words(self) -> str:
        if not self._began:
            return f"{self._endpoint.url} gave no token within {self._endpoint.first:g} s"
        return f"{self._endpoint.url} fell silent in the middle of its answer"


async def _close(response: httpx2.Response) -> None:
    with anyio.move_on_after(FAREWELL, shield=True):
        await response.aclose()


def _type(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()
