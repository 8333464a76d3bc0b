"""Checks of a session's configuration options and of its modes."""

from __future__ import annotations

from collections.abc import Callable

from ..side import Message, Skipped
from ..walking import Json, Object, obj, objects
from .check import check
from .conversation import Conversation, update_of
from .turns import HOLD, V1
from .values import choices


def _options(talk: Conversation) -> list[Object]:
    rows = objects(talk.variables["opened"].get("configOptions"))
    if not rows:
        raise Skipped("nothing to judge: the session has no options")
    return rows


def _id(talk: Conversation, option: Object) -> str:
    return str(option.get("id" if talk.version == 1 else "configId"))


async def _set(talk: Conversation, option: Object, value: Json) -> Message:
    tag = {"type": "boolean"} if isinstance(value, bool) else {"type": "id"} if talk.version == 2 else {}
    params = {"sessionId": talk.variables["session"], "configId": _id(talk, option), "value": value, **tag}
    return await talk.answer(await talk.ask("session/set_config_option", params))


async def sets_options(talk: Conversation) -> None:
    """Setting an option to what it is answers with all options; setting it to another choice shows that."""
    rows = _options(talk)
    for option in rows:
        answer = await _set(talk, option, option["currentValue"])
        if "error" in answer:
            talk.fail(f"setting {_id(talk, option)} to what it is was answered with {answer['error']}")
        told = {_id(talk, row) for row in objects(answer["result"].get("configOptions"))}
        if missing := {_id(talk, row) for row in rows} - told:
            talk.fail(f"setting {_id(talk, option)} was answered without {sorted(missing)}")
    for option in rows:
        others = [row["value"] for row in choices(option) if row["value"] != option["currentValue"]]
        if option.get("type") == "select" and others:
            answer = await _set(talk, option, others[0])
            told = {
                _id(talk, row): row.get("currentValue")
                for row in objects(obj(answer.get("result")).get("configOptions"))
            }
            if told.get(_id(talk, option)) != others[0]:
                talk.fail(f"setting {_id(talk, option)} to {others[0]!r} was answered with {answer}")
            return


async def refuses_values(talk: Conversation) -> None:
    """A value that is none of the choices is refused, and nothing has changed."""
    rows = [row for row in _options(talk) if row.get("type") == "select"]
    if not rows:
        raise Skipped("nothing to judge: the session has no select")
    option = rows[0]
    answer = await _set(talk, option, "acp-check-no-such-value")
    if obj(answer.get("error")).get("code") != -32602:
        talk.fail(f"a value that is no choice was answered with {answer}, not with -32602")
    told = objects(obj((await _set(talk, option, option["currentValue"]))["result"]).get("configOptions"))
    if [row.get("currentValue") for row in told if _id(talk, row) == _id(talk, option)] != [option["currentValue"]]:
        talk.fail("a value that was refused was set all the same")


async def keeps_modes_in_step(talk: Conversation) -> None:
    """Who has modes and an option of that category changes both, whichever is set."""
    opened: Object = talk.variables["opened"]
    modes = [str(row["id"]) for row in objects(obj(opened.get("modes")).get("availableModes"))]
    rows = [row for row in objects(opened.get("configOptions")) if row.get("category") == "mode"]
    if len(modes) < 2 or not rows:
        raise Skipped("nothing to judge: the session has no two modes, or no option for them")
    option, now = rows[0], str(obj(opened["modes"])["currentModeId"])
    if option.get("currentValue") != now:
        talk.fail(f"the mode is {now!r} and the option {option.get('currentValue')!r}")
    other = next(mode for mode in modes if mode != now)
    before = len(talk.heard)
    await talk.call("session/set_mode", {"sessionId": talk.variables["session"], "modeId": other})
    if (value := await _now(talk, before, lambda shown: _value(talk, option, shown))) != other:
        talk.fail(f"the mode was set to {other!r}, and the option is {value!r}")
    before = len(talk.heard)
    await _set(talk, option, now)
    if (mode := await _now(talk, before, _mode)) != now:
        talk.fail(f"the option was set to {now!r}, and the mode is {mode!r}")


async def _now(talk: Conversation, before: int, seen: Callable[[Object], Json]) -> Json:
    """What is seen of something in the updates since, or else in the session when it is opened again."""
    await talk.listen(HOLD)
    told = [value for message in talk.heard[before:] if (value := seen(update_of(message))) is not None]
    if told:
        return told[-1]
    for name in ("load", "resume"):
        if talk.can(name):
            params: Object = {"sessionId": talk.variables["session"], "cwd": talk.cwd, "mcpServers": []}
            answer = await talk.answer(await talk.ask(f"session/{name}", params))
            if (value := seen(obj(answer.get("result")))) is not None:
                return value
    raise Skipped("nothing to judge: no update tells of it, and the session is not opened again with it")


def _mode(shown: Object) -> Json:
    return shown.get("currentModeId") or obj(shown.get("modes")).get("currentModeId")


def _value(talk: Conversation, option: Object, shown: Object) -> Json:
    rows = objects(shown.get("configOptions"))
    return next((row.get("currentValue") for row in rows if _id(talk, row) == _id(talk, option)), None)


CHECKS = (
    check("config.set", "Setting an option answers with all", "152", sets_options),
    check("config.value", "A value that is no choice is refused", "153", refuses_values),
    check("modes.step", "Modes and their option keep in step", "155", keeps_modes_in_step, versions=V1),
)
