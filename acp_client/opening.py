"""How a conversation begins: what the client offers, and which version's surface takes over.

Version 1 is offered unless the application asks for 2, which is still a draft. An offer of version 2 holds version 1's
words as well, so that an agent which only speaks version 1 learns what the client can do. Some such agents say back
whatever version they are asked for; one that describes itself in version 1's words is spoken to in version 1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pydantic import ValidationError

from acp.connection import Connection
from acp.dialect import DIALECTS, agreed
from acp.errors import ErrorCode, LocalProtocolError, NegotiationError, RequestError
from acp.methods import Method
from acp.unions import Free
from acp.updates import Json
from acp.wire import pointers

from .host.host import Host
from .surface import Owner, Surface

log = logging.getLogger("acp")

NAME = "acp-laguna-client"
INITIALIZE: Method[Free, Free] = Method("initialize", "agent", Free, Free)


def _surface(version: int) -> type[Surface]:
    """The version's surface, imported now: the models of a version that nobody speaks need not be built."""
    if version == 1:
        from .surface_v1 import SurfaceV1

        return SurfaceV1
    from .surface_v2 import SurfaceV2

    return SurfaceV2


def offer(host: Host, version: int, release: str) -> dict[str, Json]:
    """The params of `initialize`."""
    if version not in DIALECTS:
        raise LocalProtocolError(f"this client does not speak version {version}")
    info = {"name": NAME, "version": release}
    params = {"protocolVersion": version, "clientCapabilities": _surface(1).capabilities(host), "clientInfo": info}
    return params if version == 1 else params | {"capabilities": _surface(2).capabilities(host), "info": info}


async def open_surface(connection: Connection, host: Host, owner: Owner, version: int, release: str) -> Surface:
    """Agree with the agent on a version. Raises NegotiationError, RequestError, ConnectionClosed."""
    try:
        answer = (await connection.call(INITIALIZE, Free(offer(host, version, release)))).root
    except RequestError as error:
        if error.code == ErrorCode.UNSUPPORTED_PROTOCOL_VERSION:
            raise NegotiationError(f"the agent refuses our protocol version: {error.message} {error.data}") from error
        raise
    answered: Json = answer.get("protocolVersion") if _is_object(answer) else None
    if type(answered) is not int:
        raise NegotiationError("the agent's answer to initialize has no protocol version")
    if answered > version:
        raise NegotiationError(f"the agent chose protocol version {answered}; this client speaks up to {version}")
    if answered > 1 and _is_an_echo(answer):
        log.info(
            "the agent says that it speaks version %d, in the words of version 1, which it is spoken to in", answered
        )
        answered, answer = 1, {**answer, "protocolVersion": 1}
    surface = _surface(agreed(answered).version)(host, owner, connection)
    try:
        surface.accept(answer)
    except ValidationError as error:
        raise RequestError(ErrorCode.INTERNAL_ERROR, "Invalid result of initialize", pointers(error)) from error
    return surface


def _is_an_echo(answer: Mapping[str, Json]) -> bool:
    """Whether an agent of version 1 said back the version it was asked for: both parts that version 2 demands lack."""
    return "agentCapabilities" in answer and not {"capabilities", "info"} & answer.keys()


def _is_object(value: Json) -> bool:
    return isinstance(value, dict)
