"""The versions of the protocol that we speak, and how two sides agree on one.

A `Dialect` turns updates into one version's wire and back; everything above it speaks `acp.updates` only. This
is the one file that knows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import ErrorCode, NegotiationError, RequestError
from .methods import Method
from .updates import Update
from .v1 import dialect as v1
from .v2 import dialect as v2


@dataclass(frozen=True, slots=True)
class Dialect:
    """One version's words: `decode` is the inverse of `encode` for all that the version can say.

    `encode` gives the bodies of `session/update` that say an update; none where the version has no such word.
    `methods` are the version's by name, the unstable ones too (`Method.stable`).
    """

    version: int
    methods: Mapping[str, Method[Any, Any]]
    encode: Callable[[Update], Iterable[Any]]
    decode: Callable[[Any], Update]


V1: Final = Dialect(v1.VERSION, v1.METHODS, v1.encode, v1.decode)
V2: Final = Dialect(v2.VERSION, v2.METHODS, v2.encode, v2.decode)
DIALECTS: Final[Mapping[int, Dialect]] = {V1.version: V1, V2.version: V2}
"""What we speak, by version."""


def negotiate(requested: int, dialects: Mapping[int, Dialect] = DIALECTS) -> Dialect:
    """The agent's answer to `initialize`: the highest version that is not above the one asked for (v2 initialization).

    Raises RequestError -32022 where there is none.
    """
    fitting = [version for version in dialects if version <= requested]
    if not fitting:
        data = {"requested": requested, "supported": sorted(dialects)}
        raise RequestError(ErrorCode.UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", data)
    return dialects[max(fitting)]


def agreed(answered: int, dialects: Mapping[int, Dialect] = DIALECTS) -> Dialect:
    """The client's side: the dialect of the version that the agent chose; `NegotiationError` if we lack it."""
    if answered not in dialects:
        ours = ", ".join(str(version) for version in sorted(dialects))
        raise NegotiationError(f"the agent chose protocol version {answered}; this client speaks {ours}")
    return dialects[answered]
