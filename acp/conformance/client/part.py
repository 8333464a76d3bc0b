"""The agent's part in one conversation with a client."""

from __future__ import annotations

import anyio

from ...transports import Oversize
from ..schema_check import needs
from ..side import CheckFailed, Message, Side
from ..walking import Json, Object, obj, there
from .agents import AGENT, BARE
from .stage import Player, Wire
from .watch import ClientWatch

EMPTY = {f"session/{name}" for name in ("close", "delete", "set_mode")} | {
    *("authenticate", "logout", "auth/login", "auth/logout")
}


class Part(Side[ClientWatch]):
    """Texts to and from one client, and what an agent does for it."""

    us, them = "agent", "client"

    def __init__(self, wire: Wire, version: int, patience: float, player: Player | None = None) -> None:
        super().__init__(version, patience, ClientWatch(version))
        self.wire, self.player = wire, player
        self.announce: Object = BARE[version]
        self.opened: Object = {}
        self.turn_wanted = 1
        self.interrupts = True
        self.prompts: dict[str, Json] = {}
        self._sessions = 0
        self.cancelled = False

    async def put(self, text: bytes) -> None:
        await self.wire.send(text)

    async def take(self) -> bytes | Oversize:
        return await self.wire.receive()

    def epitaph(self) -> str:
        return self.player.epitaph() if self.player else "its connection ended"

    async def hear(self) -> Message:
        message = await super().hear()
        self.cancelled |= message.get("method") == "session/cancel"
        return message

    # What an agent does --------------------------------------------------------------------------------------

    async def answer_default(self, message: Message) -> None:
        method: str = message["method"]
        if method == "initialize":
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

    async def update(self, **update: Json) -> None:
        """Report something in the session."""
        await self.send(
            {"method": "session/update", "params": {"sessionId": self.variables["session"], "update": update}}
        )

    async def say(self, words: str, **more: Json) -> None:
        """A piece of the agent's message."""
        id = {} if self.version == 1 else {"messageId": "check-message"}
        await self.update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": words}, **id, **more)

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
