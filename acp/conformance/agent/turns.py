"""Checks of turns: what a prompt may hold, what is told of it, cancelling."""

from __future__ import annotations

import base64
import zlib
from typing import NoReturn

from ..side import Message, Skipped
from ..walking import Json, Object, obj
from .check import AgentCheck, check
from .conversation import Conversation, update_of, updates
from .editor import allowed

HOLD = 0.3
"""Seconds that are listened for what is not to come."""
SHORT = 1.0
"""Seconds that a turn takes, at most, of which none can say that it was over before it was cancelled."""
SAID = ("agent_message_chunk", "agent_message")


def _image() -> str:
    """One white pixel, as PNG and base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = chunk(b"IHDR", (1).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0]))
    body = chunk(b"IDAT", zlib.compress(b"\x00\xff\xff\xff")) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + head + body).decode()


def _sound() -> str:
    """A hundredth of a second of silence, as WAV and base64."""
    samples = bytes(160)
    form = (
        (16).to_bytes(4, "little") + b"\x01\x00\x01\x00" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little")
    )
    body = b"WAVEfmt " + form + b"\x02\x00\x10\x00" + b"data" + len(samples).to_bytes(4, "little") + samples
    return base64.b64encode(b"RIFF" + len(body).to_bytes(4, "little") + body).decode()


CONTENT: dict[str, Object] = {
    "image": {"type": "image", "data": _image(), "mimeType": "image/png"},
    "audio": {"type": "audio", "data": _sound(), "mimeType": "audio/wav"},
    "embeddedContext": {"type": "resource", "resource": {"uri": "file:///acp-check.txt", "text": "acp-check"}},
}
"""Prompt capability → a piece of content that needs it."""


async def tour(talk: Conversation) -> None:
    """A turn that ends by itself, then an error and more calls, so that what comes late is seen."""
    await talk.turn()
    if talk.can("list"):
        await talk.call("session/list", {})
    await talk.alive()
    await talk.session()


async def takes_content(talk: Conversation) -> None:
    """Every kind of content that was announced is taken."""
    gate = "promptCapabilities" if talk.version == 1 else "session.prompt"
    kinds = [kind for kind in CONTENT if talk.announced(f"{gate}.{kind}")]
    if not kinds:
        raise Skipped("the agent announces no kind of content")
    for kind in kinds:
        text = {"type": "text", "text": talk.settings.prompt("say")}
        await talk.end_of_turn(await talk.prompt_with([text, CONTENT[kind]]))


async def takes_links(talk: Conversation) -> None:
    text = {"type": "text", "text": talk.settings.prompt("say")}
    link = {"type": "resource_link", "name": "acp-check.txt", "uri": "file:///acp-check.txt"}
    await talk.end_of_turn(await talk.prompt_with([text, link]))


# What version 2 tells of a turn --------------------------------------------------------------------------------


async def inserted(talk: Conversation) -> None:
    """The answer to a prompt says under which id it is in the conversation, and it is told under that id."""
    before = len(talk.heard)
    id = await talk.prompt()
    answer = await talk.answer(id)
    if "error" in answer:
        talk.fail(f"the prompt was answered with {answer['error']}")
    message: Json = obj(answer["result"]).get("messageId")
    if not isinstance(message, str) or not message:
        talk.fail(f"the prompt was answered with the message id {message!r}")
    await talk.idle()
    told = [update.get("messageId") for update in updates(talk.heard[before:], "user_message", "user_message_chunk")]
    if message not in told:
        talk.fail(f"the prompt has the id {message!r}, and the messages of the user that were told have {told}")


async def states(talk: Conversation) -> None:
    """Running comes before anything that is said, idle after it all."""
    messages = await talk.turn()
    kinds = [str(update_of(message).get("sessionUpdate")) for message in messages]
    told = [update.get("state") for update in updates(messages, "state_update")]
    said = [n for n, kind in enumerate(kinds) if kind in SAID]
    busy = [n for n, m in enumerate(messages) if update_of(m).get("state") in ("running", "requires_action")]
    if not busy:
        talk.fail(f"the turn began without the running state; its states are {told}")
    if said and said[0] < busy[0]:
        talk.fail(f"something was said before the running state; the states are {told}")


async def gives_reason(talk: Conversation) -> None:
    if not (end := await talk.idle(await talk.prompt())).get("stopReason"):
        talk.fail(f"the turn ended without a reason: {end}")


async def waits(talk: Conversation) -> None:
    """While the agent waits for the user its state says so."""
    talk.editor.permit = allowed
    before = len(talk.heard)
    request = await talk.asked_for("session/request_permission", "ask")
    await talk.listen(HOLD)
    waiting = [update.get("state") for update in updates(talk.heard[before:], "state_update")]
    await talk.serve(request)
    await talk.idle()
    if waiting[-1:] != ["requires_action"]:
        talk.fail(f"the agent waits for a permission, and the states that it told are {waiting}")


# Cancelling ----------------------------------------------------------------------------------------------------


async def cancels(talk: Conversation) -> None:
    id = await talk.begun("cancel")
    await talk.cancel()
    reason = await talk.end_of_turn(id)
    if reason != "cancelled":
        await blame_unless_soon_over(talk, f"the cancelled turn ended with {reason}")
    await talk.session()
    await talk.listen(HOLD)


async def blame_unless_soon_over(talk: Conversation, words: str) -> NoReturn:
    """A turn was cancelled and ended as if it had not been. Fails the check, or skips it where such turns are short.

    The turn may have ended by itself while the cancelling was under way, which tells nothing.
    """
    await talk.session()
    before = len(talk.heard)
    id = await talk.begun("cancel")
    await talk.listen(SHORT)
    if talk.has_answered(id) or any(update_of(message).get("state") == "idle" for message in talk.heard[before:]):
        raise Skipped(f"nothing to judge: the cancel prompt's turn is over by itself within {SHORT:g} s")
    talk.fail(words)


async def cancels_asking(talk: Conversation) -> None:
    """A turn that waits for a permission is cancelled while it waits."""
    request = await talk.asked_for("session/request_permission", "ask")
    await talk.cancel()
    await talk.answer_with(request, {"outcome": {"outcome": "cancelled"}})
    reason = await talk.end_of_turn(talk.variables["turn"])
    if reason != "cancelled":
        talk.fail(f"the cancelled turn ended with {reason}")


async def cancels_request(talk: Conversation) -> None:
    """A request that is to be given up is answered, though it need not be given up: then the turn's end answers it."""
    id = await talk.prompt("cancel")
    await talk.send({"method": "$/cancel_request", "params": {"requestId": id}})
    await talk.listen(HOLD)
    await talk.cancel()
    answer = await talk.answer(id)
    if "error" in answer and answer["error"].get("code") != -32800:
        talk.fail(f"the cancelled request was answered with {answer['error']}")
    await talk.alive()


async def heeds_cancelling(talk: Conversation) -> None:
    """A prompt that is given up ends its turn."""
    id = await talk.prompt("cancel")
    await talk.send({"method": "$/cancel_request", "params": {"requestId": id}})
    answer = await talk.answer(id)
    if "result" in answer and (reason := obj(answer["result"]).get("stopReason")) != "cancelled":
        raise Skipped(f"nothing to judge: the turn of the cancel prompt ended by itself, with {reason}")


async def cancels_nested(talk: Conversation) -> None:
    """What was asked on behalf of work that is given up is given up too: a permission, in version 2 a form."""
    method, prompt = ("session/request_permission", "ask") if talk.version == 1 else ("elicitation/create", "form")
    request = await talk.asked_for(method, prompt)
    if talk.version == 1:
        await talk.send({"method": "$/cancel_request", "params": {"requestId": talk.variables["turn"]}})
    else:
        await talk.cancel()

    def given_up(message: Message) -> bool:
        return (
            message.get("method") == "$/cancel_request" and obj(message.get("params")).get("requestId") == request["id"]
        )

    await talk.until(given_up, f"cancelling of {method}")
    await talk.refuse(request, -32800, "Cancelled")
    if talk.version == 2:
        await talk.idle()
        return
    answer = await talk.answer(talk.variables["turn"])
    if "error" in answer and answer["error"].get("code") != -32800:
        talk.fail(f"the cancelled request was answered with {answer['error']}")


async def keeps_its_own(talk: Conversation) -> None:
    """A client cannot give up what the agent asked."""
    talk.editor.permit = allowed
    request = await talk.asked_for("session/request_permission", "ask")
    await talk.send({"method": "$/cancel_request", "params": {"requestId": request["id"]}})
    await talk.alive()
    await talk.serve(request)
    reason = await talk.end_of_turn(talk.variables["turn"])
    if reason == "cancelled":
        talk.fail("cancelling the agent's own request cancelled the turn")


def _tour(prompt: str, title: str, duties: str = "102 106") -> AgentCheck:
    """A turn with a client that can do all there is and allows everything; what it shows is watched."""

    async def run(talk: Conversation) -> None:
        talk.editor.permit = allowed
        await talk.turn(prompt)
        await talk.listen(HOLD)

    return check(f"tour.{prompt}", title, duties, run, rich=True)


V1, V2 = (1,), (2,)
CHECKS = (
    check("turn.tour", "A turn runs to its end", "100 102 106", tour),
    _tour("ask", "A turn that asks for a permission ends"),
    _tour("read", "A turn that reads a file ends"),
    _tour("edit", "A turn that writes a file ends"),
    _tour("run", "A turn that runs a command ends"),
    _tour("plan", "A turn that makes a plan ends"),
    _tour("background", "A turn that leaves work behind ends"),
    _tour("delegate", "A turn with a subagent ends"),
    _tour("notify", "A turn that gives a notice ends"),
    check("prompt.link", "A link to a resource is taken", "100", takes_links),
    check("prompt.content", "The kinds of content that were announced are taken", "101", takes_content, "capability"),
    check("prompt.inserted", "A prompt is given an id, and told under it", "103 104 109", inserted, versions=V2),
    check("turn.states", "A turn begins with running and ends with idle", "106", states, versions=V2),
    check("turn.reason", "The idle state says why the turn ended", "106", gives_reason, "advisory", versions=V2),
    check("turn.waits", "Who waits for the user says so", "107", waits, "advisory", versions=V2, rich=True),
    check("turn.cancel", "A cancelled turn says so", "127 128 131", cancels),
    check("cancel.asking", "A turn that waits for a permission is cancelled", "127 128", cancels_asking),
    check("request.cancel", "A request that is given up is answered", "029", cancels_request),
    check(
        "request.heeded", "A prompt that is given up ends its turn", "030", heeds_cancelling, "advisory", versions=V1
    ),
    check("cancel.nested", "What was asked is given up with the work", "030", cancels_nested, "advisory", rich=True),
    check("cancel.own", "What the agent asked is its own", "031", keeps_its_own, versions=V2),
)
