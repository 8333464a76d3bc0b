"""Who may come in, and with how much: around the whole application, before it reads a byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acp.transports.remote import Request
from acp_server.network.gate import Gate, Refusal

from .refused import Refused

LARGEST_BODY = 32 * 2**20  # bytes
OPENING = 30.0
"""Seconds that a request's body may take."""
STALL = 60.0
"""Seconds that a client may take nothing of its answer; then it counts as gone."""
HEALTH = "/health"


@dataclass(frozen=True, slots=True)
class Door:
    """An ASGI application in front of another. `principal` is put into the scope of those who are let in."""

    app: ASGIApp
    gate: Gate
    largest: int = LARGEST_BODY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            scope["principal"] = self.judge(scope)
            body = await self.whole_body(scope, receive)
        except Refused as refused:
            await refused.response()(scope, receive, send)
            return

        async def read() -> Message:
            nonlocal body
            if body is None:
                return await receive()  # nothing but the news that the client is gone
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message

        async def patiently(message: Message) -> None:
            with anyio.fail_after(STALL):
                await send(message)

        await self.app(scope, read, patiently)

    def judge(self, scope: Scope) -> str:
        """The principal of who asks. Raises Refused."""
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        request = Request(scope["path"], pairs, scope["method"])
        verdict = self.gate.distrust(request)
        if verdict is None and scope["path"] == HEALTH:
            return ""
        found = verdict or self.gate.admit(request, (scope.get("client") or ("", 0))[0])
        if isinstance(found, Refusal):
            raise Refused(found.status, found.text)
        if request.all("content-encoding") not in ([], ["identity"]):
            raise Refused(415, "send the body as it is, without a content-encoding")
        return found.principal

    async def whole_body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body, or what came of it of a client that left. Raises Refused for one that is too long or too slow."""
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.largest:
            raise Refused(413, f"the body is longer than {self.largest} bytes")
        body, more = bytearray(), True
        try:
            with anyio.fail_after(OPENING):
                while more:
                    message: dict[str, Any] = dict(await receive())
                    more = message["type"] == "http.request" and message.get("more_body", False)
                    body += message.get("body", b"")
                    if len(body) > self.largest:
                        raise Refused(413, f"the body is longer than {self.largest} bytes")
        except TimeoutError:
            raise Refused(408, "the body of the request does not come") from None
        return bytes(body)
