"""A wire method, as data.

The generated modules `acp.v1.schema` and `acp.v2.schema` list theirs in `METHODS`; `Connection.call` and
`Handlers.on` take one and know from it the types of params and result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

P = TypeVar("P")
R = TypeVar("R")

Side = Literal["agent", "client", "both", "proxy"]
"""Who *receives* the method: the schema's `x-side`."""


@dataclass(frozen=True, slots=True)
class Method(Generic[P, R]):
    """One method of the protocol. A notification has `result` None.

    `needs` is the dotted capability path (of the receiving side) that opens the method, None for the baseline.
    `stable` is False for what only the unstable schema has.
    """

    name: str
    side: Side
    params: type[P]
    result: type[R] | None = None
    needs: str | None = None
    stable: bool = True

    @property
    def is_notification(self) -> bool:
        return self.result is None
