"""Keeps what both sides say over a transport, as `interop/tee.py` does for a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from acp.transports import Oversize, Transport


def tap(transport: Transport, log: Path, us: Literal["client", "agent"]) -> None:
    """From here on write a line of `log` for each text: ours before it leaves, theirs when it has come.

    The methods are replaced and not the transport, so that it stays all that it was.
    """
    them = "agent" if us == "client" else "client"
    tapped: Any = transport
    send, send_now, receive = transport.send, transport.send_now, transport.receive

    def keep(who: str, *texts: bytes) -> None:
        with log.open("a", encoding="utf-8") as out:
            for text in texts:
                out.write(json.dumps({"from": who, "text": text.decode("utf-8", "replace")}) + "\n")

    async def tapped_send(*texts: bytes) -> None:
        keep(us, *texts)
        await send(*texts)

    def tapped_send_now(*texts: bytes) -> bool:
        sent = send_now(*texts)
        if sent:
            keep(us, *texts)
        return sent

    async def tapped_receive() -> bytes | Oversize:
        text = await receive()
        if isinstance(text, bytes):
            keep(them, text)
        return text

    tapped.send, tapped.send_now, tapped.receive = tapped_send, tapped_send_now, tapped_receive
