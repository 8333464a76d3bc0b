"""The turn loop against the scripted model, with tools made for the occasion."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from acp.errors import ConnectionClosed, RequestError
from acp.updates import (
    UNSET,
    BlockContent,
    ContextUsage,
    Diff,
    MessageChunk,
    Plan,
    PlanEntry,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    Update,
)
from acp_server.action import Action, Outcome, Permission, Report, ToolProblem
from acp_server.model import (
    Assistant,
    Message,
    ModelError,
    ModelInfo,
    Part,
    Sampling,
    Stop,
    System,
    Text,
    Thought,
    TooLong,
    ToolResult,
    ToolSpec,
    ToolUse,
    Usage,
    User,
)
from acp_server.permissions import Option, Permissions
from acp_server.scripted import Cue, ScriptedBackend
from acp_server.turn.conversation import FAILED, INTERRUPTED, Conversation
from acp_server.turn.parts import Parts
from acp_server.turn.turn import PromptTooLong, Turn, TurnFailed, check_room

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


Run = Callable[[Report], Awaitable[Outcome]]


async def _ok(report: Report) -> Outcome:
    return Outcome("ok")


class Workbench:
    """Tools that do what the test says: `read` (reads only), `edit` (asks), `shell` (asks), `todo_action`."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.prepared: list[str] = []

    @property
    def specs(self) -> Sequence[ToolSpec]:
        return [ToolSpec(name, name, {"type": "object"}) for name in ("read", "edit", "shell", "todo_action")]

    async def prepare(self, name: str, arguments: Mapping[str, Any]) -> Action:
        self.prepared.append(name)
        run = self.runs.get(name, _ok)
        diff = (Diff("/ws/a.py", "new", "old"),)
        match name:
            case "read":
                return Action(f"Read {arguments.get('path')}", "read", run, reads_only=True)
            case "edit":
                permission = Permission("edit", "/ws", "Always allow edits in /ws")
                return Action("Edit a.py", "edit", run, permission, content=diff)
            case "shell":
                return Action("`x`", "execute", run, Permission("execute", "x"))
            case "todo_action":
                return Action("Plan", "think", run, plan=(PlanEntry("look"),))
            case _:
                raise ToolProblem(f"unknown tool {name}; the tools are read, edit, shell, todo_action")


class Rig:
    """A turn's surroundings: what was emitted, what was asked, what is answered."""

    def __init__(self, steps: Sequence[Sequence[Cue]] | None, *, context: int = 32768) -> None:
        self.model = ScriptedBackend(steps, info=ModelInfo("scripted", context))
        self.tools = Workbench()
        self.permissions = Permissions()
        self.conversation = Conversation("You are a test.")
        self.updates: list[Update] = []
        self.asked: list[ToolCall] = []
        self.answer: Callable[[ToolCall], Awaitable[str | None]] | None = None
        self.turn: Turn
        self.ended = anyio.Event()

    async def emit(self, update: Update) -> None:
        await anyio.lowlevel.checkpoint()
        self.updates.append(update)

    async def ask(self, call: ToolCall, options: Sequence[Option]) -> str | None:
        self.asked.append(call)
        return await self.answer(call) if self.answer else "allow_once"

    @asynccontextmanager
    async def ready(self, max_steps: int = 100) -> AsyncGenerator[Turn, None]:
        async with anyio.create_task_group() as group:
            info = await self.model.ready()
            parts = Parts(
                self.conversation,
                self.model,
                info,
                self.tools,
                self.permissions,
                self.emit,
                self.ask,
                group,
                max_steps=max_steps,
            )
            self.turn = Turn(parts, "t1")
            yield self.turn
            group.cancel_scope.cancel()

    async def take(self, prompt: str = "go", **kwargs: Any) -> str:
        failure: Exception | None = None
        async with self.ready(**kwargs) as turn:
            try:
                return await turn.run(prompt)
            except Exception as error:  # to be raised bare, outside the task group
                failure = error
        assert failure is not None
        raise failure

    def story(self) -> list[str]:
        """The updates in a few words each; chunks of one message are joined."""
        told: list[str] = []
        for update in self.updates:
            match update:
                case MessageChunk(role, TextBlock(text), id):
                    head = f"{role} {id}: "
                    if told and told[-1].startswith(head):
                        told[-1] += text
                    else:
                        told.append(head + text)
                case ToolCall(id=id, title=title, status=status):
                    told.append(f"{id} {status} {title}")
                case ToolCallUpdate(id=id, status=status):
                    told.append(f"{id} {'progress' if status is UNSET else status}")
                case ContextUsage():
                    pass
                case _:
                    told.append(type(update).__name__)
        return told

    def results(self) -> list[str]:
        return [m.text for m in self.conversation.messages if isinstance(m, ToolResult)]


async def test_text_and_thought_are_separate_messages_with_stable_ids() -> None:
    rig = Rig([[Thought("hm "), Thought("well"), Text("a "), Text("b"), Thought("oh"), Text("c")]])
    assert await rig.take() == "end_turn"
    assert rig.story() == [
        "thought t1.m.1: hm well",
        "agent t1.m.2: a b",
        "thought t1.m.3: oh",
        "agent t1.m.4: c",
    ]
    assert rig.conversation.messages[-1] == Assistant("a bc", "hm welloh")


async def test_chunks_are_joined_when_they_come_fast_and_none_is_lost() -> None:
    rig = Rig([[Text(f"{n} ") for n in range(500)]])
    await rig.take()
    chunks = [u for u in rig.updates if isinstance(u, MessageChunk)]
    assert rig.story() == ["agent t1.m.1: " + "".join(f"{n} " for n in range(500))]
    assert len(chunks) < 100
    assert chunks[0].content == TextBlock("0 ")  # the first at once


async def test_pending_text_is_sent_while_the_model_is_silent() -> None:
    spoken = anyio.Event()
    rig = Rig([[Text("a "), Text("b "), Text("c"), spoken.wait]])

    async with rig.ready() as turn, anyio.create_task_group() as group:
        group.start_soon(turn.run, "go")
        with anyio.fail_after(60):
            while "".join(rig.story()) != "agent t1.m.1: a b c":
                await anyio.lowlevel.checkpoint()
        spoken.set()


async def test_a_read_is_pending_then_in_progress_then_completed() -> None:
    rig = Rig([[Text("Let me see."), ToolUse("c1", "read", {"path": "a.py"})], [Text("Seen.")]])
    assert await rig.take() == "end_turn"
    assert rig.story() == [
        "agent t1.m.1: Let me see.",
        "t1.1 pending Read a.py",
        "t1.1 in_progress",
        "t1.1 completed",
        "agent t1.m.2: Seen.",
    ]
    assert rig.asked == []
    assert rig.conversation.messages == [
        User("go"),
        Assistant("Let me see.", tool_uses=(ToolUse("c1", "read", {"path": "a.py"}),)),
        ToolResult("c1", "read", "ok"),
        Assistant("Seen."),
    ]


async def test_an_edit_asks_with_all_that_was_announced_before_it_runs() -> None:
    use = ToolUse("c1", "edit", {"path": "a.py", "old_string": "old", "new_string": "new"})
    rig = Rig([[use], [Text("Done.")]])

    async def edit(report: Report) -> Outcome:
        assert rig.story()[-1] == "t1.1 in_progress"
        return Outcome("edited", (Diff("/ws/a.py", "new", "old"),), {"hunks": 1})

    rig.tools.runs["edit"] = edit
    await rig.take()
    announced = next(u for u in rig.updates if isinstance(u, ToolCall))
    assert rig.asked == [announced]
    assert (announced.title, announced.kind, announced.status) == ("Edit a.py", "edit", "pending")
    assert announced.raw_input == dict(use.arguments)
    assert announced.content == (Diff("/ws/a.py", "new", "old"),)
    last = [u for u in rig.updates if isinstance(u, ToolCallUpdate)][-1]
    assert (last.status, last.content, last.raw_output) == ("completed", announced.content, {"hunks": 1})


async def test_a_rejected_call_fails_without_running_and_the_model_is_told() -> None:
    rig = Rig([[ToolUse("c1", "shell", {"cmd": "x"})], [Text("All right.")]])
    rig.answer = _always("reject_once")
    assert await rig.take() == "end_turn"
    assert rig.story() == ["t1.1 pending `x`", "t1.1 failed", "agent t1.m.1: All right."]
    assert rig.results() == ["error: the user rejected this call"]


@pytest.mark.parametrize("option", ["", "allow_everything", "allow_always"])
async def test_an_option_that_was_not_offered_rejects(option: str) -> None:
    rig = Rig([[ToolUse("c1", "shell", {"cmd": "x"})]])
    rig.answer = _always(option)
    await rig.take()
    assert rig.results() == ["error: the user rejected this call"]


async def test_a_client_that_answers_with_an_error_rejects() -> None:
    async def refuse(call: ToolCall) -> str | None:
        raise RequestError.method_not_found("session/request_permission")

    rig = Rig([[ToolUse("c1", "shell", {"cmd": "x"})]])
    rig.answer = refuse
    assert await rig.take() == "end_turn"
    assert rig.results() == ["error: the user rejected this call"]


async def test_always_is_asked_once_for_its_key() -> None:
    rig = Rig([[ToolUse("c1", "edit"), ToolUse("c2", "edit")], [ToolUse("c3", "edit")]])
    rig.answer = _always("allow_always")
    await rig.take()
    assert len(rig.asked) == 1
    assert rig.results() == ["ok", "ok", "ok"]


async def test_a_permission_answered_with_cancelled_ends_the_turn_cancelled() -> None:
    rig = Rig([[ToolUse("c1", "shell"), ToolUse("c2", "read")], [Text("never said")]])
    rig.answer = _always(None)
    assert await rig.take() == "cancelled"
    assert rig.story() == ["t1.1 pending `x`", "t1.1 cancelled"]
    assert rig.results() == ["error: cancelled by the user"] * 2


async def test_reads_of_one_step_run_beside_each_other_at_most_four_and_results_keep_their_order() -> None:
    rig = Rig([[ToolUse(f"c{n}", "read", {"path": str(n)}) for n in range(6)], [Text("Done.")]])
    running, most, full = 0, 0, anyio.Event()
    turns = iter(range(6))

    async def read(report: Report) -> Outcome:
        nonlocal running, most
        number = next(turns)
        running += 1
        most = max(most, running)
        if running == 4:
            full.set()
        with anyio.fail_after(60):
            await full.wait()
        running -= 1
        return Outcome(f"result {number}")

    rig.tools.runs["read"] = read
    await rig.take()
    assert most == 4
    results = [m for m in rig.conversation.messages if isinstance(m, ToolResult)]
    assert [r.tool_use_id for r in results] == [f"c{n}" for n in range(6)]


async def test_an_edit_waits_for_the_reads_before_it() -> None:
    rig = Rig([[ToolUse("c1", "read"), ToolUse("c2", "edit"), ToolUse("c3", "read")], [Text("Done.")]])
    await rig.take()
    assert [line for line in rig.story() if line.startswith("t1")] == [
        "t1.1 pending Read None",
        "t1.1 in_progress",
        "t1.1 completed",
        "t1.2 pending Edit a.py",
        "t1.2 in_progress",
        "t1.2 completed",
        "t1.3 pending Read None",
        "t1.3 in_progress",
        "t1.3 completed",
    ]


async def test_a_plan_is_a_plan_and_no_tool_call() -> None:
    rig = Rig([[ToolUse("c1", "todo_action", {"todos": "[ ] look"})], [Text("Done.")]])
    await rig.take()
    assert rig.story() == ["Plan", "agent t1.m.1: Done."]
    assert Plan((PlanEntry("look"),)) in rig.updates
    assert rig.results() == ["ok"]


async def test_usage_is_reported_after_each_step_and_added_up() -> None:
    stops = [Stop("tool_use", Usage(100, 20, 5, 1), 0.5), Stop("end_turn", Usage(120, 100, 7, 2), 0.25)]
    rig = Rig([[ToolUse("c1", "read"), stops[0]], [Text("Done."), stops[1]]])
    await rig.take()
    assert [u for u in rig.updates if isinstance(u, ContextUsage)] == [
        ContextUsage(105, 32768),
        ContextUsage(127, 32768),
    ]
    assert rig.turn.spent.usage == Usage(220, 120, 12, 3)
    assert rig.turn.spent.seconds == 0.75


async def test_progress_of_a_running_tool_is_limited_and_its_last_state_is_shown() -> None:
    rig = Rig([[ToolUse("c1", "shell")], [Text("Done.")]])

    def text(n: int) -> tuple[BlockContent]:
        return (BlockContent(TextBlock(str(n))),)

    def shown() -> list[Any]:
        return [u.content for u in rig.updates if isinstance(u, ToolCallUpdate) and u.status is UNSET]

    async def shell(report: Report) -> Outcome:
        for n in range(1000):
            await report(text(n))
        with anyio.fail_after(60):
            while text(999) not in shown():
                await anyio.lowlevel.checkpoint()
        return Outcome("exit_code: 0", text(1000))

    rig.tools.runs["shell"] = shell
    await rig.take()
    assert len(shown()) < 50
    assert rig.story()[-2] == "t1.1 completed"


async def test_a_tool_that_breaks_fails_its_call_and_the_turn_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def read(report: Report) -> Outcome:
        raise RuntimeError("secret detail")

    rig = Rig([[ToolUse("c1", "read")], [Text("Done.")]])
    rig.tools.runs["read"] = read
    assert await rig.take() == "end_turn"
    assert rig.results() == ["error: read failed unexpectedly; the agent's log says why"]
    assert "secret detail" in caplog.text
    assert "t1.1 failed" in rig.story()


async def test_a_malformed_call_fails_and_the_model_is_told_what_is_wrong() -> None:
    rig = Rig([[ToolUse("c1", "read", {}, "missing </tool_call>")], [Text("Done.")]])
    await rig.take()
    assert rig.story() == ["t1.1 pending read", "t1.1 failed", "agent t1.m.1: Done."]
    assert rig.results() == ["error: missing </tool_call>"]
    assert rig.tools.prepared == []


async def test_three_malformed_calls_earn_one_reminder_and_three_more_end_the_turn() -> None:
    rig = Rig([[ToolUse(f"c{n}", "teleport", {"n": n})] for n in range(9)])
    assert await rig.take() == "max_turn_requests"
    assert sum(isinstance(m, System) for m in rig.conversation.messages) == 1
    assert len(rig.results()) == 6
    assert rig.story()[-1].startswith("agent t1.m.1: I stopped because")


async def test_the_same_call_with_the_same_result_is_noticed_even_when_it_alternates() -> None:
    rig = Rig([[ToolUse(f"c{n}", "read", {"path": "ab"[n % 2]})] for n in range(50)])
    assert await rig.take() == "max_turn_requests"
    assert sum(isinstance(m, System) for m in rig.conversation.messages) == 1
    assert len(rig.results()) == 18  # a read of "a" for the fifth time, twice over


async def test_a_turn_stops_after_its_steps_and_says_so() -> None:
    rig = Rig([[ToolUse(f"c{n}", "read", {"path": str(n)})] for n in range(50)])
    assert await rig.take(max_steps=7) == "max_turn_requests"
    assert len(rig.results()) == 7
    assert rig.story()[-1] == "agent t1.m.1: I stopped after 7 steps without finishing."


async def test_an_empty_answer_is_asked_for_again_once() -> None:
    rig = Rig([[Thought("hm")], [Text("Here.")]])
    assert await rig.take() == "end_turn"
    assert rig.story()[-1] == "agent t1.m.2: Here."


async def test_two_empty_answers_end_the_turn_with_a_visible_message() -> None:
    rig = Rig([[], []])
    assert await rig.take() == "end_turn"
    assert rig.story() == ["agent t1.m.1: The model gave no answer."]


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
async def test_the_models_own_stop_reason_is_the_turns(reason: Any) -> None:
    rig = Rig([[Text("Well,"), Stop(reason)]])
    assert await rig.take() == reason


async def test_a_model_error_is_shown_and_raised_and_the_prompt_is_forgotten() -> None:
    rig = Rig([[ModelError("out of memory")], [Text("Better.")]])
    with pytest.raises(TurnFailed, match="The model failed: out of memory"):
        await rig.take()
    assert rig.story() == ["agent t1.m.1: The model failed: out of memory"]
    assert rig.conversation.messages == []
    rig.updates.clear()
    assert await rig.take("again") == "end_turn"
    assert rig.conversation.messages == [User("again"), Assistant("Better.")]


async def test_a_model_that_breaks_mid_stream_keeps_what_it_said() -> None:
    rig = Rig([[Text("Half an ans"), RuntimeError("secret detail")]])
    with pytest.raises(TurnFailed) as failed:
        await rig.take()
    assert "secret detail" not in str(failed.value)
    assert rig.conversation.messages == [User("go"), Assistant(f"Half an ans\n{FAILED}")]


async def test_a_model_that_never_says_stop_fails_the_turn() -> None:
    class Silent(ScriptedBackend):
        async def generate(
            self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
        ) -> AsyncGenerator[Part, None]:
            yield Text("So")

    rig = Rig([])
    rig.model = Silent([])
    with pytest.raises(TurnFailed, match="stopped without saying why"):
        await rig.take()


async def test_a_prompt_larger_than_the_window_is_refused_and_the_session_is_intact() -> None:
    rig = Rig(None, context=2000)
    info = await rig.model.ready()
    with pytest.raises(PromptTooLong, match=r"about 2[0-9]{2},[0-9]{3} tokens"):
        check_room(rig.conversation, "x" * 1_000_000, info, rig.tools.specs)
    assert rig.conversation.messages == []
    assert await rig.take("say hello") == "end_turn"


async def test_a_window_smaller_than_it_was_said_to_be_is_found_out_once_in_a_turn() -> None:
    no = TooLong("too long")
    rig = Rig([[no], [Text("A summary.")], [Text("Done.")], [no], [no]], context=4000)
    for n in range(5):
        rig.conversation.begin(f"prompt {n} " + "x" * 1500)
        rig.conversation.append(Assistant("Done."))
    assert await rig.take("one") == "end_turn"
    first, _, second = rig.model.seen
    assert second[-1] == first[-1] == User("one")
    assert sum(len(m.text) for m in second) < 0.75 * sum(len(m.text) for m in first)
    assert rig.story() == ["Compaction", "CompactionChunk", "Compaction", "agent t1.m.1: Done."]
    with pytest.raises(TurnFailed, match="too long"):
        await rig.take("two")


async def test_a_turn_that_outgrows_the_window_ends_with_max_tokens() -> None:
    async def read(report: Report) -> Outcome:
        return Outcome("x" * 3000)

    uses = [ToolUse(f"c{n}", "read", {"path": str(n)}) for n in range(9)]
    rig = Rig([uses, [Text("never")]], context=2000)
    rig.tools.runs["read"] = read
    assert await rig.take() == "max_tokens"
    assert rig.story()[-1].startswith("agent t1.m.1: This conversation no longer fits")


# Cancellation -------------------------------------------------------------------------------------


async def _cancel_when(rig: Rig, happened: Callable[[], bool]) -> None:
    """Cancel the turn, which would never end, once something has happened; what lingers may go on when it has ended."""
    async with rig.ready() as turn:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cancel() -> None:
                    with anyio.fail_after(60):
                        while not happened():
                            await anyio.lowlevel.checkpoint()
                    scope.cancel()

                group.start_soon(cancel)
                await turn.run("go")
        assert scope.cancelled_caught
        rig.ended.set()


async def test_cancel_while_the_model_speaks_keeps_what_it_said_marked() -> None:
    rig = Rig([[Text("Half "), Text("an ans"), anyio.sleep_forever]])
    await _cancel_when(rig, lambda: bool(rig.turn._step and len(rig.turn._step.text) == 2))
    assert rig.story() == ["agent t1.m.1: Half an ans"]
    assert rig.conversation.messages == [User("go"), Assistant(f"Half an ans\n{INTERRUPTED}")]


async def test_cancel_does_not_wait_for_a_model_that_will_not_stop() -> None:
    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await rig.ended.wait()

    rig = Rig([[Text("Half"), stubborn]])
    await _cancel_when(rig, lambda: bool(rig.updates))


async def test_cancel_while_the_user_is_asked_abandons_the_question() -> None:
    abandoned: list[str] = []

    async def wait(call: ToolCall) -> str | None:
        try:
            await anyio.sleep_forever()
        finally:
            abandoned.append(call.id)
        return None

    rig = Rig([[ToolUse("c1", "edit"), ToolUse("c2", "shell")]])
    rig.answer = wait
    await _cancel_when(rig, lambda: bool(rig.asked))
    assert abandoned == ["t1.1"]
    assert rig.story() == ["t1.1 pending Edit a.py", "t1.1 cancelled"]
    assert rig.results() == ["error: cancelled by the user"] * 2


async def test_cancel_while_a_tool_runs_ends_every_call_once_and_keeps_finished_results() -> None:
    async def shell(report: Report) -> Outcome:
        with anyio.CancelScope(shield=True):  # a child that lingers
            await rig.ended.wait()
        return Outcome("exit_code: 0")

    rig = Rig([[ToolUse("c1", "read"), ToolUse("c2", "shell"), ToolUse("c3", "edit")]])
    rig.tools.runs["shell"] = shell
    await _cancel_when(rig, lambda: "t1.2 in_progress" in rig.story())
    assert rig.story() == [
        "t1.1 pending Read None",
        "t1.1 in_progress",
        "t1.1 completed",
        "t1.2 pending `x`",
        "t1.2 in_progress",
        "t1.2 cancelled",
    ]
    assert rig.results() == ["ok", "error: cancelled by the user", "error: cancelled by the user"]


async def test_a_call_that_ends_while_it_is_being_cancelled_ends_once_and_the_turn_goes_on() -> None:
    async def read(report: Report) -> Outcome:
        assert rig.turn.cancel_call("t1.1")
        return Outcome("ok")  # before the cancel takes hold

    rig = Rig([[ToolUse("c1", "read")], [Text("done")]])
    rig.tools.runs["read"] = read
    assert await rig.take() == "end_turn"
    assert [line for line in rig.story() if line.startswith("t1.1 c")] == ["t1.1 cancelled"]
    assert not rig.turn.cancel_call("t1.1")


async def test_a_call_may_be_cancelled_as_soon_as_it_is_said_to_run() -> None:
    async def shell(report: Report) -> Outcome:
        await anyio.sleep_forever()
        raise AssertionError

    rig = Rig([[ToolUse("c1", "shell")], [Text("done")]])
    rig.tools.runs["shell"] = shell
    emit = rig.emit

    async def told(update: Update) -> None:
        await emit(update)
        if isinstance(update, ToolCallUpdate) and update.status == "in_progress":
            assert rig.turn.cancel_call(update.id)
            assert not rig.turn.cancel_call(update.id)

    rig.emit = told
    assert await rig.take() == "end_turn"
    assert rig.story()[:3] == ["t1.1 pending `x`", "t1.1 in_progress", "t1.1 cancelled"]


async def test_a_client_that_goes_away_ends_the_turn_with_its_history_in_order() -> None:
    rig = Rig([[Text("a"), ToolUse("c1", "read")], [Text("never")]])
    emit = rig.emit

    async def failing(update: Update) -> None:
        if isinstance(update, ToolCallUpdate):
            raise ConnectionClosed
        await emit(update)

    rig.emit = failing
    with pytest.raises(ConnectionClosed):
        await rig.take()
    assert [type(m) for m in rig.conversation.messages] == [User, Assistant, ToolResult]


def _always(option: str | None) -> Callable[[ToolCall], Awaitable[str | None]]:
    async def answer(call: ToolCall) -> str | None:
        return option

    return answer
