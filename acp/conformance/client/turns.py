"""Checks of a client's turns: bytes, errors, questions, cancelling, and what it does when the agent dies."""

from __future__ import annotations

from contextlib import suppress

import anyio

from ..side import ALIVE, CheckFailed, Gone, Skipped
from ..walking import Json, obj
from .part import Part

BIG = 8 * 2**20  # characters of one message
HOLD = 0.3
"""Seconds that are listened for what is not to come."""
NOISE = 2**20  # bytes on stderr, more than any pipe holds


async def tour(part: Part) -> None:
    """A turn that ends by itself."""
    await part.say("Hello. ")
    await part.say("Good bye.")
    await part.end_turn()


# Bytes ---------------------------------------------------------------------------------------------------------


async def big(part: Part) -> None:
    await part.say("x" * BIG)
    await part.alive()


async def split(part: Part) -> None:
    """One character's bytes arrive one by one."""
    id = "ключ-é-語-😀"
    rest = part.encoded({"id": id, "method": ALIVE, "params": {}}) + b"\n"
    part.note(rest.strip(), part.us)
    with part.living():
        while rest:
            cut = next((n + 1 for n, byte in enumerate(rest) if byte >= 0x80), len(rest))
            await part.wire.write_apart(rest[:cut])
            rest = rest[cut:]
    await part.answer(id)


async def joined(part: Part) -> None:
    """Two messages in one piece."""
    ids = {"check-1", "check-2"}
    data = b"".join(part.encoded({"id": id, "method": ALIVE, "params": {}}) + b"\n" for id in sorted(ids))
    part.note(data.strip(), part.us)
    with part.living():
        await part.wire.write(data)
    while ids:
        ids.discard((await part.until(lambda m: m.get("id") in ids, "answer")).get("id"))


async def noise(part: Part) -> None:
    """An agent that logs much on stderr."""
    with anyio.move_on_after(part.patience), part.living():
        await part.wire.complain((b"a line of the agent's log" * 4 + b"\n") * (NOISE // 101))
        await part.alive()
        return
    part.fail(f"{NOISE} bytes on the agent's stderr were not read within {part.patience:g} s")


# Turns ---------------------------------------------------------------------------------------------------------


async def failing(part: Part) -> None:
    """The prompt is answered with an error."""
    await _failing(part, -32603, "The model is out")


async def _failing(part: Part, code: int, words: str) -> None:
    await part.refuse(await part.request("session/prompt"), code, words)
    try:
        await part.alive()
    except Gone:
        ended = part.player is not None and await part.player.ended(part.patience)
        if ended and part.player and (part.player.returncode or 0) < 0:
            part.fail(f"an error in answer to a prompt ended the client; {part.epitaph()}")


async def logged_out(part: Part) -> None:
    """The prompt is answered with -32000: the login is gone."""
    await _failing(part, -32000, "Authentication required")


async def unknown_state(part: Part) -> None:
    """A state of tomorrow is not the end of the turn."""
    await part.update(sessionUpdate="state_update", state="_check_state")
    took = "an unknown state was taken for the end of the turn"
    if await part.silence(HOLD, lambda m: m.get("method") in ("session/close", "session/prompt"), took):
        part.fail(f"{took}: the client has gone")
    await part.update(sessionUpdate="state_update", state="running")
    await part.end_turn()


async def permission(part: Part) -> None:
    result: Json = await part.call("session/request_permission", part.permission())
    outcome = obj(obj(result).get("outcome"))
    if outcome.get("outcome") == "cancelled":
        return
    if outcome.get("outcome") != "selected" or outcome.get("optionId") not in ("check-allow_once", "check-reject_once"):
        part.fail(f"the answer {result} is none of the options")


async def withdrawn(part: Part) -> None:
    """The agent withdraws its question. Who answers at once may have chosen before."""
    id = await part.ask("session/request_permission", part.permission("Wait for the user"))
    await part.send({"method": "$/cancel_request", "params": {"requestId": id}})
    answer = await part.answer(id)
    if "error" in answer:
        if part.version == 2 or obj(answer["error"]).get("code") != -32800:
            part.fail(f"the withdrawn question was answered with {answer['error']}")
        return
    outcome = obj(obj(answer["result"]).get("outcome")).get("outcome")
    if outcome == "selected":
        raise Skipped("the client answered at once")
    if outcome != "cancelled":
        part.fail(f"the withdrawn question was answered with {answer['result']}")


async def _cancelled(part: Part) -> None:
    """Have the client cancel its turn."""
    await part.alive()  # it is in the turn, and listens
    await part.say("Working.")
    if part.player and part.interrupts and not part.cancelled:
        part.player.interrupt()
    try:
        if not part.cancelled:
            await part.until(lambda m: part.cancelled, "session/cancel")
    except Gone:
        raise Skipped("the client ends when it is interrupted, without session/cancel") from None
    except CheckFailed:
        if part.player:
            raise
        raise Skipped("nobody cancelled the turn") from None


async def cancels(part: Part) -> None:
    """Open questions are answered `cancelled` when the client cancels."""
    id = await part.ask("session/request_permission", part.permission("Wait for the user"))
    await _cancelled(part)
    before = part.has_answered(id)
    answer = await part.answer(id)
    outcome = obj(obj(answer.get("result")).get("outcome")).get("outcome")
    with suppress(Gone):
        await part.end_turn("cancelled")
    if before and outcome == "selected":
        raise Skipped("the client answered at once")
    if outcome != "cancelled":
        part.fail(f"the turn was cancelled, and the open question was answered with {answer}")


async def late(part: Part) -> None:
    """What comes after the client has cancelled is taken."""
    await _cancelled(part)
    kind = "tool_call" if part.version == 1 else "tool_call_update"
    await part.update(sessionUpdate=kind, toolCallId="check-late", title="Late", status="in_progress")
    await part.update(sessionUpdate="tool_call_update", toolCallId="check-late", status="completed")
    await part.say("Late.")
    await part.alive()
    await part.end_turn("cancelled")


async def dies(part: Part) -> None:
    await part.wire.exit(7)
    await _left(part)


async def dies_early(part: Part) -> None:
    await part.greeting()
    await part.wire.exit(7)
    await _left(part)


async def _left(part: Part) -> None:
    if part.player is None:
        raise Skipped("nobody sees how the client ends")
    if not await part.player.ended(part.patience):
        part.fail(f"the agent has gone, and the client still runs {part.patience:g} s later")
