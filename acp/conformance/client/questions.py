"""Checks of what a client does when it is asked for input, and of addresses that it is shown."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Self

from jsonschema import Draft202012Validator

from ..walking import Json, Object, obj
from .part import Part
from .service import Service, absent, refused

FORMS = {"1": "elicitation.form", "2": "elicitation.form"}
VISITS = {"1": "elicitation.url", "2": "elicitation.url"}
PEEK, PEEKS = 0.05, 8
"""How long it is waited for a knock, and how often it is looked for one."""
FORM: Object = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Name", "minLength": 2, "maxLength": 9, "default": "check"},
        "count": {"type": "integer", "title": "Count", "minimum": 3, "maximum": 9, "default": 5},
        "really": {"type": "boolean", "title": "Really", "default": True},
        "colour": {"type": "string", "title": "Colour", "enum": ["red", "green"], "default": "green"},
    },
    "required": ["name", "count"],
}


def _form(part: Part, **more: Json) -> Object:
    scope = {"sessionId": part.variables["session"], "message": "Check the form"}
    return {"mode": "form", **scope, "requestedSchema": FORM, **more}


async def fills(part: Part) -> None:
    """What was entered fits the form."""
    result = obj(await part.call("elicitation/create", _form(part)))
    if result.get("action") != "accept":
        return
    found = Draft202012Validator(FORM).iter_errors(result.get("content"))  # pyright: ignore[reportUnknownMemberType]
    if wrong := [error.message for error in found]:
        part.fail(f"{result.get('content')} does not fit the form: {wrong[0]}")


async def unknown_forms(part: Part) -> None:
    """A way of asking of tomorrow, and a field of tomorrow's type: neither is filled in."""
    scope = {"sessionId": part.variables["session"], "message": "Check tomorrow's form"}
    field = {"type": "object", "properties": {"odd": {"type": "_check_type"}}, "required": ["odd"]}
    for params in ({"mode": "_check_mode", **scope}, {"mode": "form", "requestedSchema": field, **scope}):
        answer = await part.answer(await part.ask("elicitation/create", params))
        result = obj(answer.get("result"))
        if result.get("action") == "accept" and (params["mode"] != "form" or "odd" in obj(result.get("content"))):
            part.fail(f"a form of a kind that nobody knows was answered with {result}")


class Door:
    """A port of this machine, and whether somebody knocked."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def knocked(self) -> bool:
        with suppress(BlockingIOError):
            self._socket.accept()[0].close()
            return True
        return False


async def visits(part: Part) -> None:
    """Nobody goes to an address before the user has agreed to."""
    with Door() as door:
        params = {"mode": "url", "sessionId": part.variables["session"], "message": "Check the address"}
        id = await part.ask(
            "elicitation/create", {**params, "elicitationId": "check-visit", "url": f"https://{door.address}/check"}
        )
        for _ in range(PEEKS):
            await part.listen(PEEK)
            if door.knocked() and not part.has_answered(id):
                part.fail("the address was visited before the question was answered")
            if part.has_answered(id):
                break
        await part.send({"method": "$/cancel_request", "params": {"requestId": id}})
        await part.alive()


async def icons(part: Part) -> None:
    """An icon is loaded over HTTPS, or not at all."""
    with Door() as door:
        icon = {"src": f"http://{door.address}/check.png", "mimeType": "image/png"}
        link = {"type": "resource_link", "name": "check", "uri": "file:///tmp/check.txt", "icons": [icon]}
        await part.update(sessionUpdate="agent_message_chunk", messageId="check-icon", content=link)
        for _ in range(PEEKS):
            await part.listen(PEEK)
            if door.knocked():
                part.fail("an icon was asked for over plain HTTP")
        await part.alive()


async def no_forms(part: Part) -> None:
    await refused(part, "elicitation/create", _form(part))


QUESTIONS = (
    Service("elicit.unknown", "Forms of tomorrow stay empty", ("ACP-150",), unknown_forms, FORMS, versions=(1, 2)),
    Service("elicit.form", "What was entered fits the form", ("ACP-145",), fills, FORMS, versions=(1, 2)),
    Service("elicit.visit", "Addresses are not visited unasked", ("ACP-147",), visits, VISITS, versions=(1, 2)),
    absent("elicit.none", "Forms are not shown where that was not announced", FORMS, no_forms),
)
