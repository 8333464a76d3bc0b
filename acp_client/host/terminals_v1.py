"""The host's terminals behind version 1's `terminal/*`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from acp.errors import ErrorCode, RequestError
from acp.handlers import Handlers
from acp.v1 import schema

from .terminals import Terminals

T = TypeVar("T")


class TerminalsV1:
    """Answers an agent's calls. An id that is not known is -32002; what cannot be started is -32602."""

    def __init__(self, terminals: Terminals) -> None:
        self._terminals = terminals

    def add_to(self, handlers: Handlers) -> None:
        """Open the five methods."""
        handlers.on(schema.TERMINAL_CREATE, self.create).on(schema.TERMINAL_OUTPUT, self.output)
        handlers.on(schema.TERMINAL_WAIT_FOR_EXIT, self.wait).on(schema.TERMINAL_KILL, self.kill)
        handlers.on(schema.TERMINAL_RELEASE, self.release)

    async def create(self, request: schema.CreateTerminalRequest) -> schema.CreateTerminalResponse:
        try:
            id = await self._terminals.create(
                request.session_id,
                request.command,
                request.args,
                env={variable.name: variable.value for variable in request.env},
                cwd=request.cwd,
                output_byte_limit=request.output_byte_limit,
            )
        except (OSError, ValueError) as error:
            raise RequestError.invalid_params(f"The command cannot be started: {error}") from error
        return schema.CreateTerminalResponse(terminal_id=id)

    async def output(self, request: schema.TerminalOutputRequest) -> schema.TerminalOutputResponse:
        id = request.terminal_id
        text, truncated, status = await _known(id, self._terminals.output(id))
        if status is None:
            return schema.TerminalOutputResponse(output=text, truncated=truncated)
        ended = schema.TerminalExitStatus(exit_code=status.code, signal=status.signal)
        return schema.TerminalOutputResponse(output=text, truncated=truncated, exit_status=ended)

    async def wait(self, request: schema.WaitForTerminalExitRequest) -> schema.WaitForTerminalExitResponse:
        id = request.terminal_id
        status = await _known(id, self._terminals.wait(id))
        return schema.WaitForTerminalExitResponse(exit_code=status.code, signal=status.signal)

    async def kill(self, request: schema.KillTerminalRequest) -> schema.KillTerminalResponse:
        await _known(request.terminal_id, self._terminals.kill(request.terminal_id))
        return schema.KillTerminalResponse()

    async def release(self, request: schema.ReleaseTerminalRequest) -> schema.ReleaseTerminalResponse:
        await _known(request.terminal_id, self._terminals.release(request.terminal_id))
        return schema.ReleaseTerminalResponse()


async def _known(id: str, call: Awaitable[T]) -> T:
    try:
        return await call
    except LookupError as error:
        raise RequestError(ErrorCode.RESOURCE_NOT_FOUND, "Terminal not found", {"terminalId": id}) from error
