"""Updates drawn at random, for the tests of both dialects."""

from __future__ import annotations

from hypothesis import strategies as st

from acp.updates import (
    UNSET,
    ActionRequired,
    Background,
    BlockContent,
    Changes,
    Choice,
    Command,
    Commands,
    Compaction,
    CompactionChunk,
    ConfigOption,
    ConfigOptions,
    ContextUsage,
    Diff,
    ExitStatus,
    FileChange,
    Location,
    Message,
    MessageChunk,
    Notice,
    OtherBlock,
    OtherContent,
    Plan,
    PlanEntry,
    PlanFile,
    PlanRemoved,
    PlanText,
    SessionInfo,
    SessionMessage,
    SessionMessageChunk,
    State,
    StateUnknown,
    Subagent,
    Terminal,
    TerminalChunk,
    TerminalRef,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContentChunk,
    TurnEnded,
    TurnStarted,
    Update,
    Work,
)

words = st.text(max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
json_objects = st.dictionaries(words, json_values, max_size=2)
extra = st.just({}) | st.fixed_dictionaries({"_meta": json_objects})
unknown_fields = st.just({}) | st.dictionaries(words.map(lambda name: f"x-{name}"), json_values, max_size=2)
meta = st.none() | st.dictionaries(words, json_values, max_size=2)
numbers = st.integers(0, 2**32 - 1)
blocks = st.builds(TextBlock, words, extra=extra) | st.builds(
    OtherBlock,
    st.fixed_dictionaries({"type": st.just("image"), "data": words, "mimeType": words})
    | st.fixed_dictionaries({"type": st.just("hologram"), "depth": json_values}),
)
contents = st.one_of(
    st.builds(BlockContent, blocks, extra=extra),
    st.builds(Diff, words, words, st.none() | words, extra=extra),
    st.builds(TerminalRef, words, extra=extra),
    st.builds(OtherContent, st.fixed_dictionaries({"type": st.just("chart"), "rows": json_values})),
)
locations = st.builds(Location, words, st.none() | numbers, extra=extra)
kinds = st.sampled_from(["read", "edit", "delete", "execute", "other"])
statuses = st.sampled_from(["pending", "in_progress", "completed", "failed"])
unset = st.just(UNSET)
raws = unset | json_values
lists_of = {
    "content": st.lists(contents, max_size=2).map(tuple),
    "locations": st.lists(locations, max_size=2).map(tuple),
}
calls = st.builds(
    ToolCall, words, words, kinds, statuses, lists_of["content"], lists_of["locations"], raws, raws,
    st.none() | words, unset, meta, unknown_fields,
)  # fmt: skip
optional = {"title": words, "kind": kinds, "status": statuses, "name": words, **lists_of}
call_updates = st.builds(
    ToolCallUpdate,
    words,
    raw_input=raws,
    raw_output=raws,
    meta=meta,
    extra=unknown_fields,
    **{name: unset | st.none() | values for name, values in optional.items()},
)
entries = st.builds(
    PlanEntry,
    words,
    st.sampled_from(["high", "medium", "low"]),
    st.sampled_from(["pending", "in_progress", "completed"]),
    extra=extra,
)
roles = st.sampled_from(["user", "agent", "thought"])


def patched(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """A field of a patch: left out, null or a value."""
    return unset | st.none() | values


several_blocks = st.lists(blocks, max_size=2).map(tuple)
named = st.text(min_size=1, max_size=6)
groups = st.none() | st.tuples(words, words)
choices = st.builds(Choice, words, words, st.none() | words, extra=extra)
grouped = st.builds(Choice, words, words, st.none() | words, st.just(("g", "G")), extra=extra)
options = st.one_of(
    st.builds(
        ConfigOption, words, words, words, st.lists(choices, min_size=1, max_size=2).map(tuple),
        st.none() | words, st.none() | words, extra=extra,
    ),
    st.builds(ConfigOption, words, words, words, st.lists(grouped, min_size=1, max_size=2).map(tuple), extra=extra),
    st.builds(ConfigOption, words, words, st.booleans(), extra=extra),
)  # fmt: skip
commands = st.builds(Command, words, words, st.none() | words, extra=extra)

both_versions: st.SearchStrategy[Update] = st.one_of(
    st.builds(ContextUsage, numbers, numbers, extra=extra),
    st.builds(Commands, st.lists(commands, max_size=2).map(tuple), extra=extra),
    st.builds(ConfigOptions, st.lists(options, max_size=2).map(tuple), extra=extra),
    st.builds(SessionInfo, patched(words), patched(words), extra=extra),
    st.builds(Notice, words, named, st.none() | words, extra=extra),
    st.builds(Compaction, words, words, patched(several_blocks), patched(words), extra=extra),
    st.builds(CompactionChunk, words, blocks, extra=extra),
    st.builds(PlanFile, words, words, extra=extra),
    st.builds(PlanText, words, words, extra=extra),
    st.builds(PlanRemoved, words, extra=extra),
    st.builds(SessionMessage, words, *[patched(words)] * 4, patched(several_blocks), extra=extra),
    st.builds(SessionMessageChunk, words, blocks, extra=extra),
)
"""What both say alike."""

changes = st.one_of(
    st.builds(FileChange, st.sampled_from(["add", "delete", "modify"]), named, extra=extra),
    st.builds(FileChange, st.sampled_from(["move", "copy"]), named, named, extra=extra),
    st.builds(FileChange, st.just("_warp"), extra=st.fixed_dictionaries({"depth": json_values})),
)
contents_v2 = st.one_of(
    st.builds(BlockContent, blocks, extra=extra),
    st.builds(Changes, st.lists(changes, max_size=2).map(tuple), st.none() | words, extra=extra),
    st.builds(TerminalRef, words, extra=extra),
    st.builds(OtherContent, st.fixed_dictionaries({"type": st.just("chart"), "rows": json_values})),
)
exits = st.builds(ExitStatus, st.none() | st.integers(0, 255), st.none() | words, extra=extra)
background = st.none() | st.lists(
    st.builds(Work, st.sampled_from(["terminal", "tool_call", "subagent"]), words, extra=extra)
    | st.builds(Work, st.just("_dream"), extra=st.fixed_dictionaries({"about": json_values})),
    max_size=2,
).map(tuple)
locations_v2 = st.builds(Location, words, st.none() | st.integers(1, 2**32 - 1), extra=extra)
"""Lines count from 1, and v2 says so in its schema."""
capabilities = unset | st.none() | st.fixed_dictionaries({}, optional={"cancel": st.just({}), "_meta": json_objects})
call_updates_v2 = st.builds(
    ToolCallUpdate,
    words,
    capabilities=capabilities,
    raw_input=raws,
    raw_output=raws,
    meta=meta,
    extra=unknown_fields,
    content=patched(st.lists(contents_v2, max_size=2).map(tuple)),
    locations=patched(st.lists(locations_v2, max_size=2).map(tuple)),
    status=patched(st.sampled_from(["pending", "paused", "cancelled", "failed", "_odd"])),
    **{name: patched(values) for name, values in optional.items() if name not in ("content", "locations", "status")},
)
reasons = st.none() | st.sampled_from(["end_turn", "cancelled", "_tired"])


def states(background: st.SearchStrategy[Background]) -> st.SearchStrategy[State]:
    """What a session does. Version 1 has no word for work in the background."""
    return st.one_of(
        st.builds(TurnStarted, background, extra=extra),
        st.builds(ActionRequired, background, extra=extra),
        st.builds(StateUnknown, background, extra=extra),
        st.builds(TurnEnded, reasons, st.just({}) | json_objects, background=background),
    )


def subagents(background: st.SearchStrategy[Background]) -> st.SearchStrategy[Update]:
    """Sessions of a session."""
    several = st.lists(words, max_size=2).map(tuple)
    return st.builds(
        Subagent, words, patched(words), patched(words), capabilities, patched(states(background)), patched(words),
        patched(several), extra,
    )  # fmt: skip


version_2: st.SearchStrategy[Update] = both_versions | st.one_of(
    st.builds(MessageChunk, roles, blocks, words, extra=extra),
    st.builds(Message, roles, words, patched(several_blocks), extra=extra),
    call_updates_v2,
    st.builds(ToolContentChunk, words, contents_v2, extra=extra),
    st.builds(Terminal, words, patched(words), patched(words), patched(words), patched(exits), capabilities, extra),
    st.builds(TerminalChunk, words, words, extra=extra),
    st.builds(Plan, st.lists(entries, max_size=2).map(tuple), words, extra=extra),
    states(background),
    subagents(background),
)
"""What v2 says and hears as the same."""
