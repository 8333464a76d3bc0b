"""Methods that the protocol may still change, and that are the same in both versions, on JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from acp.connection import Handlers
from acp.errors import RequestError
from acp.methods import Method
from acp.wire import Json, Wire

from .parts import told
from .prompt import Instructions

if TYPE_CHECKING:
    from .agent import Agent
    from .providers import Providers

LONGEST_INSTRUCTIONS = 64 * 1024
"""Characters of a system prompt."""


def add_drafts(handlers: Handlers, agent: Agent, methods: Mapping[str, Method[Any, Any]]) -> None:
    """Open what the agent has opened; `methods` are the version's by name."""
    if agent.opens("auth_status"):

        async def auth_status(request: Wire) -> Wire:
            return _answer(methods["auth/status"], auth_words(agent))

        handlers.on(methods["auth/status"], auth_status)
    if agent.opens("providers") and agent.providers is not None:
        _add_providers(handlers, agent.providers, methods)


def auth_words(agent: Agent) -> dict[str, Json]:
    """Who is logged in."""
    accounts = [dict(account) for account in agent.accounts]
    return {"state": agent.auth_state, **told(accounts=accounts or None)}


def _add_providers(handlers: Handlers, providers: Providers, methods: Mapping[str, Method[Any, Any]]) -> None:
    list_, set_, disable = (methods[f"providers/{name}"] for name in ("list", "set", "disable"))

    async def listed(request: Wire) -> Wire:
        rows: list[Json] = []
        for provider in providers.providers:
            row: dict[str, Json] = {
                "providerId": provider.id, "supported": [*provider.supported], "required": provider.required,
            }  # fmt: skip
            if provider.api_type is not None:
                row["current"] = {"apiType": provider.api_type, "baseUrl": provider.base_url}
            rows.append(row)
        return _answer(list_, {"providers": rows})

    async def replaced(request: Wire) -> Wire:
        said = request.encode()
        await providers.set_provider(said["providerId"], said["apiType"], said["baseUrl"], said.get("headers") or {})
        return _answer(set_, {})

    async def disabled(request: Wire) -> Wire:
        await providers.disable_provider(request.encode()["providerId"])
        return _answer(disable, {})

    handlers.on(list_, listed).on(set_, replaced).on(disable, disabled)


def _answer(method: Method[Any, Any], said: Json) -> Wire:
    assert method.result is not None
    return method.result.decode(said)


def instructions_of(agent: Agent, said: Wire | None) -> Instructions | None:
    """The `systemPrompt` of a request. Raises RequestError -32602 for what cannot be applied, which is not ignored."""
    if said is None:
        return None
    raw = said.encode()
    mode, blocks = raw["mode"], raw["content"]
    if not agent.opens("system_prompt"):
        raise RequestError.invalid_params("This agent takes no system prompt.", {"pointer": "/systemPrompt"})
    if mode not in ("append", "override"):
        data = {"pointer": "/systemPrompt/mode"}
        raise RequestError.invalid_params(f"A system prompt cannot be applied as {mode!r}.", data)
    if other := [block.get("type") for block in blocks if block.get("type") != "text"]:
        data = {"pointer": "/systemPrompt/content"}
        raise RequestError.invalid_params(f"A system prompt is text, and has no {other[0]}.", data)
    text = "\n".join(block["text"] for block in blocks)
    if not text.strip() or len(text) > LONGEST_INSTRUCTIONS:
        words = f"A system prompt has some text, and at most {LONGEST_INSTRUCTIONS} characters."
        raise RequestError.invalid_params(words, {"pointer": "/systemPrompt/content"})
    return Instructions(text, replaces=mode == "override")
