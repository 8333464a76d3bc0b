"""The client's part in one conversation with an agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from ...transports import Oversize
from ..side import Message, Side, Skipped
from ..walking import Json, Object, obj, there
from .editor import BARE, RICH, Editor, Refused, closed, dismissed
from .reach import Line
from .settings import AgentSettings
from .watch import AgentWatch

CLIENT = {"name": "acp-check", "version": "1"}
ENDS = {"end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled"}
"""Reasons to stop a turn that both versions know; the second has `error` too."""


class Conversation(Side[AgentWatch]):
    """Texts to and from one agent, and what a client does for it."""

    def __init__(self, line: Line, settings: AgentSettings, cwd: str, *, rich: bool = False) -> None:
        super().__init__(settings.version, settings.timeout, AgentWatch(settings.version))
        self.line, self.settings, self.cwd = line, settings, cwd
        self.startup = settings.startup
        self.announce: Object = (RICH if rich else BARE)[self.version]
        self.editor = Editor(permit=dismissed, fill=closed)
        self.variables["cwd"] = cwd
        self.hello: Object = {}
        self.again: Callable[[], AbstractAsyncContextManager[Line]] | None = None
        """Reaches the same agent anew."""

    async def put(self, text: bytes) -> None:
        await self.line.send(text)

    async def take(self) -> bytes | Oversize:
        return await self.line.receive()

    def epitaph(self) -> str:
        return self.line.epitaph()

    async def answer_default(self, message: Message) -> None:
        try:
            await self.answer_with(message, self.editor.answer(message["method"], obj(message.get("params"))))
        except Refused as refusal:
            await self.refuse(message, *refusal.args)

    # What most checks begin with ---------------------------------------------------------------------------

    def greeting(self, **changes: Json) -> Object:
        """The params of initialize."""
        names = ("clientInfo", "clientCapabilities") if self.version == 1 else ("info", "capabilities")
        return {"protocolVersion": self.version, names[0]: CLIENT, names[1]: self.announce, **changes}

    async def initialize(self, **changes: Json) -> Object:
        """The result of initialize, in the version that is asked for; who is to log in is logged in."""
        id = await self.ask("initialize", self.greeting(**changes))
        answer = await self.answer(id)
        if "error" in answer:
            self.fail(f"initialize was answered with {answer['error']}")
        if not isinstance(answer["result"], dict):
            self.fail(f"initialize was answered with {answer['result']!r}")
        self.hello = obj(answer["result"])
        if self.hello.get("protocolVersion") != self.version:
            self.fail(f"the agent speaks version {self.hello.get('protocolVersion')!r}, not {self.version}")
        if self.settings.auth_method is not None:
            await self.log_in(self.settings.auth_method)
        return self.hello

    async def log_in(self, method: str) -> None:
        await self.call("authenticate" if self.version == 1 else "auth/login", {"methodId": method})

    async def session(self, **changes: Json) -> str:
        """The id of a new session."""
        answer = await self.answer(await self.ask("session/new", {"cwd": self.cwd, "mcpServers": [], **changes}))
        if "error" in answer:
            hint = "; give --auth-method" if answer["error"].get("code") == -32000 else ""
            self.fail(f"session/new was answered with {answer['error']}{hint}")
        result = obj(answer["result"])
        id: Json = result.get("sessionId")
        if not isinstance(id, str) or not id:
            self.fail(f"session/new gave the session id {id!r}")
        self.variables["session"] = id
        self.variables["opened"] = result
        return id

    async def prompt(self, name: str = "say", *, session: str | None = None, **more: Json) -> int:
        """Ask for a turn, by the name of one of the settings' prompts; the request's id."""
        return await self.prompt_with([{"type": "text", "text": self.settings.prompt(name)}], session=session, **more)

    async def prompt_with(self, content: Json, *, session: str | None = None, **more: Json) -> int:
        session = session or self.variables["session"]
        return await self.ask("session/prompt", {"sessionId": session, "prompt": content, **more})

    async def turn(self, name: str = "say") -> list[Message]:
        """Hold a whole turn; what the agent said in it."""
        before = len(self.heard)
        reason = await self.end_of_turn(await self.prompt(name))
        if reason == "cancelled":
            self.fail("a turn that nobody cancelled ended as cancelled")
        return self.heard[before:]

    async def begun(self, name: str) -> int:
        """Ask for a turn that takes its time, and wait until the agent is at it; the request's id."""
        id = await self.prompt(name)
        # A prompt of version 2 that is cancelled before it is inserted has no turn to end.
        if self.version == 2 and "error" in (receipt := await self.answer(id)):
            self.fail(f"the prompt was answered with {receipt['error']}")
        return id

    async def cancel(self, session: str | None = None) -> None:
        await self.send({"method": "session/cancel", "params": {"sessionId": session or self.variables["session"]}})

    async def end_of_turn(self, id: int) -> str:
        """Why the turn of a prompt stopped."""
        if self.version == 1:
            answer = await self.answer(id)
            if "error" in answer:
                self.fail(f"the prompt was answered with {answer['error']}")
            end = obj(answer["result"])
        else:
            end = await self.idle(id)
        reason: Json = end.get("stopReason")
        known = ENDS if self.version == 1 else {*ENDS, "error", None}
        if reason not in known and not (self.version == 2 and str(reason).startswith("_")):
            self.fail(f"a turn ended with {end}")
        return str(reason or "")

    async def turn_over(self, id: int) -> None:
        """Wait until the turn of a prompt is over, however it ends."""
        if self.version == 1:
            await self.answer(id)
        else:
            await self.until(lambda m: self._over(m, id), "idle state")

    async def idle(self, id: int | None = None) -> Object:
        """The update that says that the turn is over; a prompt that is answered with an error fails the check."""
        message = await self.until(lambda m: self._over(m, id), "idle state")
        if "error" in message:
            self.fail(f"the prompt was answered with {message['error']}")
        return update_of(message)

    def _over(self, message: Message, id: int | None) -> bool:
        """Is the turn of a prompt over with this message?"""
        answers = "method" not in message and message.get("id") == id
        if self.version == 1:
            return answers
        return (answers and "error" in message) or update_of(message).get("state") == "idle"

    async def asked_for(self, method: str, prompt: str) -> Message:
        """The agent's request for a method, in a turn that is to bring one. Skips the check if none comes."""
        id = await self.prompt(prompt)
        message = await self.until(lambda m: m.get("method") == method or self._over(m, id), method)
        if message.get("method") != method:
            raise Skipped(f"nothing to judge: the {prompt} prompt brought no {method}")
        self.variables["turn"] = id
        return message

    @asynccontextmanager
    async def another(self) -> AsyncGenerator[Conversation]:
        """Another conversation with the agent, beside this one; what is said in it is part of this one's record."""
        assert self.again is not None
        async with self.again() as line:
            other = Conversation(line, self.settings, self.cwd)
            other.transcript = self.transcript
            try:
                yield other
            finally:
                self.watch.faults += other.watch.faults

    # What the agent announces ------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Object:
        return obj(self.hello.get("agentCapabilities" if self.version == 1 else "capabilities"))

    def announced(self, gate: str) -> bool:
        """Is a capability there? A dotted path; null, false and absent are no."""
        return there(self.capabilities, gate)

    def can(self, name: str) -> bool:
        """Is a method or a part of sessions announced, where each version announces it?"""
        if self.version == 1:
            return self.announced("loadSession" if name == "load" else f"sessionCapabilities.{name}")
        return self.announced("session") if name in ("list", "resume", "close") else self.announced(f"session.{name}")


def update_of(message: Message) -> Object:
    """The update that a message brings; empty if it brings none."""
    return obj(obj(message.get("params")).get("update")) if message.get("method") == "session/update" else {}


def updates(messages: list[Message], *kinds: str) -> list[Object]:
    """The updates of some kinds that messages bring, in order."""
    found = [update_of(message) for message in messages]
    return [update for update in found if update.get("sessionUpdate") in kinds]
