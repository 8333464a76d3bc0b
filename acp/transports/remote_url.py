"""From the URL of an agent on the network to a transport, of WebSocket or HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from .cookies import Cookies
from .remote import CONNECTION_ID, CannotConnect, ClientTransport

_HTTP = ("http://", "https://")
_SCHEMES = ("ws://", "wss://", *_HTTP)


def is_url(target: str) -> bool:
    """Whether a text is the URL of an agent on the network."""
    return target.startswith(_SCHEMES)


def connect(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    cookies: Cookies | None = None,
    replaces: Sequence[str] = (),
) -> AbstractAsyncContextManager[ClientTransport]:
    """What `connect_websocket` and `connect_http` say. `replaces` are connections that this one takes the place of.

    Raises CannotConnect, at once or in entering; ValueError for a URL or a header that cannot be.
    """
    # Imported here: whoever starts a command needs none of it, and HTTP is an extra.
    if url.startswith(_HTTP):
        try:
            from .http_client import connect_http
        except ModuleNotFoundError as error:
            raise CannotConnect(f"for a URL of HTTP install acp-laguna[http]: {error}") from error
        return connect_http(url, headers=headers, tls=tls, insecure=insecure, cookies=cookies, replaces=replaces)
    from .websocket_opening import connect_websocket

    said = headers or {}
    if replaces:
        said = {CONNECTION_ID: ", ".join(replaces), **said}
    return connect_websocket(url, headers=said, tls=tls, insecure=insecure, cookies=cookies)
