"""Where the model is, as the client may say it (`providers/list`, `set` and `disable`, unstable)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Provider:
    """A place that a model can be had from. Without an `api_type` and a `base_url` it is disabled.

    `supported` are the kinds of interface that it can be told to be, `openai` say; one that is `required` cannot be
    disabled. What is secret of it, its headers, is told to nobody.
    """

    id: str
    supported: tuple[str, ...]
    required: bool = False
    api_type: str | None = None
    base_url: str | None = None


class Providers(Protocol):
    """An agent's part. It says -32602 (`RequestError`) to what it does not have or cannot be."""

    @property
    def providers(self) -> Sequence[Provider]: ...

    async def set_provider(self, id: str, api_type: str, base_url: str, headers: Mapping[str, str]) -> None:
        """Replace all that was said of a provider. Steps of the model that run end where they began."""
        ...

    async def disable_provider(self, id: str) -> None:
        """Have nothing from it any more; one that is disabled already stays so."""
        ...
