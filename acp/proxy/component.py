"""What the author of a proxy writes: hooks on the messages of a session, over a conductor's connection.

    proxy = Proxy("shout")

    @proxy.from_client("session/prompt")
    async def prompt(passing: Passing) -> Json:
        params = louder(passing.params)
        return await passing.forward(params)

    anyio.run(run_proxy, proxy)

A hook sees params and results as they are on the wire, so it works for every version and extension. It answers a
request with what it returns, or with the RequestError that it raises; a notification that it does not forward is
dropped. What has no hook passes untouched. Order is kept: nothing behind a hooked message passes until the hook has
forwarded it, ended, asked something of its own or released the queue; only cancelling overtakes.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..envelope import CANCEL, RequestId, error_message, failed, is_id, respelled
from ..errors import AcpError, ConnectionClosed, ErrorCode, RequestError
from ..json_text import Json
from ..pending import Pending
from ..tasks import task_group
from ..transports import Oversize, Transport
from .link import Link, Stalled
from .passing import Hook, Passing, Side
from .routes import Routes
from .wrapping import INITIALIZE, PROXY_INITIALIZE, SUCCESSOR, Message, Refusal, object_of, read, unwrapped, wrapped

log = logging.getLogger("acp")

_HERE = 0
"""The one hop of a component: both sides are behind the conductor."""
QUEUED = 64
"""Messages that may wait for a hook to let them pass; then nothing more is read."""
RUNNING_HOOKS = 256
"""Hooked requests that may run at a time; more are refused."""


class Proxy:
    """A component's hooks. They may be shared by several runs; `run` serves one conductor."""

    def __init__(self, name: str = "proxy") -> None:
        self.name = name
        self._hooks: dict[tuple[Side, str], Hook] = {}

    def from_client(self, method: str) -> Callable[[Hook], Hook]:
        """Hook a method that comes from the client's side; `initialize` is one of them."""
        return self._hook("client", method)

    def from_agent(self, method: str) -> Callable[[Hook], Hook]:
        """Hook a method that comes from the agent's side."""
        return self._hook("agent", method)

    def _hook(self, side: Side, method: str) -> Callable[[Hook], Hook]:
        def add(hook: Hook) -> Hook:
            if (side, method) in self._hooks:
                raise ValueError(f"{method} from the {side} is hooked already")
            self._hooks[side, method] = hook
            return hook

        return add

    def hook(self, side: Side, method: str) -> Hook | None:
        """The hook of a method, if it has one."""
        return self._hooks.get((side, method))

    async def run(self, transport: Transport) -> None:
        """Serve a conductor until it ends. Closes the transport."""
        link = Link("the conductor", transport)
        try:
            await _Run(self, link).run()
        finally:
            await link.aclose()


class _Run:
    """One conversation with a conductor."""

    def __init__(self, proxy: Proxy, link: Link) -> None:
        self._proxy, self._link = proxy, link
        self._routes = Routes()
        self._asked: dict[RequestId, Pending[Json]] = {}
        self._running: dict[RequestId, anyio.CancelScope] = {}
        self._queued: dict[RequestId, bool] = {}
        """Requests that were read and wait for their turn → whether they were cancelled meanwhile."""

    async def run(self) -> None:
        put, take = anyio.create_memory_object_stream[Message](QUEUED)
        async with put, take, task_group(cancel_at_end=True) as group:
            group.start_soon(self._link.write)
            group.start_soon(self._pass_all, take, group)
            try:
                while True:
                    await self._read(await self._link.transport.receive(), put)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                pass
            except Stalled as stalled:
                log.error("%s: %s", self._proxy.name, stalled)
            for pending in self._asked.values():
                pending.settle(ConnectionClosed("the conductor has gone"))

    # What arrives ------------------------------------------------------------------------------------------

    async def _read(self, text: bytes | Oversize, put: MemoryObjectSendStream[Message]) -> None:
        """Queue a message behind those before it. Cancelling waits for nothing, for a hook may hold the queue."""
        try:
            message = read(text)
        except Refusal as refusal:
            await self._refuse(refusal)
            if refusal.instead is None:
                return
            message = refusal.instead
        if message.get("method") == CANCEL:
            await self._cancel(message)
            return
        if "method" in message and "id" in message:
            self._queued[message["id"]] = False
        await put.send(message)

    async def _pass_all(self, take: MemoryObjectReceiveStream[Message], group: TaskGroup) -> None:
        async for message in take:
            try:
                if "method" in message and "id" in message and self._queued.pop(message["id"], False):
                    raise Refusal(RequestError.cancelled(), message["id"])
                await self._take(message, group)
            except Refusal as refusal:
                await self._refuse(refusal)

    async def _refuse(self, refusal: Refusal) -> None:
        log.info("%s: %s", self._proxy.name, refusal)
        if refusal.answer is not None:
            await self._link.send(refusal.answer)

    async def _take(self, message: Message, group: TaskGroup) -> None:
        if "method" not in message:
            await self._answered(message)
        elif message["method"] == INITIALIZE:
            why = f"{self._proxy.name} is a proxy; a conductor starts it with proxy/initialize"
            raise Refusal(RequestError(ErrorCode.INVALID_REQUEST, why), message.get("id"))
        elif message["method"] == SUCCESSOR:
            await self._pass("agent", unwrapped(message), group)
        elif message["method"] == PROXY_INITIALIZE:
            await self._pass("client", {**message, "method": INITIALIZE}, group)
        else:
            await self._pass("client", message, group)

    async def _pass(self, side: Side, message: Message, group: TaskGroup) -> None:
        hook = self._proxy.hook(side, message["method"])
        if hook is not None and "id" in message:
            await self._start(hook, side, message, group)
        elif hook is not None:
            await self._notified(hook, side, message)
        else:
            if "id" in message:
                try:
                    route = self._routes.open(_HERE, message["id"], message["method"], _HERE)
                except RequestError as error:
                    raise Refusal(error, message["id"]) from None
                message = {**message, "id": route.id}
            await self._send("agent" if side == "client" else "client", message)

    async def _answered(self, message: Message) -> None:
        message = respelled(message) or message  # every id that we give away is a number
        if (pending := self._asked.pop(message["id"], None)) is not None:
            self._routes.close(_HERE, message["id"])
            error = object_of(message.get("error"))
            pending.settle(
                RequestError(error["code"], error["message"], error.get("data"))
                if failed(message)
                else message["result"]
            )
        elif (route := self._routes.close(_HERE, message["id"])) is not None:
            await self._link.send({**message, "id": route.origin_id})
        # else: an answer to nothing, or to what nobody waits for any more

    async def _cancel(self, message: Message) -> None:
        params = object_of(message.get("params"))
        id = params.get("requestId", False)
        if not is_id(id):
            return
        if id in self._queued:
            self._queued[id] = True
        elif id in self._running:
            self._running[id].cancel()
        elif (route := self._routes.find(_HERE, id)) is not None:
            await self._link.send({**message, "params": {**params, "requestId": route.id}})

    # Hooks -------------------------------------------------------------------------------------------------

    async def _start(self, hook: Hook, side: Side, message: Message, group: TaskGroup) -> None:
        id = message["id"]
        if id in self._running or self._routes.find(_HERE, id) is not None or len(self._running) >= RUNNING_HOOKS:
            problem = f"Invalid request: the id is taken, or more than {RUNNING_HOOKS} requests run"
            raise Refusal(RequestError(ErrorCode.INVALID_REQUEST, problem), id)
        moved = anyio.Event()
        self._running[id] = anyio.CancelScope()
        group.start_soon(self._serve, hook, id, Passing(self, side, message, moved.set), moved)
        await moved.wait()

    async def _serve(self, hook: Hook, id: RequestId, passing: Passing, moved: anyio.Event) -> None:
        answer = error_message(id, RequestError.cancelled())
        try:
            with self._running[id]:
                try:
                    answer = {"jsonrpc": "2.0", "id": id, "result": await hook(passing)}
                except Exception as error:
                    answer = error_message(id, self._failure(passing.method, error))
        finally:
            del self._running[id]
            self._link.put(answer)
            moved.set()

    async def _notified(self, hook: Hook, side: Side, message: Message) -> None:
        try:
            await hook(Passing(self, side, message, _nothing))
        except Exception as error:
            self._failure(message["method"], error)

    def _failure(self, method: str, error: Exception) -> RequestError:
        if isinstance(error, RequestError):
            return error
        if isinstance(error, AcpError):
            log.info("%s: %s: %s", self._proxy.name, method, error)
        reference = uuid.uuid4().hex[:12]
        log.error("%s: the hook of %s failed, reference %s", self._proxy.name, method, reference, exc_info=error)
        return RequestError(ErrorCode.INTERNAL_ERROR, "Internal error", {"reference": reference})

    # What we say -------------------------------------------------------------------------------------------

    async def ask(self, side: Side, method: str, params: Json, sent: Callable[[], None]) -> Json:
        """Ask a side and wait for the answer; `sent` is called once the question is on its way."""
        route = self._routes.open(_HERE, f"own {uuid.uuid4().hex}", method, _HERE)
        pending = self._asked[route.id] = Pending[Json](route.id, self._abandon)
        try:
            await self._send(side, {"jsonrpc": "2.0", "id": route.id, "method": method, **_given(params)})
        finally:
            sent()
        return await pending.answer()

    async def tell(self, side: Side, method: str, params: Json) -> None:
        await self._send(side, {"jsonrpc": "2.0", "method": method, **_given(params)})

    def _abandon(self, id: RequestId) -> None:
        """Nobody waits for an answer of ours any more; its id stays taken until it comes."""
        self._link.put({"jsonrpc": "2.0", "method": CANCEL, "params": {"requestId": id}})

    async def _send(self, side: Side, message: Message) -> None:
        await self._link.send(wrapped(message) if side == "agent" else message)


def _nothing() -> None:
    """A notification's hook asks nothing."""


def _given(params: Json) -> dict[str, Json]:
    return {} if params is None else {"params": params}


async def run_proxy(proxy: Proxy) -> None:
    """Serve the conductor that started this process, on stdin and stdout."""
    from ..transports.stdio import stdio_transport

    async with stdio_transport() as transport:
        await proxy.run(transport)
