"""The editor's unsaved files, by version 1's `fs/read_text_file` and `fs/write_text_file`."""

from __future__ import annotations

import logging

from acp.connection import Connection
from acp.errors import LocalProtocolError, RequestError
from acp.v1 import schema

log = logging.getLogger(__name__)


class ClientFiles:
    """An `Overlay` over one session's client. What the client cannot do or refuses falls back to the disk."""

    def __init__(self, connection: Connection, session_id: str, *, reads: bool, writes: bool) -> None:
        self._connection = connection
        self._session_id = session_id
        self._reads = reads
        self._writes = writes

    @classmethod
    def of(cls, connection: Connection, session_id: str, capabilities: schema.ClientCapabilities) -> ClientFiles | None:
        """The overlay that the client's capabilities allow; None when they allow none."""
        fs = capabilities.fs
        if not (fs.read_text_file or fs.write_text_file):
            return None
        return cls(connection, session_id, reads=fs.read_text_file, writes=fs.write_text_file)

    async def read_text(self, path: str) -> str | None:
        if not self._reads:
            return None
        request = schema.ReadTextFileRequest(session_id=self._session_id, path=path)
        try:
            return (await self._connection.call(schema.FS_READ_TEXT_FILE, request)).content
        except (RequestError, LocalProtocolError) as error:
            log.info("the client did not read %s: %s", path, error)
            return None

    async def write_text(self, path: str, text: str) -> bool:
        if not self._writes:
            return False
        request = schema.WriteTextFileRequest(session_id=self._session_id, path=path, content=text)
        try:
            await self._connection.call(schema.FS_WRITE_TEXT_FILE, request)
        except (RequestError, LocalProtocolError) as error:
            log.info("the client did not write %s: %s", path, error)
            return False
        return True
