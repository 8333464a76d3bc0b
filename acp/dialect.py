"""The versions of the protocol that we speak, and how two sides agree on one.

A `Dialect` turns updates into one version's wire and back; everything above it speaks `acp.updates` only. This
is the one file that knows them all.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import ErrorCode, NegotiationError, RequestError
from .methods import Method
from .updates import Update


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


class _Dialects(Mapping[int, Dialect]):
    """The dialects by version, each imported when it is first looked up: the models of one take a tenth of a second."""

    def __init__(self, *versions: int) -> None:
        self._versions = versions

    def __getitem__(self, version: int) -> Dialect:
        if version not in self._versions:
            raise KeyError(version)
        return _dialect(version)

    def __iter__(self) -> Iterator[int]:
        return iter(self._versions)

    def __len__(self) -> int:
        return len(self._versions)


@functools.cache
def _dialect(version: int) -> Dialect:
    module = importlib.import_module(f".v{version}.dialect", __package__)
    return Dialect(module.VERSION, module.METHODS, module.encode, module.decode)


DIALECTS: Final[Mapping[int, Dialect]] = _Dialects(1, 2)
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
