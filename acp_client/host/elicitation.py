"""What an agent asks the user for, outside of the conversation: a form, or a visit to a page.

Of no version: both say `elicitation/create` alike, and `answered` takes and gives it as JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from acp.elicitation import Field, Value, defaults, parse_schema, problems
from acp.errors import LocalProtocolError
from acp.json_text import Json
from acp.links import Link, parse_link

log = logging.getLogger("acp")


@dataclass(frozen=True, slots=True)
class FormRequest:
    """The agent asks for values. `agent` is what it calls itself, and must be shown with the question.

    What is filled in goes to the agent and its model: a form is no place for secrets.
    """

    message: str
    fields: tuple[Field, ...]
    title: str = ""
    description: str = ""
    agent: str = ""
    session_id: str | None = None

    @property
    def defaults(self) -> dict[str, Value]:
        """What to fill in before the user does."""
        return defaults(self.fields)


@dataclass(frozen=True, slots=True)
class UrlRequest:
    """The agent asks the user to visit a page, in a browser of their own.

    Before anything is fetched, `url` must be shown whole, with its `host` and `warnings`, and the user must agree.
    """

    message: str
    url: str
    elicitation_id: str
    agent: str = ""
    session_id: str | None = None

    @property
    def link(self) -> Link:
        """What there is to say of the address. Raises BadLink, never for a request that came from an agent."""
        return parse_link(self.url)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The user filled in the form, and fields left out are not in `content`; or agreed to visit the page."""

    content: Mapping[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True, slots=True)
class Declined:
    """The user said no."""


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The user did not answer, or there was nobody to ask."""


Request = FormRequest | UrlRequest
Answer = Accepted | Declined | Dismissed
Elicit = Callable[[Request], Awaitable[Answer]]
"""Puts a request to the user. It is cancelled when the turn is, and when the agent withdraws the request."""


class UnknownRequest(ValueError):
    """The request is not one that we know all of."""


def parse_request(raw: Mapping[str, Json], *, agent: str = "") -> Request:
    """The request that valid params of `elicitation/create` make.

    Raises UnknownRequest, UnknownForm or BadLink (ValueErrors all) for one that may not be shown.
    """
    message, session_id = raw["message"], raw.get("sessionId")
    match raw.get("mode"):
        case "form":
            schema = raw["requestedSchema"]
            title, description = (_text(schema.get(key)) for key in ("title", "description"))
            return FormRequest(message, parse_schema(schema), title, description, agent, session_id)
        case "url":
            return UrlRequest(message, parse_link(raw["url"]).url, raw["elicitationId"], agent, session_id)
        case mode:
            raise UnknownRequest(f"its mode is {mode!r}")


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


async def answered(elicit: Elicit, raw: Mapping[str, Json], *, agent: str = "") -> dict[str, Json]:
    """The result of `elicitation/create`, from its params, both as JSON.

    A request that may not be shown is answered `cancel` and never reaches `elicit`. Raises LocalProtocolError when
    `elicit` gives what the form does not allow: the agent never sees it.
    """
    try:
        request = parse_request(raw, agent=agent)
    except ValueError as error:
        log.warning("a request for the user's input was dismissed: %s", error)
        return {"action": "cancel"}
    answer = await elicit(request)
    match request, answer:
        case FormRequest(), Accepted(content):
            if wrong := problems(request.fields, content):
                raise LocalProtocolError(f"the answer does not fit the form: {'; '.join(wrong)}")
            return {"action": "accept", "content": dict(content)}
        case UrlRequest(), Accepted():
            return {"action": "accept"}
        case _, Declined():
            return {"action": "decline"}
        case _:
            return {"action": "cancel"}
