"""The application: connects, takes turns, asks the user. One agent and one session at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

import anyio
import anyio.to_thread
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType

from acp.errors import AcpError, ConnectionClosed, ErrorCode, RequestError
from acp.tasks import Bell, task_group
from acp.updates import Choice, ConfigOption

from ..cli.target import refused_options
from ..cli.visible import visible_line
from ..client import Client, connect
from ..host.elicitation import Accepted, Answer, Declined, Dismissed, FormRequest, Request
from ..host.host import Ask, Host, PermissionRequest, allow_all, allow_edits_or
from ..launch import CannotStart
from ..reconnect import ConnectionState
from ..session import Session
from ..snapshot import Snapshot
from .command import NEWEST, ChatOptions
from .completion import Completion, blocks_of, completions, files_below
from .composer import Composer
from .dialogs import Dialog, FormDialog, OptionsDialog, PageDialog, PermissionDialog, SessionsDialog, Stop
from .status import Status
from .transcript import Transcript

MOST_WAITING = 20
"""Prompts that may wait for their turn."""
MODE = "_mode"
"""The id under which version 1's modes stand among the options, for an agent that has no option for them."""


class Chat(App[int]):
    """`acp chat`."""

    CSS_PATH = "chat.tcss"
    TITLE = "acp chat"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop the turn", show=False),
        Binding("ctrl+o", "options", "Options", priority=True),
        Binding("ctrl+s", "sessions", "Sessions", priority=True),
        Binding("ctrl+n", "new", "New session", priority=True),
        Binding("ctrl+r", "restart", "Start the agent again", priority=True),
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def __init__(self, options: ChatOptions) -> None:
        super().__init__()
        self._options = options
        self._transcript, self._status = Transcript(), Status()
        self._composer = Composer(self._complete)
        self._files: Sequence[str] = ()
        self._client: Client | None = None
        self._session: Session | None = None
        self._resume = options.resume
        self._waiting: deque[str] = deque()
        self._written = Bell()
        self._one_at_a_time = anyio.Lock()
        self._asks = False

    def compose(self) -> ComposeResult:
        yield self._transcript
        yield self._composer
        yield self._status

    def on_mount(self) -> None:
        self._composer.focus_text()
        self.set_interval(0.1, self._draw_status)
        self.run_worker(self._list_files(), group="files")
        self._start()

    def _start(self) -> None:
        self.run_worker(self._live(), group="agent", exclusive=True)

    # With the agent ----------------------------------------------------------------------------------

    async def _live(self) -> None:
        """From the agent's start to its end, or ours."""
        target = self._options.target
        host = Host(ask=self._policy(), elicit=self._elicit, agent_terminals=True)
        self._status.words = "starting the agent …"
        try:
            async with connect(
                target.agent,
                host=host,
                headers=target.headers,
                insecure=target.insecure,
                version=self._options.version,
                on_state=self._network,
            ) as self._client:
                info = self._client.info
                self._status.agent = f"{info.title or info.name or 'agent'} {info.release}".strip()
                await self._follow(await self._opened(self._client))
                self._status.words = ""
                await self._take_turns()
        except RequestError as error:
            login = "The agent wants you to log in first: " if error.code == ErrorCode.AUTH_REQUIRED else ""
            await self._lost(f"{login}{error}")
        except (AcpError, CannotStart, OSError) as error:
            refused = refused_options(self._options.target, error) if isinstance(error, AcpError) else None
            await self._lost(refused or str(error))
        finally:
            self._client = None

    async def _opened(self, client: Client) -> Session:
        """The session to go on with, or a new one."""
        wanted, self._resume = self._resume, None
        if wanted == NEWEST:
            cards = await client.list_sessions(self._options.cwd)
            wanted = max(cards, key=lambda card: card.updated_at or "").id if cards else None
        if wanted is None:
            return await client.new_session(self._options.cwd)
        return await client.load_session(wanted, self._options.cwd)

    async def _follow(self, session: Session) -> None:
        self._session = session
        await self._transcript.follow(session)

    async def _lost(self, why: str) -> None:
        """The agent has gone; what the user has written stays."""
        self._client = None
        if self._waiting:
            self._composer.restore("\n".join(self._waiting))
            self._waiting.clear()
        if self._session is not None:
            self._resume = self._session.id
        self._status.words = "no agent; Ctrl-R starts it again"
        await self._transcript.say(why, error=True)

    def _network(self, state: ConnectionState) -> None:
        words = {"connected": "", "reconnecting": "the connection was lost; connecting again", "lost": "lost"}
        self._status.words = words[state.state]

    async def _take_turns(self) -> None:
        """Turns as the user asks for them, until the agent ends. Raises what ended it."""
        async with task_group(cancel_at_end=True) as group:
            assert self._client is not None
            group.start_soon(self._watch, self._client)
            while True:
                while not self._waiting:
                    await self._written.wait()
                await self._take_turn(self._waiting.popleft())

    async def _watch(self, client: Client) -> None:
        if isinstance(self._options.target.agent, str) and "://" in self._options.target.agent:
            return  # which is connected to again, and says when it is lost
        await client.connection.wait_closed()
        raise ConnectionClosed(client.connection.reason or "the agent has ended")

    async def _take_turn(self, text: str) -> None:
        session = self._session
        assert session is not None
        blocks = await anyio.to_thread.run_sync(blocks_of, text, self._options.cwd)
        try:
            async with session.prompt(text, attachments=blocks[1:]) as turn:
                async for _ in turn:
                    pass  # the transcript draws the snapshot
            if turn.stop_reason not in ("end_turn", None):
                await self._transcript.say(f"The turn ended: {turn.stop_reason}")
        except RequestError as error:
            await self._transcript.say(str(error), error=True)
        except ConnectionClosed:
            self._composer.restore(text)
            raise

    # Asking the user ---------------------------------------------------------------------------------

    def _policy(self) -> Ask:
        allow, is_own = self._options.allow, self._options.target.is_own
        if allow == "all":
            return allow_all
        return allow_edits_or(self._ask) if allow == "edits" and not is_own else self._ask

    async def _ask(self, request: PermissionRequest) -> str | None:
        answer = await self._put(PermissionDialog(request))
        if isinstance(answer, Stop):
            self.action_stop()
        return answer if isinstance(answer, str) else None

    async def _elicit(self, request: Request) -> Answer:
        answer = await self._put(FormDialog(request) if isinstance(request, FormRequest) else PageDialog(request))
        return answer if isinstance(answer, Accepted | Declined | Dismissed) else Dismissed()

    async def _put(self, dialog: Dialog) -> object:
        """Show a dialog, one at a time, until it is answered; withdrawn, it goes away."""
        async with self._one_at_a_time:
            answered, answers = anyio.Event(), list[object]()

            def take(answer: object) -> None:
                answers.append(answer)
                answered.set()

            await self.push_screen(dialog, take)
            self._asks = isinstance(dialog, PermissionDialog | FormDialog | PageDialog)
            try:
                await answered.wait()
            finally:
                self._asks = False
                if not answers and dialog in self.screen_stack:
                    with suppress(Exception):  # the application may be ending
                        dialog.dismiss(None)
            return answers[0]

    # What the user does ------------------------------------------------------------------------------

    async def on_composer_sent(self, message: Composer.Sent) -> None:
        if self._session is None or self._client is None:
            self._composer.restore(message.text)
        elif len(self._waiting) >= MOST_WAITING:
            self._composer.restore(message.text)
            self.bell()
        else:
            self._waiting.append(message.text)
            self._written.ring()

    def action_stop(self) -> None:
        """Cancel the turn, and what was to follow it."""
        self._waiting.clear()
        if self._session is not None:
            self.run_worker(self._session.cancel(), group="stop")

    def action_options(self) -> None:
        if self._session is not None:
            self.run_worker(self._choose_option(self._session), group="dialog", exclusive=True)

    def action_sessions(self) -> None:
        if self._client is not None:
            self.run_worker(self._choose_session(self._client), group="dialog", exclusive=True)

    def action_new(self) -> None:
        if self._client is not None and self._is_idle():
            self.run_worker(self._begin_anew(self._client), group="dialog", exclusive=True)

    def action_restart(self) -> None:
        if self._client is None:
            self._start()

    async def _choose_option(self, session: Session) -> None:
        chosen = await self._put(OptionsDialog(_settable(session)))
        match chosen:
            case (str(id), str() | bool() as value):
                try:
                    await (session.set_mode(str(value)) if id == MODE else session.set_option(id, value))
                except AcpError as error:
                    await self._transcript.say(str(error), error=True)
            case _:
                pass

    async def _choose_session(self, client: Client) -> None:
        try:
            cards = await client.list_sessions(self._options.cwd)
            chosen = await self._put(SessionsDialog(cards))
            if isinstance(chosen, str) and self._is_idle() and (self._session is None or chosen != self._session.id):
                await self._leave_session()
                await self._follow(await client.load_session(chosen, self._options.cwd))
        except AcpError as error:
            await self._transcript.say(str(error), error=True)

    async def _begin_anew(self, client: Client) -> None:
        try:
            await self._leave_session()
            await self._follow(await client.new_session(self._options.cwd))
        except AcpError as error:
            await self._transcript.say(str(error), error=True)

    async def _leave_session(self) -> None:
        if self._session is not None:
            with suppress(AcpError):  # an agent need not be able to close one
                await self._session.close()

    def _is_idle(self) -> bool:
        """Whether the session may be left; if not, the user hears it."""
        idle = self._session is None or (self._session.turn is None and not self._waiting)
        if not idle:
            self.bell()
        return idle

    # Pieces ------------------------------------------------------------------------------------------

    def _draw_status(self) -> None:
        snapshot = self._session.snapshot if self._session else Snapshot()
        self._status.show(snapshot, len(self._waiting), asks=self._asks)

    def _complete(self, word: str) -> Sequence[Completion]:
        return completions(word, self._session.snapshot.commands if self._session else (), self._files)

    async def _list_files(self) -> None:
        found = await anyio.to_thread.run_sync(files_below, self._options.cwd)
        self._files = [path for path in found if visible_line(path) == path and " " not in path]


def _settable(session: Session) -> list[ConfigOption]:
    """What can be set, version 1's modes among it where they are no option."""
    options = [option for option in session.snapshot.options if isinstance(option, ConfigOption)]
    options = options or [option for option in session.options if isinstance(option, ConfigOption)]
    if session.modes and not any(option.category == "mode" for option in options):
        modes = tuple(Choice(mode.value, mode.name, mode.description) for mode in session.modes)
        options.append(ConfigOption(MODE, "Mode", session.mode or "", modes, category="mode"))
    return options
