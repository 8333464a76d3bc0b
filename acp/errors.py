"""What can go wrong, and whose fault it was.

AcpError
├── RequestError            a JSON-RPC error object, received from the peer or raised to be sent to it
├── LocalProtocolError      we broke the protocol; nothing was sent
├── RemoteProtocolError     the peer broke the protocol
├── NegotiationError        the two sides speak no common version
└── ConnectionClosed        the conversation is over; `reason` says why
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ErrorCode(IntEnum):
    """Codes of JSON-RPC 2.0 and of the ACP schema (`ErrorCode`)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    REQUEST_CANCELLED = -32800
    AUTH_REQUIRED = -32000
    RESOURCE_NOT_FOUND = -32002
    UNSUPPORTED_PROTOCOL_VERSION = -32022


class AcpError(Exception):
    """Base of every error this library raises on purpose."""


class RequestError(AcpError):
    """A JSON-RPC error object: raised by `call` when the peer answered one, or by a handler to answer one."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = int(code)
        self.message = message
        self.data = data

    @classmethod
    def method_not_found(cls, method: str) -> RequestError:
        return cls(ErrorCode.METHOD_NOT_FOUND, "Method not found", {"method": method})

    @classmethod
    def invalid_params(cls, message: str, data: Any = None) -> RequestError:
        return cls(ErrorCode.INVALID_PARAMS, message, data)

    @classmethod
    def cancelled(cls) -> RequestError:
        return cls(ErrorCode.REQUEST_CANCELLED, "Request cancelled")

    @classmethod
    def session_not_found(cls, session_id: str) -> RequestError:
        return cls(ErrorCode.RESOURCE_NOT_FOUND, "Session not found", {"sessionId": session_id})

    @classmethod
    def auth_required(cls) -> RequestError:
        return cls(ErrorCode.AUTH_REQUIRED, "Authentication required")


class LocalProtocolError(AcpError):
    """We may not say this now: the method is not open, the state forbids it, the value does not fit the schema."""


class RemoteProtocolError(AcpError):
    """The peer said what it may not say."""


class NegotiationError(AcpError):
    """The peer speaks no protocol version that we speak."""


class ConnectionClosed(AcpError):
    """The conversation ended, at either side's wish or by a failure."""

    def __init__(self, reason: str = "connection closed") -> None:
        super().__init__(reason)
        self.reason = reason
