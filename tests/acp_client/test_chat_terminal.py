"""`acp chat` as a user has it: keys in, a screen out, a real agent in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from announced import announced
from rich.text import Text
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input, Static, TextArea

from acp.elicitation import Choice, Field
from acp.updates import Command, OtherBlock, ToolCall
from acp_client.chat.app import Chat
from acp_client.chat.command import NEWEST, main, parse
from acp_client.chat.completion import blocks_of, completions, files_below, word_before
from acp_client.chat.dialogs import FormDialog
from acp_client.chat.entries import AnswerEntry, CallEntry, ThoughtEntry, UserEntry, call_text
from acp_client.host.elicitation import Accepted, Declined, Dismissed, FormRequest

pytestmark = pytest.mark.anyio
ENTER = ["enter"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # which Textual runs on


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("x = 1\n")
    return tmp_path


@asynccontextmanager
async def chatting(workspace: Path, *arguments: str) -> AsyncGenerator[tuple[Chat, Pilot[int]]]:
    """`acp chat` with the scripted agent, whose sessions are kept beside the workspace, or with one at a URL."""
    agent = f"{sys.executable} -m acp_server --backend scripted --sessions {workspace.parent / 'kept'}"
    target = () if "--url" in arguments else ("--agent", agent)
    chat = Chat(parse(["--cwd", str(workspace), *target, *arguments]))
    async with chat.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: "· Ask" in shown(chat, "#status"))
        yield chat, pilot


async def until(pilot: Pilot[int], holds: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not holds():
            await pilot.pause(0.02)


def shown(chat: App[int], where: str) -> str:
    """The text of every widget that a selector finds."""
    found = [widget for screen in chat.screen_stack for widget in screen.query(where).results(Static)]
    return "\n".join(str(widget.render()) for widget in found)


async def write(chat: Chat, pilot: Pilot[int], text: str) -> None:
    """Type a prompt and send it."""
    area = chat.screen.query_one(TextArea)
    area.text = text
    area.move_cursor(area.document.end)
    await pilot.press("enter")


async def test_a_turn_is_drawn_with_its_thought_its_plan_and_its_answer(workspace: Path) -> None:
    async with chatting(workspace) as (chat, pilot):
        await write(chat, pilot, "think of it\nplan\nsay # Title and [bold]no markup[/bold]")
        await until(pilot, lambda: "no markup" in shown(chat, "AnswerEntry MarkdownBlock"))
        assert "[bold]no markup[/bold]" in shown(chat, "AnswerEntry MarkdownBlock")
        assert "think of it" in shown(chat, "UserEntry")
        assert "☒ look" in shown(chat, "PlanEntry")
        assert chat.screen.query_one(ThoughtEntry).title == "Thought: of it"


@pytest.mark.parametrize(("key", "content"), [("y", "x = 2\n"), ("n", "x = 1\n"), ("q", "x = 1\n")])
async def test_an_edit_is_shown_whole_and_made_only_when_it_is_allowed(workspace: Path, key: str, content: str) -> None:
    async with chatting(workspace) as (chat, pilot):
        await write(chat, pilot, "read a.py\nedit a.py 'x = 1' 'x = 2'")
        await until(pilot, lambda: "+x = 2" in shown(chat, "PermissionDialog Static"))
        await until(pilot, lambda: "waits for you" in shown(chat, "#status"))
        await pilot.press(key)
        end = "cancelled" if key == "q" else "Done."
        await until(pilot, lambda: end in shown(chat, "#transcript Static"))
        assert (workspace / "a.py").read_text() == content
        assert chat.screen.query_one("CallEntry.failed, CallEntry.completed", CallEntry)


@pytest.mark.parametrize("way", ["ws", "http"])
async def test_an_agent_may_be_on_the_network(workspace: Path, way: str) -> None:
    serve = [sys.executable, "-m", "acp", "serve", f"--{way}", "127.0.0.1:0", "--backend", "scripted"]
    async with announced(*serve, "--sessions", "none") as server:
        async with chatting(workspace, "--url", server.url) as (chat, pilot):
            await write(chat, pilot, "write b.txt hello\nsay from afar")
            await until(pilot, lambda: "waits for you" in shown(chat, "#status"))
            await pilot.press("y")
            await until(pilot, lambda: "from afar" in shown(chat, "AnswerEntry MarkdownBlock"))
    assert (workspace / "b.txt").read_text() == "hello"


async def test_escape_stops_the_turn_and_what_was_to_follow(workspace: Path) -> None:
    async with chatting(workspace) as (chat, pilot):
        await write(chat, pilot, "slow")
        await until(pilot, lambda: "1 2" in shown(chat, "AnswerEntry MarkdownBlock"))
        await write(chat, pilot, "say never said")
        await until(pilot, lambda: "1 to follow" in shown(chat, "#status"))
        await pilot.press("escape")
        await until(pilot, lambda: "The turn ended: cancelled" in shown(chat, "LineEntry"))
        await write(chat, pilot, "say but this")
        await until(pilot, lambda: "but this" in shown(chat, "AnswerEntry MarkdownBlock"))
        assert "never said" not in shown(chat, "UserEntry")


async def test_an_agent_that_dies_takes_no_draft_along_and_its_session_goes_on_with_another(workspace: Path) -> None:
    async with chatting(workspace) as (chat, pilot):
        await write(chat, pilot, "say remember me")
        await until(pilot, lambda: "remember me" in shown(chat, "AnswerEntry MarkdownBlock"))
        await until(pilot, lambda: "works" not in shown(chat, "#status"))
        client = chat._client
        assert client is not None
        os.killpg(client._transport.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        await until(pilot, lambda: "Ctrl-R" in shown(chat, "#status"))
        assert "signal 9" in shown(chat, "LineEntry")
        await write(chat, pilot, "say a draft")
        await until(pilot, lambda: chat.screen.query_one(TextArea).text == "say a draft")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: chat._client is not None and not chat._status.words)
        await until(pilot, lambda: len(chat.screen.query(UserEntry)) == 1)
        await until(pilot, lambda: "remember me" in shown(chat, "AnswerEntry MarkdownBlock"))
        await pilot.press("enter")
        await until(pilot, lambda: "a draft" in shown(chat, "AnswerEntry MarkdownBlock"))


async def test_a_session_is_gone_on_with_and_another_begun(workspace: Path) -> None:
    async with chatting(workspace) as (chat, pilot):
        await write(chat, pilot, "say the first")
        await until(pilot, lambda: "the first" in shown(chat, "AnswerEntry MarkdownBlock"))
    async with chatting(workspace, "--resume") as (chat, pilot):
        await until(pilot, lambda: "the first" in shown(chat, "AnswerEntry MarkdownBlock"))
        await pilot.press("ctrl+n")
        await until(pilot, lambda: not chat.screen.query(AnswerEntry))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "SessionsDialog" in type(chat.screen).__name__)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "the first" in shown(chat, "AnswerEntry MarkdownBlock"))


async def test_an_option_is_chosen_and_the_agent_goes_by_it(workspace: Path) -> None:
    async with chatting(workspace) as (chat, pilot):
        assert "Ask" in shown(chat, "#status")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: "OptionsDialog" in type(chat.screen).__name__)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "Accept edits" in shown(chat, "#status"))
        await write(chat, pilot, "read a.py\nedit a.py 'x = 1' 'x = 2'")
        await until(pilot, lambda: "Done." in shown(chat, "AnswerEntry MarkdownBlock"))
        assert (workspace / "a.py").read_text() == "x = 2\n"


async def test_prompts_are_gone_back_through_and_words_completed(workspace: Path) -> None:
    async with chatting(workspace) as (chat, pilot):
        area = chat.screen.query_one(TextArea)
        await write(chat, pilot, "say one")
        await write(chat, pilot, "say two")
        await pilot.press(*"new")
        await pilot.press("up", "up")
        assert area.text == "say one"
        await pilot.press("down", "down")
        assert area.text == "new"
        await until(pilot, lambda: bool(chat._files))
        await pilot.press("space", "@", "a")
        await until(pilot, lambda: "@a.py" in shown(chat, "#hints"))
        await pilot.press("tab")
        assert area.text == "new @a.py "


# Pieces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "word"),
    [("/he", "/he"), ("say /he", ""), ("look at @src/a", "@src/a"), ("@", "@"), ("a b", ""), ("mail me@home", "")],
)
def test_a_word_is_completed_where_it_can_be(text: str, word: str) -> None:
    assert word_before(text) == word


def test_files_are_found_by_name_first_and_commands_by_their_beginning() -> None:
    files = ["src/other/app.py", "app.py", "docs/mapping.md", "x.txt"]
    assert [found.word for found in completions("@app", [], files)] == [
        "@app.py",
        "@src/other/app.py",
        "@docs/mapping.md",
    ]
    commands = [Command("compact", "make room"), Command("cost", "what it cost"), Command("help", "")]
    assert [found.word for found in completions("/co", commands, files)] == ["/compact", "/cost"]


def test_a_prompt_links_to_the_files_that_it_names(workspace: Path) -> None:
    text = "Fix @a.py, then @a.py and @nothing.py"
    first, *links = blocks_of(text, str(workspace))
    uri = (workspace / "a.py").as_uri()
    assert links == [OtherBlock({"type": "resource_link", "uri": uri, "name": "a.py"})]
    assert first.text == text  # type: ignore[union-attr]


def test_a_workspace_without_git_is_listed_too(workspace: Path) -> None:
    (workspace / "sub").mkdir()
    (workspace / "sub" / "b.py").touch()
    (workspace / ".hidden").mkdir()
    (workspace / ".hidden" / "c.py").touch()
    assert sorted(files_below(str(workspace))) == ["a.py", "sub/b.py"]


def test_what_an_agent_says_of_a_call_cannot_move_the_cursor() -> None:
    from acp.updates import BlockContent, TextBlock

    call = ToolCall("c", "t", content=(BlockContent(TextBlock("a\x1b[2Jb\u202ec")),))
    text = call_text(call, {})
    assert isinstance(text, Text)
    assert text.plain == "a\\x1b[2Jb\\u202ec"


class FormApp(App[object]):
    def __init__(self, request: FormRequest) -> None:
        super().__init__()
        self.answers: list[object] = []
        self._request = request

    def on_mount(self) -> None:
        self.push_screen(FormDialog(self._request), self.answers.append)


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["7", "enter", "2", "enter"], Accepted({"count": 7, "colour": "blue"})),
        (["x", "enter", "2", "enter", "backspace", "8", "enter", "enter"], Accepted({"count": 8, "colour": "blue"})),
        (["ctrl+n"], Declined()),
        (["escape"], Dismissed()),
    ],
)
async def test_a_form_is_filled_in_corrected_declined_and_left(keys: list[str], answer: object) -> None:
    colours = (Choice("red"), Choice("blue"))
    fields = (Field("count", "integer", required=True), Field("colour", "string", choices=colours))
    app = FormApp(FormRequest("How many?", fields))
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        assert app.screen.query(Input)
        await pilot.press(*keys)
        await pilot.pause()
        assert app.answers == [answer]


def test_without_a_terminal_it_says_what_to_use_instead(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cwd", str(workspace)]) == 2
    assert "acp exec" in capsys.readouterr().err


def test_the_newest_session_is_meant_when_none_is_named(workspace: Path) -> None:
    assert parse(["--cwd", str(workspace), "--resume"]).resume == NEWEST
    assert parse(["--cwd", str(workspace), "--resume", "s1"]).resume == "s1"
    assert parse(["--cwd", str(workspace)]).resume is None
