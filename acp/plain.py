"""Updates that both versions say alike, as JSON: `say` gives the body of a `session/update`, `hear` is its inverse.

The versions' dialects use it for all but what they say most. Where they differ in a word only, `Spelling` has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from .activity import hear_session_message, hear_subagent, say_session_message, say_subagent
from .pieces import TAG, Object, body, hear_block, hear_blocks, rest, say_block, when_given
from .updates import (
    UNSET,
    Choice,
    Command,
    Commands,
    Compaction,
    CompactionChunk,
    ConfigOption,
    ConfigOptions,
    ContextUsage,
    Json,
    Notice,
    OtherOption,
    Plan,
    PlanEntry,
    PlanFile,
    PlanRemoved,
    PlanText,
    SessionInfo,
    SessionMessage,
    SessionMessageChunk,
    Subagent,
    Update,
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """A version's names for an option's id and a group's; `typed`: commands and what follows them have a `type`."""

    option: str
    group: str
    typed: bool


def say(update: Update, spelling: Spelling) -> Object | None:
    """The body that says `update`; None if the versions differ about it, or have no word."""
    match update:
        case Commands():
            commands = [_say_command(command, spelling) for command in update.commands]
            return body("available_commands_update", update.extra, availableCommands=commands)
        case ConfigOptions():
            options = [say_option(option, spelling) for option in update.options]
            return body("config_option_update", update.extra, configOptions=options)
        case SessionInfo():
            return body("session_info_update", update.extra, title=update.title, updatedAt=update.updated_at)
        case ContextUsage():
            return body("usage_update", update.extra, used=update.used, size=update.size)
        case Plan():
            entries = [
                {"content": e.content, "priority": e.priority, "status": e.status, **e.extra} for e in update.entries
            ]
            return body("plan_update", update.extra, plan={"type": "items", "planId": update.id, "entries": entries})
        case PlanFile(id, uri):
            return body("plan_update", update.extra, plan={"type": "file", "planId": id, "uri": uri})
        case PlanText(id, text):
            return body("plan_update", update.extra, plan={"type": "markdown", "planId": id, "content": text})
        case PlanRemoved():
            return body("plan_removed", update.extra, planId=update.id)
        case Subagent():
            return body("subagent_update", update.extra, **say_subagent(update))
        case SessionMessage():
            return body("session_message", update.extra, **say_session_message(update))
        case SessionMessageChunk(id, content):
            return body("session_message_chunk", update.extra, messageId=id, content=say_block(content))
        case Notice():
            description = UNSET if update.description is None else update.description
            fields = {"severity": update.severity, "title": update.title, "description": description}
            return body("notice", update.extra, **fields)
        case Compaction():
            summary = [say_block(b) for b in update.summary] if isinstance(update.summary, tuple) else update.summary
            fields = {"compactionId": update.id, "status": update.status, "summary": summary, "error": update.error}
            return body("compaction_update", update.extra, **fields)
        case CompactionChunk():
            content = say_block(update.content)
            return body("compaction_summary_chunk", update.extra, compactionId=update.id, content=content)
        case _:
            return None


def hear(raw: Mapping[str, Json], spelling: Spelling) -> Update | None:
    """The update that a valid body says; None if `say` never says it."""
    match raw.get(TAG):
        case "available_commands_update":
            commands = tuple(_hear_command(item, spelling) for item in raw["availableCommands"])
            return Commands(commands, extra=rest(raw, "availableCommands"))
        case "config_option_update":
            options = tuple(hear_option(item, spelling) for item in raw["configOptions"])
            return ConfigOptions(options, extra=rest(raw, "configOptions"))
        case "session_info_update":
            extra = rest(raw, "title", "updatedAt")
            return SessionInfo(raw.get("title", UNSET), raw.get("updatedAt", UNSET), extra=extra)
        case "usage_update":
            return ContextUsage(raw["used"], raw["size"], extra=rest(raw, "used", "size"))
        case "plan_update":
            return _hear_plan(raw)
        case "plan_removed":
            return PlanRemoved(raw["planId"], extra=rest(raw, "planId"))
        case "subagent_update":
            return hear_subagent(raw)
        case "session_message":
            return hear_session_message(raw)
        case "session_message_chunk":
            extra = rest(raw, "messageId", "content")
            return SessionMessageChunk(raw["messageId"], hear_block(raw["content"]), extra=extra)
        case "notice":
            extra = rest(raw, "severity", "title", *(("description",) if raw.get("description") is not None else ()))
            return Notice(raw["severity"], raw["title"], raw.get("description"), extra=extra)
        case "compaction_update":
            summary = when_given(raw, "summary", hear_blocks)
            extra = rest(raw, "compactionId", "status", "summary", "error")
            return Compaction(raw["compactionId"], raw["status"], summary, raw.get("error", UNSET), extra=extra)
        case "compaction_summary_chunk":
            extra = rest(raw, "compactionId", "content")
            return CompactionChunk(raw["compactionId"], hear_block(raw["content"]), extra=extra)
        case _:
            return None


# Plans -----------------------------------------------------------------------------------------------------------


def _hear_plan(raw: Mapping[str, Json]) -> Update | None:
    """None for a plan of a kind we do not know, or that has more to say than we have words for."""
    plan, extra = raw["plan"], rest(raw, "plan")
    match plan.get("type"):
        case "items" if plan.keys() == {"type", "planId", "entries"}:
            entries = tuple(
                PlanEntry(e["content"], e["priority"], e["status"], extra=rest(e, "content", "priority", "status"))
                for e in plan["entries"]
            )
            return Plan(entries, plan["planId"], extra=extra)
        case "file" if plan.keys() == {"type", "planId", "uri"}:
            return PlanFile(plan["planId"], plan["uri"], extra=extra)
        case "markdown" if plan.keys() == {"type", "planId", "content"}:
            return PlanText(plan["planId"], plan["content"], extra=extra)
        case _:
            return None


# Commands --------------------------------------------------------------------------------------------------------


def _say_command(command: Command, spelling: Spelling) -> Object:
    tag = {"type": "command"} if spelling.typed else {}
    said: Object = {**tag, "name": command.name, "description": command.description}
    if command.hint is not None:
        said["input"] = {**({"type": "text"} if spelling.typed else {}), "hint": command.hint}
    return said | dict(command.extra)


def _hear_command(raw: Mapping[str, Json], spelling: Spelling) -> Command:
    """A command of a kind we do not know has its `type` in `extra`, and so has input that is more than a hint."""
    spoken = ["name", "description"]
    if spelling.typed and raw.get("type") == "command":
        spoken.append("type")
    hint: str | None = None
    match raw.get("input"):
        case {"hint": str(text), **more} if more == ({"type": "text"} if spelling.typed else {}):
            hint, spoken = text, [*spoken, "input"]
        case _:
            pass
    return Command(raw["name"], raw["description"], hint, extra=rest(raw, *spoken))


# Options ---------------------------------------------------------------------------------------------------------


def say_option(option: ConfigOption | OtherOption, spelling: Spelling) -> Object:
    """A setting with its value."""
    if isinstance(option, OtherOption):
        return dict(option.raw)
    fields: Object = {spelling.option: option.id, "name": option.name}
    words = {"description": option.description, "category": option.category}
    fields |= {name: value for name, value in words.items() if value is not None}
    if isinstance(option.value, bool):
        return {"type": "boolean", **fields, "currentValue": option.value, **option.extra}
    choices = _say_choices(option.choices, spelling)
    return {"type": "select", **fields, "currentValue": option.value, "options": choices, **option.extra}


def hear_option(raw: Mapping[str, Json], spelling: Spelling) -> ConfigOption | OtherOption:
    """`OtherOption` for a kind we do not know, and where a group has more to say than its name."""
    if raw.get("type") not in ("select", "boolean"):
        return OtherOption(raw)
    words = ("description", "category")
    spoken = ("type", spelling.option, "name", "currentValue", "options", *(w for w in words if raw.get(w) is not None))
    option = ConfigOption(
        raw[spelling.option],
        raw["name"],
        raw["currentValue"],
        tuple(_hear_choices(raw.get("options", ()), spelling)),
        raw.get("description"),
        raw.get("category"),
        extra=rest(raw, *spoken),
    )
    return option if say_option(option, spelling) == raw else OtherOption(raw)


def _say_choices(choices: Iterable[Choice], spelling: Spelling) -> list[Object]:
    """The choices, those of one group together."""
    said: list[Object] = []
    for choice in choices:
        words = {} if choice.description is None else {"description": choice.description}
        item = {"value": choice.value, "name": choice.name, **words, **choice.extra}
        if choice.group is None:
            said.append(item)
            continue
        id, name = choice.group
        if not said or said[-1].get(spelling.group) != id:
            said.append({spelling.group: id, "name": name, "options": list[Object]()})
        said[-1]["options"].append(item)
    return said


def _hear_choices(items: Iterable[Mapping[str, Json]], spelling: Spelling) -> Iterable[Choice]:
    for item in items:
        group = (item[spelling.group], item["name"]) if "options" in item else None
        members = cast("list[Mapping[str, Json]]", item["options"]) if "options" in item else [item]
        for raw in members:
            extra = rest(raw, "value", "name", *(("description",) if raw.get("description") is not None else ()))
            yield Choice(raw["value"], raw["name"], raw.get("description"), group, extra=extra)
