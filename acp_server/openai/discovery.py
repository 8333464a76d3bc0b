"""Which models an endpoint has, and how much one of them can be shown: every server tells it in a place of its own."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..model import ModelError
from .exchange import Broken, Exchange, Refused
from .shapes import count, items, mapping, text
from .traits import Traits

log = logging.getLogger(__name__)

QUICK = 10.0
"""Seconds for a question that needs no model."""

LEAST_CONTEXT = 256
UNKNOWN_CONTEXT = 32_768
"""Tokens of context when nobody says."""

CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length", "loaded_context_length")
OURS = "acp-laguna"
"""The owner of the models that `laguna serve` lists."""

NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Found:
    """A model. `context` is in tokens; `bytes_per_token` is None where the endpoint does not tell it."""

    name: str
    context: int
    bytes_per_token: float | None = None


async def discover(exchange: Exchange, traits: Traits) -> Found:
    """Find the endpoint's model. Raises ModelError, Broken and Refused."""
    endpoint = exchange.endpoint
    models = await _models(exchange)
    name = endpoint.model or _only(models, endpoint.url)
    entry = models.get(name, {})
    traits.guards = entry.get("owned_by") == OURS
    if models and name not in models:
        log.warning("%s does not list a model %s; it has %s", endpoint.url, name, _listed(models))
    told = next((tokens for field in CONTEXT_FIELDS if (tokens := count(entry.get(field), LEAST_CONTEXT))), 0)
    if not told and (told := await _ollama(exchange, name)) and endpoint.thinking is None:
        traits.thinking = "effort"
    told = endpoint.context or told or await _llama_cpp(exchange) or await _sglang(exchange)
    if not told:
        words = "%s does not tell the context of %s; %d tokens are assumed (option context)"
        log.warning(words, endpoint.url, name, UNKNOWN_CONTEXT)
    ratio: Any = entry.get("bytes_per_token")
    known = isinstance(ratio, int | float) and 0.5 <= ratio <= 16
    return Found(name, told or UNKNOWN_CONTEXT, float(ratio) if known else None)


async def _models(exchange: Exchange) -> dict[str, Mapping[str, Any]]:
    """What the endpoint lists, by name; nothing where it has no list."""
    try:
        listed = await exchange.get(f"{exchange.endpoint.url}/models", QUICK)
    except Refused as refused:
        if refused.refusal.status in (401, 403):
            raise
        return {}
    entries = map(mapping, items(mapping(listed).get("data")))
    return {name: entry for entry in entries if (name := text(entry.get("id")))}


def _only(models: Mapping[str, Any], url: str) -> str:
    if len(models) == 1:
        return next(iter(models))
    if not models:
        raise ModelError(f"{url} does not list its models; name one (option model)")
    raise ModelError(f"{url} has several models; name one (option model): {_listed(models)}")


def _listed(names: Mapping[str, Any]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join([*sorted(names)[:NAMES_SHOWN], *([f"and {more} more"] if more > 0 else [])])


# Servers that do not say it in their list ---------------------------------------------------------------


async def _ask(exchange: Exchange, path: str, post: Mapping[str, Any] | None = None, seconds: float = QUICK) -> Any:
    """A document of the server's own; None where there is no such thing."""
    try:
        return await exchange.get(f"{exchange.endpoint.root}{path}", seconds, post=post)
    except (Refused, Broken) as problem:
        log.debug("%s%s: %s", exchange.endpoint.root, path, problem)
        return None


async def _llama_cpp(exchange: Exchange) -> int:
    settings = mapping(await _ask(exchange, "/props")).get("default_generation_settings")
    return count(mapping(settings).get("n_ctx"), LEAST_CONTEXT)


async def _sglang(exchange: Exchange) -> int:
    told = mapping(await _ask(exchange, "/get_server_info"))
    return count(told.get("context_length"), LEAST_CONTEXT) or count(told.get("max_total_num_tokens"), LEAST_CONTEXT)


async def _ollama(exchange: Exchange, name: str) -> int:
    """What Ollama has really reserved for the model, which is loaded for that: its default is far below what it can."""
    if not text(mapping(await _ask(exchange, "/api/version")).get("version")):
        return 0
    await _ask(exchange, "/api/generate", {"model": name}, exchange.endpoint.first)  # an empty prompt loads it
    for model in map(mapping, items(mapping(await _ask(exchange, "/api/ps")).get("models"))):
        called = text(model.get("name"))
        if name in (called, called.removesuffix(":latest")):
            return count(model.get("context_length"), LEAST_CONTEXT)
    parameters = text(mapping(await _ask(exchange, "/api/show", {"model": name})).get("parameters"))
    found = re.search(r"^num_ctx\s+(\d+)", parameters, re.MULTILINE)
    return count(int(found[1]), LEAST_CONTEXT) if found else 0
