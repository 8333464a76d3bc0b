"""An agent's requests for the user's input, from the wire to the user and back."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from acp.elicitation import Field
from acp.errors import LocalProtocolError
from acp.links import BadLink
from acp.v1 import schema as v1
from acp.v2 import schema as v2
from acp_client.host.elicitation import (
    Accepted,
    Answer,
    Declined,
    Dismissed,
    FormRequest,
    Request,
    UrlRequest,
    answered,
)

pytestmark = pytest.mark.anyio

FORM: dict[str, Any] = {
    "sessionId": "s1",
    "mode": "form",
    "message": "What shall it be called?",
    "requestedSchema": {
        "type": "object",
        "title": "Names",
        "properties": {"name": {"type": "string", "maxLength": 5}, "count": {"type": "integer", "default": 2}},
        "required": ["name"],
    },
}
PAGE: dict[str, Any] = {
    "requestId": 7,
    "mode": "url",
    "message": "Log in",
    "elicitationId": "e1",
    "url": "https://a.example/login",
}
CANCEL = {"action": "cancel"}


class User:
    """Gives one answer, and remembers what was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        return self._answer


async def ask(raw: dict[str, Any], answer: Answer) -> tuple[list[Request], Any]:
    """What the user is asked and what the agent hears; the same in both versions."""
    heard: list[tuple[list[Request], Any]] = []
    for models in (v1, v2):
        user = User(answer)
        params = models.CreateElicitationRequest.decode(raw)
        result = models.CreateElicitationResponse.decode(await answered(user, params.encode(), agent="Laguna"))
        heard.append((user.asked, result.encode()))
    assert heard[0] == heard[1]
    return heard[0]


async def test_a_form_reaches_the_user_and_what_they_enter_the_agent() -> None:
    asked, heard = await ask(FORM, Accepted({"name": "cave", "count": 3}))
    fields = (Field("name", "string", required=True, most=5), Field("count", "integer", default=2))
    request = FormRequest("What shall it be called?", fields, "Names", agent="Laguna", session_id="s1")
    assert asked == [request]
    assert request.defaults == {"count": 2}
    assert heard == {"action": "accept", "content": {"name": "cave", "count": 3}}


async def test_a_page_reaches_the_user_with_its_host_and_consent_is_all_that_the_agent_hears() -> None:
    asked, heard = await ask(PAGE, Accepted({"secret": "hunter2"}))
    assert asked == [UrlRequest("Log in", "https://a.example/login", "e1", agent="Laguna")]
    assert isinstance(asked[0], UrlRequest)
    assert (asked[0].link.host, asked[0].link.warnings) == ("a.example", ())
    assert heard == {"action": "accept"}


async def test_no_and_no_answer_are_two_things() -> None:
    for raw in (FORM, PAGE):
        assert (await ask(raw, Declined()))[1] == {"action": "decline"}
        assert (await ask(raw, Dismissed()))[1] == CANCEL


async def test_what_may_not_be_shown_is_not(caplog: pytest.LogCaptureFixture) -> None:
    properties = FORM["requestedSchema"]["properties"]
    unknown = {"type": "object", "properties": {**properties, "when": {"type": "_date"}}}
    for raw in (
        {**FORM, "requestedSchema": unknown},
        {**FORM, "requestedSchema": {"type": "object", "properties": properties, "required": ["other"]}},
        {**FORM, "mode": "_voice"},
        {**PAGE, "url": "http://a.example/login"},
        {**PAGE, "url": "https://me:hunter2@a.example/login"},
    ):
        with caplog.at_level(logging.WARNING):
            assert await ask(raw, Accepted({"name": "cave"})) == ([], CANCEL)
    assert caplog.text.count("was dismissed") == 10
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("content", [{}, {"name": "too long"}, {"name": 1}, {"name": "ok", "count": "2"}], ids=repr)
async def test_an_answer_that_does_not_fit_the_form_never_leaves(content: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match=r"does not fit the form: (name|count)"):
        await answered(User(Accepted(content)), FORM)


async def test_the_page_that_is_opened_is_the_one_that_is_shown() -> None:
    asked, _ = await ask({**PAGE, "url": "https://\uff41.example/"}, Declined())
    assert isinstance(asked[0], UrlRequest)
    assert asked[0].url == asked[0].link.url == "https://a.example/"
    with pytest.raises(BadLink):
        _ = UrlRequest("Log in", "http://a.example", "e1").link
