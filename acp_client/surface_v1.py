"""ACP version 1, the client's side: a host's parts become capabilities and handlers, sessions become requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from acp.connection import Connection, Handlers, Pending
from acp.dialect import agreed
from acp.errors import ErrorCode, RequestError
from acp.updates import Block, Update
from acp.v1 import dialect, schema

from .host import Files, Host, Option, PermissionRequest
from .session import Ended

Deliver = Callable[[str, Update], Awaitable[None]]
AskSession = Callable[[PermissionRequest], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What the agent said of itself."""

    version: int
    name: str
    title: str
    release: str


class SurfaceV1:
    """Speaks v1 for one client. `deliver` takes each update; `ask` decides a permission request."""

    def __init__(self, host: Host, deliver: Deliver, ask: AskSession) -> None:
        self._host, self._deliver, self._ask = host, deliver, ask
        self.connection: Connection
        self.handlers = (
            Handlers().on(schema.SESSION_UPDATE, self._update).on(schema.SESSION_REQUEST_PERMISSION, self._permission)
        )
        if host.files is not None:
            surface = _Files(host.files)
            self.handlers.on(schema.FS_READ_TEXT_FILE, surface.read).on(schema.FS_WRITE_TEXT_FILE, surface.write)

    # What we ask -----------------------------------------------------------------------------------------

    async def initialize(self, name: str, version: str) -> AgentInfo:
        """Raises NegotiationError when the agent chose a version that we do not speak."""
        answer = await self.connection.call(
            schema.INITIALIZE,
            schema.InitializeRequest(
                protocol_version=dialect.VERSION,
                client_capabilities=self._capabilities(),
                client_info=schema.Implementation(name=name, version=version),
            ),
        )
        agreed(answer.protocol_version)
        info = answer.agent_info
        if info is None:
            return AgentInfo(answer.protocol_version, "agent", "agent", "")
        return AgentInfo(answer.protocol_version, info.name, info.title or info.name, info.version)

    def _capabilities(self) -> schema.ClientCapabilities:
        if self._host.files is None:
            return schema.ClientCapabilities()
        both = schema.FileSystemCapabilities(read_text_file=True, write_text_file=True)
        return schema.ClientCapabilities(fs=both)

    async def new_session(self, cwd: str) -> str:
        """The new session's id."""
        request = schema.NewSessionRequest(cwd=cwd, mcp_servers=[])
        return (await self.connection.call(schema.SESSION_NEW, request)).session_id

    async def prompt(self, session_id: str, blocks: Sequence[Block]) -> Pending[schema.PromptResponse]:
        """Begin a turn; in v1 its end is the answer. See `ended`."""
        prompt = [dialect.encode_block(block) for block in blocks]
        request = schema.PromptRequest(session_id=session_id, prompt=prompt)
        return await self.connection.ask(schema.SESSION_PROMPT, request)

    @staticmethod
    def ended(answer: schema.PromptResponse) -> Ended:
        return Ended(answer.stop_reason, answer.meta or {})

    async def cancel(self, session_id: str) -> None:
        await self.connection.notify(schema.SESSION_CANCEL, schema.CancelNotification(session_id=session_id))

    # What we are asked -----------------------------------------------------------------------------------

    async def _update(self, notification: schema.SessionNotification) -> None:
        await self._deliver(notification.session_id, dialect.decode(notification.update))

    async def _permission(self, request: schema.RequestPermissionRequest) -> schema.RequestPermissionResponse:
        options = tuple(Option(option.option_id, option.name, option.kind) for option in request.options)
        call = dialect.decode_call_update(request.tool_call)
        chosen = await self._ask(PermissionRequest(request.session_id, call, options))
        if chosen is None:
            return schema.RequestPermissionResponse(outcome=schema.CancelledRequestPermissionOutcome())
        selected = schema.SelectedRequestPermissionOutcome(option_id=chosen)
        return schema.RequestPermissionResponse(outcome=selected)


class _Files:
    """A host's files as methods."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def read(self, request: schema.ReadTextFileRequest) -> schema.ReadTextFileResponse:
        try:
            text = await self._files.read_text(request.path, line=request.line, limit=request.limit)
        except FileNotFoundError as error:
            raise RequestError(ErrorCode.RESOURCE_NOT_FOUND, "File not found", {"path": request.path}) from error
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError.invalid_params(f"The file cannot be read: {error}") from error
        return schema.ReadTextFileResponse(content=text)

    async def write(self, request: schema.WriteTextFileRequest) -> schema.WriteTextFileResponse:
        try:
            await self._files.write_text(request.path, request.content)
        except OSError as error:
            raise RequestError.invalid_params(f"The file cannot be written: {error}") from error
        return schema.WriteTextFileResponse()
