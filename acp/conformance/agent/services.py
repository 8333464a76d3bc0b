"""Checks of what an agent asks its client for, and of calls that are cancelled one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..side import Skipped
from ..walking import Object, obj, there
from .check import AgentCheck, check
from .conversation import Conversation, updates
from .editor import allowed, closed, declined, filled, never_offered, of_tomorrow, rejected, unheard_of
from .turns import HOLD, V1, V2

OVER = ("completed", "failed", "cancelled")


# Permissions ---------------------------------------------------------------------------------------------------


def _answered(
    outcome: Callable[[Object], Object], *, permits: bool = False, sound: bool = True
) -> Callable[[Conversation], Awaitable[None]]:
    """A check in which every permission is answered so; what was not permitted is not done.

    An answer that makes no sense (not `sound`) may fail the whole turn, which permits nothing either.
    """

    async def run(talk: Conversation) -> None:
        talk.editor.permit = outcome
        request = await talk.asked_for("session/request_permission", "ask")
        params = obj(request["params"])
        call = obj(params.get("toolCall") or obj(params.get("subject")).get("toolCall")).get("toolCallId")
        call = call or obj(params.get("subject")).get("toolCallId")
        before = len(talk.heard)
        await talk.serve(request)
        if sound:
            await talk.end_of_turn(talk.variables["turn"])
        else:
            await talk.turn_over(talk.variables["turn"])
        told = updates(talk.heard[before:], "tool_call_update")
        done = [row for row in told if row.get("toolCallId") == call and row.get("status") == "completed"]
        if done and not permits:
            talk.fail(f"the permission was answered with {outcome(params)}, and the call was completed")

    return run


# Forms ---------------------------------------------------------------------------------------------------------


async def copes(talk: Conversation) -> None:
    """Whatever the user does with a form, the turn ends."""
    for answer in (declined, closed, filled):
        talk.editor.fill = answer
        request = await talk.asked_for("elicitation/create", "form")
        await talk.serve(request)
        await talk.end_of_turn(talk.variables["turn"])


async def copes_with_tomorrow(talk: Conversation) -> None:
    """What a later version may answer counts as a form that was closed."""
    talk.editor.fill = unheard_of
    request = await talk.asked_for("elicitation/create", "form")
    await talk.serve(request)
    await talk.end_of_turn(talk.variables["turn"])


async def does_without(talk: Conversation) -> None:
    """A client that shows no forms gets its turn all the same."""
    await talk.turn("form")


async def visits(talk: Conversation) -> None:
    talk.editor.fill = filled
    request = await talk.asked_for("elicitation/create", "visit")
    await talk.serve(request)
    await talk.end_of_turn(talk.variables["turn"])
    await talk.listen(HOLD)


# Files and terminals -------------------------------------------------------------------------------------------


async def works_bare(talk: Conversation) -> None:
    """With a client that has neither files nor terminals the turn goes on without them."""
    talk.editor.permit = allowed
    for prompt in ("read", "edit", "run"):
        await talk.turn(prompt)


async def releases(talk: Conversation) -> None:
    """Every terminal that was created is released, at the latest when the turn is over."""
    talk.editor.permit = allowed
    await talk.turn("run")
    if not [method for method, _ in talk.editor.asked if method == "terminal/create"]:
        raise Skipped("nothing to judge: the run prompt brought no terminal/create")
    await talk.listen(HOLD)
    if talk.editor.terminals:
        talk.fail(f"the turn is over, and these terminals were not released: {sorted(talk.editor.terminals)}")


# One by one ----------------------------------------------------------------------------------------------------


async def cancels_no_call(talk: Conversation) -> None:
    session = talk.variables["session"]
    for method, name in (("tool_call/cancel", "toolCallId"), ("terminal/cancel", "terminalId")):
        await talk.refused(method, {"sessionId": session, name: "acp-check-none"}, -32602)


async def cancels_call(talk: Conversation) -> None:
    """A call or terminal that says that it can be cancelled is, an update says so, and then it cannot be again."""
    talk.editor.permit = allowed
    id = await talk.prompt("background")

    def able(message: Object) -> bool:
        update = obj(obj(message.get("params")).get("update"))
        over = "error" in message and message.get("id") == id and "method" not in message
        return there(update, "capabilities.cancel") or update.get("state") == "idle" or over

    heard = len(talk.heard)
    while True:
        message = next(filter(able, talk.heard[heard:]), None) or await talk.until(able, "call that can be cancelled")
        heard = talk.heard.index(message, heard) + 1
        found = obj(obj(message.get("params")).get("update"))
        if not there(found, "capabilities.cancel"):
            raise Skipped("nothing to judge: the background prompt brought no call that can be cancelled")
        if await _cancelled(talk, found):
            return


async def _cancelled(talk: Conversation, found: Object) -> bool:
    """Cancel a call or terminal; False if it ended by itself while we asked, which tells nothing."""
    name = "terminalId" if "terminalId" in found else "toolCallId"
    method = "terminal/cancel" if name == "terminalId" else "tool_call/cancel"
    params = {"sessionId": talk.variables["session"], name: found[name]}

    def ended(message: Object) -> bool:
        update = obj(obj(message.get("params")).get("update"))
        return update.get(name) == found[name] and bool(update.get("exitStatus") or update.get("status") in OVER)

    seen = len(talk.heard)
    answer = await talk.answer(await talk.ask(method, params))
    over = any(ended(message) for message in talk.heard[seen:])
    if "error" in answer:
        if over and obj(answer["error"]).get("code") == -32602:
            return False
        talk.fail(f"{method} was answered with {answer['error']}")
    if not over:
        await talk.until(ended, f"end of {found[name]!r}")
    await talk.refused(method, params, -32602)
    return True


def _permission(id: str, title: str, outcome: Callable[[Object], Object], duties: str, **more: bool) -> AgentCheck:
    return check(f"permission.{id}", title, duties, _answered(outcome, **more), rich=True)


CAPABILITY = "capability"
CHECKS = (
    _permission("allowed", "What is permitted goes on", allowed, "134", permits=True),
    _permission("rejected", "What is rejected is not done", rejected, "135"),
    _permission("other", "An option that was not offered permits nothing", never_offered, "135", sound=False),
    _permission("tomorrow", "An outcome of tomorrow permits nothing", of_tomorrow, "135", sound=False),
    check("form.answers", "Whatever is done with a form, the turn ends", "149", copes, CAPABILITY, rich=True),
    check("form.tomorrow", "An action of tomorrow closes a form", "149", copes_with_tomorrow, CAPABILITY, rich=True),
    check("form.bare", "Without forms there is a turn too", "143", does_without),
    check("form.visit", "A turn that has the user visit an address ends", "146 148", visits, CAPABILITY, rich=True),
    check("bare.works", "Without files and terminals there is a turn too", "041 138", works_bare),
    check("terminal.release", "Terminals are released", "141", releases, versions=V1, rich=True),
    check("call.none", "Cancelling a call that is not there is refused", "119", cancels_no_call, versions=V2),
    check("call.cancel", "A call that can be cancelled is", "119", cancels_call, versions=V2, rich=True),
)
