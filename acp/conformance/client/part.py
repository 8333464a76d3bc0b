"""The agent's part in one conversation with a client: raw JSON, deadlines, and a record of every text."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import anyio

from ...transports import Oversize
from ..asking import Asking, CheckFailed
from ..patterns import Variables
from ..schema_check import needs
from ..walking import Json, Object, key, obj, there
from .agents import AGENT, BARE
from .stage import Player, Wire
from .watch import ClientWatch

Message = Object
ALIVE = "_check/alive"
EMPTY = {f"session/{name}" for name in ("close", "delete", "set_mode")} | {
    *("authenticate", "logout", "auth/login", "auth/logout")
}


class Gone(CheckFailed):
    """The client closed the agent's stdin, or its own process ended."""


class Skipped(Exception):
    """The client does not do what the check is about, and does not have to."""


class Part(Asking):
    """Texts to and from one client. Whatever is waited for comes within `patience` seconds or the check fails.

    Requests that nobody waits for are answered on the way, as `serve` has it.
    """

    def __init__(self, wire: Wire, version: int, patience: float, player: Player | None = None) -> None:
        super().__init__()
        self.wire, self.player, self.version, self.patience = wire, player, version, patience
        self.watch = ClientWatch(version)
        self.transcript: list[tuple[str, str]] = []
        self.variables: Variables = {"elsewhere": tempfile.gettempdir(), "version": version}
        self.announce: Object = BARE[version]
        self.opened: Object = {}
        self.turn_wanted = 1
        self.interrupts = True
        self.prompts: dict[str, Json] = {}
        self._sessions = 0
        self.cancelled = self.gone = False
        self.passed: dict[tuple[str, Json], Message] = {}
        self._hooks: dict[str, Callable[[Message], Awaitable[None]]] = {}

    # Saying --------------------------------------------------------------------------------------------------

    async def text(self, text: bytes) -> None:
        """Send a text as it is; it is taken to be no message."""
        self.watch.excused += 1
        await self._write(text)

    async def send(self, message: Message) -> None:
        """Send a message."""
        await self._write(self.encoded(message))

    def encoded(self, message: Message) -> bytes:
        """The text of a message that is about to be sent in another way than `send` does."""
        message = {"jsonrpc": "2.0", **message}
        self.watch.sent(message)
        return json.dumps(message, ensure_ascii=False).encode()

    async def _write(self, text: bytes) -> None:
        self.note(text)
        with self.living():
            await self.wire.send(text)

    def note(self, text: bytes, who: str = "agent") -> None:
        """Put a text into the transcript, cut if it is very long."""
        shown = text if len(text) < 10_000 else text[:1000] + f" … {len(text)} bytes".encode()
        self.transcript.append((who, shown.decode(errors="replace")))

    @contextmanager
    def living(self) -> Generator[None]:
        """What fails inside because the client has gone fails the check."""
        try:
            yield
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise Gone(f"the client has gone; {self.epitaph()}") from None

    async def answer_with(self, request: Message, result: Json) -> None:
        await self.send({"id": request["id"], "result": result})

    async def refuse(self, request: Message, code: int, words: str, **data: Json) -> None:
        await self.send({"id": request["id"], "error": {"code": code, "message": words, **data}})

    async def update(self, **update: Json) -> None:
        """Report something in the session."""
        await self.send(
            {"method": "session/update", "params": {"sessionId": self.variables["session"], "update": update}}
        )

    async def say(self, words: str, **more: Json) -> None:
        """A piece of the agent's message."""
        id = {} if self.version == 1 else {"messageId": "check-message"}
        await self.update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": words}, **id, **more)

    # Hearing -------------------------------------------------------------------------------------------------

    async def answer(self, id: Json) -> Message:
        """The answer under an id, its type kept; what comes before it is served."""
        if key(id) in self.passed:
            return self.passed.pop(key(id))
        return await self.until(lambda m: "method" not in m and key(m.get("id")) == key(id), f"answer to {id!r}")

    async def until(self, wanted: Callable[[Message], bool], what: str) -> Message:
        """The next message that is wanted."""
        with anyio.move_on_after(self.patience):
            while not wanted(message := await self.hear()):
                await self.serve(message)
            return message
        self.fail(f"no {what} within {self.patience:g} s")
        return None

    async def request(self, method: str) -> Message:
        """The client's next request for a method."""
        return await self.until(lambda m: m.get("method") == method and "id" in m, method)

    async def hear(self) -> Message:
        """The next message."""
        while True:
            try:
                text = await self.wire.receive()
            except anyio.EndOfStream:
                self.gone = True
                raise Gone(f"the client has closed the agent's stdin; {self.epitaph()}") from None
            if isinstance(text, Oversize):
                raise CheckFailed(str(text))
            self.note(text, "client")
            if (message := self.watch.heard(text)) is not None:
                self.cancelled |= message.get("method") == "session/cancel"
                return message

    async def silence(self, seconds: float, forbidden: Callable[[Message], bool], words: str) -> bool:
        """Listen for so long; what is forbidden fails the check. Has the client gone meanwhile?"""
        with anyio.move_on_after(seconds):
            while True:
                try:
                    message = await self.hear()
                except Gone:
                    return True
                if forbidden(message):
                    self.fail(f"{words}: {json.dumps(message)[:300]}")
        return False

    def epitaph(self) -> str:
        return self.player.epitaph() if self.player else "its connection ended"

    # What an agent does --------------------------------------------------------------------------------------

    def on(self, method: str, hook: Callable[[Message], Awaitable[None]]) -> None:
        """Have a request that nobody waits for answered in another way."""
        self._hooks[method] = hook

    async def serve(self, message: Message) -> None:
        """Answer a request that nobody waits for; keep an answer that nobody waits for yet."""
        method: Json = message.get("method")
        if method is None:
            self.passed[key(message.get("id"))] = message
        if not isinstance(method, str) or "id" not in message:
            return
        if method in self._hooks:
            await self._hooks[method](message)
        elif method == "initialize":
            await self.answer_with(message, self.hello())
        elif method in ("session/new", "session/load", "session/resume"):
            await self.open_session(message)
        elif method == "session/list":
            await self.answer_with(message, {"sessions": []})
        elif method == "session/set_config_option":
            await self.answer_with(message, {"configOptions": self.opened.get("configOptions", [])})
        elif method == "session/prompt":
            await self.begin(message)
            await self.end_turn()
        elif method in EMPTY:
            await self.answer_with(message, {})
        else:
            await self.refuse(message, -32601, "Method not found")

    def hello(self, **changes: Json) -> Object:
        """The result of initialize."""
        names = ("agentCapabilities", "agentInfo") if self.version == 1 else ("capabilities", "info")
        return {"protocolVersion": self.version, names[0]: self.announce, names[1]: AGENT, **changes}

    async def greeting(self) -> Message:
        """The client's initialize. A client that asks for less than our version fails."""
        request = await self.request("initialize")
        asked: Json = obj(request.get("params")).get("protocolVersion")
        if not isinstance(asked, int) or asked < self.version:
            self.fail(f"the client asks for version {asked!r} of the protocol, not for {self.version}")
        return request

    async def initialize(self, **changes: Json) -> None:
        """Wait for initialize and answer it."""
        await self.answer_with(await self.greeting(), self.hello(**changes))

    async def session(self) -> str:
        """The id of the session that the client asks for: a new one, or one that it believes to be there."""
        ways = ("session/new", "session/load", "session/resume")
        gates = needs(self.version)
        able = {way for way in ways if (gate := gates.get(way)) is None or there(self.announce, gate)}
        await self.open_session(await self.until(lambda m: m.get("method") in able and "id" in m, "session/new"))
        return self.variables["session"]

    async def open_session(self, request: Message) -> None:
        """Answer a request for a session."""
        kept: Json = obj(request.get("params")).get("sessionId")
        if isinstance(kept, str):
            self.variables["session"], self.variables["cwd"] = kept, obj(request.get("params")).get("cwd")
            return await self.answer_with(request, self.opened)
        self._sessions += 1
        self.variables["session"] = f"check-{self._sessions}"
        self.variables["cwd"] = obj(request.get("params")).get("cwd")
        return await self.answer_with(request, {"sessionId": self.variables["session"], **self.opened})

    async def turn(self) -> None:
        """Wait for the prompt that the check is about, and begin its turn."""
        for number in range(self.turn_wanted):
            await self.begin(await self.request("session/prompt"))
            if number + 1 < self.turn_wanted:
                await self.say("Done.")
                await self.end_turn()

    async def begin(self, request: Message) -> None:
        """Begin the turn that a prompt asks for."""
        session = str(obj(request.get("params")).get("sessionId"))
        self.variables["session"], self.variables["prompt"] = session, request["id"]
        self.prompts[session] = request["id"]
        if self.version == 2:
            await self.answer_with(request, {"messageId": f"check-prompt-{request['id']}"})
            await self.update(sessionUpdate="state_update", state="running")

    async def end_turn(self, reason: str = "end_turn", **more: Json) -> None:
        """End the turn that runs, if one does."""
        session = self.variables.get("session")
        id = self.prompts.pop(session, None) if session else None
        if id is None:
            return
        if self.version == 1:
            await self.send({"id": id, "result": {"stopReason": reason, **more}})
        else:
            await self.update(sessionUpdate="state_update", state="idle", stopReason=reason, **more)

    async def alive(self) -> None:
        """See that the client still answers what it is asked."""
        await self.answer(await self.ask(ALIVE, {}))

    async def finish(self, linger: float) -> None:
        """End the turn, and let the client do what it does after it."""
        try:
            await self.end_turn()
            with anyio.move_on_after(linger):
                while True:
                    await self.serve(await self.hear())
        except CheckFailed:
            return

    # What the client does ------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Object:
        return self.watch.client

    def announced(self, gate: str) -> bool:
        """Did the client announce a capability?"""
        return there(self.capabilities, gate)

    def permission(self, title: str = "Check the answer", **more: Json) -> Object:
        """Params of a permission request with two options."""
        kinds = {"allow_once": "Allow", "reject_once": "Reject"}
        options = [{"optionId": f"check-{kind}", "name": name, "kind": kind} for kind, name in kinds.items()]
        call: Object = {"toolCallId": "check-call", "title": title, "kind": "execute", "status": "pending"}
        about: Object = {"toolCall": call}
        if self.version == 2:
            about = {"title": title, "subject": {"type": "tool_call", "toolCall": call}}
        return {"sessionId": self.variables["session"], "options": options, **about, **more}
