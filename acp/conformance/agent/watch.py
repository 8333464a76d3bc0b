"""What is judged of every conversation with an agent: its texts one by one, and their order."""

from __future__ import annotations

from collections.abc import Iterator

from ..schema_check import names_below, needs, open_values
from ..verdicts import Check
from ..walking import Json, Object, members, obj, objects, there
from ..watching import Seen, Watch
from . import values
from .entities import Entities
from .terminals_v1 import TerminalsV1


def _watched(id: str, title: str, duties: str, tier: str = "mandatory", versions: tuple[int, ...] = (1, 2)) -> Check:
    return Check(id, title, tuple(f"ACP-{number}" for number in duties.split()), tier, versions)


WATCHED = (
    _watched("wire.utf8", "Each line is UTF-8", "001"),
    _watched("wire.purity", "Each line on stdout is one message", "002 003"),
    _watched("wire.envelope", "Each message is a request, a notification or an answer", "008"),
    _watched("wire.unasked", "Answers go to requests, one each, id and its type kept", "007 009 131"),
    _watched("wire.ids", "Ids of requests are not null and not used twice at once", "018"),
    _watched("wire.names", "Methods are those of a client or begin with an underscore", "021"),
    _watched("wire.schema", "Params and results fit the schema", "044 105"),
    _watched("wire.members", "Defined objects have no members of one's own", "019", "advisory"),
    _watched("wire.capabilities", "Capabilities of one's own are under _meta", "022", "advisory"),
    _watched("wire.markers", "A capability is marked by an object, never by a boolean", "043", versions=(2,)),
    _watched("wire.values", "Values of one's own begin with an underscore", "023", versions=(2,)),
    _watched("wire.meta", "_meta is an object or null", "020"),
    _watched("wire.paths", "Paths are absolute", "026 084"),
    _watched("wire.error-line", "An error's text is a single line", "028", "advisory"),
    _watched("wire.session", "Updates name a session that there is", "105"),
    _watched("wire.late", "Nothing of a turn comes after its end", "129 133"),
    _watched("wire.call-order", "A tool call is announced before it is updated", "114", versions=(1,)),
    _watched("wire.ungated", "Only what the client announced is asked of it", "040 138 143"),
    _watched("wire.notices", "Only updates that the client announced are sent to it", "123", versions=(1,)),
    _watched("wire.options", "A permission request offers something, told apart by ids", "134"),
    _watched("wire.command-subject", "A permission for a command says it, and where", "137", versions=(2,)),
    _watched("wire.config", "A select has one of its choices, and these differ", "151"),
    _watched("wire.booleans", "Booleans are offered to those who announced them", "154", versions=(1,)),
    _watched("wire.commands", "Names of commands are words, given once", "157", versions=(2,)),
    _watched("wire.auth-ids", "Ids of authentication methods differ", "051"),
    _watched("wire.auth-types", "Authentication is of a known type, its variables differ", "052", versions=(2,)),
    _watched("wire.auth-terminal", "A login in a terminal is offered to those who announced it", "046"),
    _watched("wire.auth-status", "Changes of the login are told where announced, and are changes", "057"),
    _watched("wire.secrets", "No form asks for a secret, no address carries one", "146"),
    _watched("wire.complete", "Only an elicitation of one's own is said to be complete", "148"),
    _watched("wire.message-ids", "Each message has an id, another for each prompt", "109", versions=(2,)),
    _watched("wire.calls", "A tool call begins with a title and keeps its name", "112", "advisory", (2,)),
    _watched("wire.diffs", "A diff says its changes, its patch names their paths", "115", versions=(2,)),
    _watched("wire.terminals", "A terminal is told of, once, its output base64 piece by piece", "116", versions=(2,)),
    _watched("wire.shown-terminals", "A call shows terminals that the client knows", "164", versions=(1,)),
    _watched("wire.plans", "A plan has an id, its file an address", "122", versions=(2,)),
    _watched("wire.background", "Background work is told of before, and its end", "120", versions=(2,)),
    _watched("wire.subagents", "A subagent is told of before all that it says", "096"),
    _watched("wire.mcp", "MCP messages go to servers that the client gave", "159"),
)
"""Checks of all conversations; none has a run of its own."""
SHOWN_BY: dict[str, tuple[str, ...]] = {
    "wire.unasked": ("turn.cancel", "turn.tour"),
    "wire.error-line": ("rpc.unknown-method",),
    "wire.notices": ("turn.tour", "tour.notify"),
    "wire.options": ("tour.ask",),
    "wire.command-subject": ("tour.ask",),
    "wire.auth-terminal": ("turn.tour", "init.rich"),
    "wire.secrets": ("form.answers", "form.visit"),
    "wire.complete": ("turn.tour", "form.visit"),
    "wire.message-ids": ("turn.tour", "resume.replay"),
    "wire.calls": ("tour.ask",),
    "wire.call-order": ("turn.tour", "tour.ask"),
    "wire.diffs": ("tour.edit",),
    "wire.terminals": ("tour.run",),
    "wire.shown-terminals": ("tour.ask", "tour.run"),
    "wire.plans": ("tour.plan",),
    "wire.background": ("tour.background", "call.cancel"),
    "wire.subagents": ("tour.delegate",),
    "wire.mcp": ("mcp.acp",),
    "wire.auth-status": ("auth.needed", "turn.tour"),
}
"""Checks whose conversations show what is watched, where the tour alone does not: what is played where it is asked."""
TURN_UPDATES = {"agent_message_chunk", "agent_thought_chunk", "tool_call", "tool_call_update", "plan", "plan_update"}
SPOKEN = {"agent_message", "agent_message_chunk", "agent_thought", "agent_thought_chunk"}
"""Of version 2: what only work in front tells, and the state has to be told before it."""
GATED_UPDATES = {
    "notice": "session.notices",
    "compaction_update": "session.compaction",
    "compaction_summary_chunk": "session.compaction",
    "plan_update": "plan",
    "plan_removed": "plan",
    "subagent_update": "subagents",
}
"""Of version 1: kind of update → what the client has to announce for it."""
ATTACHING = ("session/load", "session/resume")


class AgentWatch(Watch):
    """Looks at all that passes between a client and an agent."""

    them = "agent"

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.client: Object = {}
        self.agent: Object = {}
        self.sessions: set[str] = set()
        self.prompting: set[str] = set()
        self._children: set[str] = set()
        self._calls: set[tuple[str, Json]] = set()
        self._entities: dict[str, Entities] = {}
        self._prompts: set[tuple[str, str]] = set()
        self._servers: set[str] = set()
        self._visits: set[str] = set()
        self._states: dict[str, str] = {}
        self._login: Object | None = None
        self._terminals = TerminalsV1()

    def for_whom(self) -> str:
        return "client"

    def entities(self, session: Json) -> Entities:
        """What a session has told of."""
        return self._entities.setdefault(str(session), Entities())

    # What the checker says ---------------------------------------------------------------------------------

    def we_say(self, method: str, message: Object) -> None:
        params = obj(message.get("params"))
        session: Json = params.get("sessionId")
        if method == "initialize":
            self.client = obj(params.get("clientCapabilities" if self.version == 1 else "capabilities"))
            self._terminals.in_meta = obj(self.client.get("_meta")).get("terminal_output") is True
        for server in objects(params.get("mcpServers")):
            self._servers.add(str(server.get("serverId")))
        if isinstance(session, str) and method == "session/prompt":
            self.prompting.add(session)
        elif isinstance(session, str) and method in ATTACHING:
            self.sessions.add(session)
            self.prompting.add(session)  # a replay is a turn's worth of updates, and ends with the answer

    def we_answer(self, asked: Object, message: Object) -> None:
        """A terminal that we created may be shown."""
        if asked["method"] == "terminal/create":
            self._terminals.created(obj(message.get("result")).get("terminalId"))

    # What the agent says -----------------------------------------------------------------------------------

    def answered_in(self, asked: Object, result: Json) -> int:
        if asked["method"] == "initialize":
            chosen: Json = obj(result).get("protocolVersion")
            self.version = chosen if chosen in (1, 2) else self.version  # it may choose another than was asked for
        return self.version

    def they_say(self, method: str, message: Object) -> Iterator[Seen]:
        yield from values.paths(message)
        params = obj(message.get("params"))
        kind = "Request" if "id" in message else "Notification"
        if self.version == 2:
            for at, value, fits in open_values(2, method, kind, params):
                yield "wire.values", "" if fits else f"{method}: {at} is {value!r}"
        yield from self._asks(method, params)
        session: Json = params.get("sessionId")
        if method == "session/update" and isinstance(params.get("update"), dict):
            yield from self._updated(session, params["update"])

    def _asks(self, method: str, params: Object) -> Iterator[Seen]:
        if method == "elicitation/create":
            mode = str(params.get("mode"))
            fits = there(self.client, f"elicitation.{mode}")
            yield "wire.ungated", "" if fits else f"{method} in the mode {mode!r}, which the client did not announce"
            yield from values.elicitation(params)
            self._visits.add(str(params.get("elicitationId")))
        elif (gate := needs(self.version).get(method)) and method.startswith(("fs/", "terminal/")):
            yield "wire.ungated", "" if there(self.client, gate) else f"{method}, and {gate} was not announced"
            if method == "terminal/release":
                self._terminals.released(params.get("terminalId"))
        elif method.startswith(("fs/", "terminal/")):
            yield "wire.ungated", f"{method}, which version {self.version} does not have"
        elif method == "elicitation/complete":
            id = str(params.get("elicitationId"))
            yield "wire.complete", "" if id in self._visits else f"{id!r} was never asked"
        elif method == "session/request_permission":
            yield "wire.ungated", ""
            yield from values.permission(params, self.version)
            call = obj(obj(params.get("subject")).get("toolCall"))
            if self.version == 2 and call:
                yield from self.entities(params.get("sessionId")).call(call)
            elif self.version == 1:
                yield from self._terminals.call(obj(params.get("toolCall")))
        elif method == "mcp/message":
            id = str(params.get("serverId"))
            yield "wire.mcp", "" if id in self._servers else f"{id!r} is no server that the client gave"
        elif method == "auth/status_update":
            told = {name: params.get(name) for name in ("state", "accounts")}
            words = "" if there(self._able(), "auth.status") else "auth.status was not announced"
            words = words or (f"{told} was said before" if told == self._login else "")
            self._login = told
            yield "wire.auth-status", words

    def _updated(self, session: Json, update: Object) -> Iterator[Seen]:
        kind, call = update.get("sessionUpdate"), (str(session), update.get("toolCallId"))
        if kind == "subagent_update":
            self._children.add(str(update.get("sessionId")))
            yield "wire.subagents", ""
        if session in self._children:
            yield "wire.subagents", ""
        elif session not in self.sessions:
            # session/new may tell of its session before it answers; only turns tell what turns tell.
            if kind in TURN_UPDATES:
                yield "wire.session", f"{kind} for the session {session!r}"
                if there(self.client, "subagents") or self.version == 2:
                    yield "wire.subagents", f"{session!r} was not told of before its {kind}"
        elif self.version == 1 and kind in TURN_UPDATES:
            yield "wire.late", "" if session in self.prompting else f"{kind} while no turn runs"
        yield "wire.session", ""
        if kind == "available_commands_update":
            yield from values.commands(update.get("availableCommands"))
        if kind == "config_option_update":
            yield from self._options(update.get("configOptions"))
        if self.version == 2:
            yield from self._told(str(session), str(kind), update)
            return
        if gate := GATED_UPDATES.get(str(kind)):
            yield "wire.notices", "" if there(self.client, gate) else f"{kind}, and {gate} was not announced"
        if kind in ("tool_call", "tool_call_update"):
            yield from self._terminals.call(update)
        if kind == "tool_call":
            self._calls.add(call)
        elif kind == "tool_call_update":
            yield "wire.call-order", "" if call in self._calls else f"{call[1]!r} is updated and was not announced"

    def _told(self, session: str, kind: str, update: Object) -> Iterator[Seen]:
        if kind == "state_update":
            self._states[session] = str(update.get("state"))
        elif kind in SPOKEN and session not in self.prompting and session in self._states:
            yield "wire.late", f"{kind} in the idle state" if self._states[session] == "idle" else ""
        yield from self.entities(session).told(update)

    def _options(self, rows: Json) -> Iterator[Seen]:
        return values.options(rows, self.version, booleans=there(self.client, "session.configOptions.boolean"))

    def _able(self) -> Object:
        return obj(self.agent.get("agentCapabilities" if self.version == 1 else "capabilities"))

    def they_answer(self, asked: Object, message: Object) -> Iterator[Seen]:
        method, params, result = asked["method"], obj(asked.get("params")), obj(message.get("result"))
        yield from values.paths(message)
        if method in ("session/prompt", *ATTACHING):
            self.prompting.discard(str(params.get("sessionId")))
        if "result" not in message:
            return
        if method == "initialize":
            yield from self._greeted(result)
        if isinstance(session := result.get("sessionId"), str) and method.startswith("session/"):
            self.sessions.add(session)
        if "configOptions" in result:
            yield from self._options(result["configOptions"])
        if "availableCommands" in result:
            yield from values.commands(result["availableCommands"])
        if self.version == 2:
            for at, value, fits in open_values(2, method, "Response", result):
                yield "wire.values", "" if fits else f"the answer to {method}: {at} is {value!r}"
        if self.version == 2 and method == "session/prompt":
            id = (str(params.get("sessionId")), str(result.get("messageId")))
            yield "wire.message-ids", f"two prompts have the message id {id[1]!r}" if id in self._prompts else ""
            self._prompts.add(id)

    def _greeted(self, result: Object) -> Iterator[Seen]:
        self.agent = result
        own = names_below(self.version, "AgentCapabilities", self._able())
        yield "wire.capabilities", ", ".join(own)
        if self.version == 2:
            found = [
                at
                for at, _, value in members(self._able(), "capabilities")
                if isinstance(value, bool) and "_meta" not in at
            ]
            yield "wire.markers", f"{', '.join(found)} is a boolean" if found else ""
        terminal = there(self.client, "auth.terminal")
        yield from values.logins(result.get("authMethods"), self.version, terminal=terminal)
