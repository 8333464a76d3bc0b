"""`laguna serve` when clients go away, and when the model waits or fails: a real server, a scripted model."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio
import httpx2
import pytest
import uvicorn

from acp_server.model import Assistant, ModelError, ModelInfo, Text, ToolUse, User
from acp_server.network.gate import Gate
from laguna_backend.backend import LagunaBackend
from laguna_backend.chat.arguments import arguments_json
from laguna_backend.engine.request import Finish, Step
from laguna_backend.serve import patient
from laguna_backend.serve.app import Service, application
from laguna_backend.serve.recollection import Recollection
from laguna_backend.speaker import Spoken

pytestmark = pytest.mark.anyio

PAGE = "https://page.example"
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


class Slow:
    """A model that says one word, and then nothing until it is told to end."""

    def __init__(self) -> None:
        self.begun, self.ended, self.end = anyio.Event(), anyio.Event(), anyio.Event()
        self.error: ModelError | None = None

    async def ready(self) -> ModelInfo:
        return ModelInfo("slow", 1024)

    async def ask(self, question: Any) -> Any:
        return question(self)  # as if it were the speaker

    def token_bytes(self, token: int) -> bytes:
        return b""

    @property
    def engine(self) -> Any:
        return SimpleNamespace(laguna=SimpleNamespace(config=SimpleNamespace(vocab_size=100)))

    async def aclose(self) -> None:
        self.end.set()

    async def speak(self, *_: Any) -> AsyncGenerator[Spoken, None]:
        self.begun.set()
        try:
            yield Spoken(Step(7, b"word"), (Text("word"),))
            await self.end.wait()
            if self.error is not None:
                raise self.error
            yield Spoken(Finish("stop"), ())
        finally:
            self.ended.set()


@asynccontextmanager
async def serving(model: Slow) -> AsyncGenerator[tuple[httpx2.AsyncClient, uvicorn.Server]]:
    service = Service(cast(LagunaBackend, model))
    app = application(service, Gate(origins=[PAGE]), service.load, [PAGE])
    config = uvicorn.Config(app, http=patient.PatientProtocol, ws="none", lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    with anyio.fail_after(30), socket.create_server(("127.0.0.1", 0)) as listening:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listening])
            try:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
                    yield client, server
            finally:
                server.should_exit = True


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_stops_its_answer(stream: bool) -> None:
    model = Slow()
    async with serving(model) as (client, _):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.post(CHAT, json=BODY | {"stream": stream}))
            await model.begun.wait()
            assert not model.ended.is_set()
            group.cancel_scope.cancel()
        await model.ended.wait()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_that_fails_midway_is_told_of(stream: bool) -> None:
    model = Slow()
    model.error = ModelError("the model failed: it is tired")
    model.end.set()
    async with serving(model) as (client, _):
        answer = await client.post(CHAT, json=BODY | {"stream": stream})
        if not stream:
            assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
            return
        last = answer.text.strip().split("\n\n")[-1].removeprefix("data: ")
        assert json.loads(last)["error"]["message"] == str(model.error)


async def test_who_is_being_answered_is_answered_to_the_end_when_it_stops() -> None:
    model = Slow()
    async with serving(model) as (client, server):
        async with client.stream("POST", CHAT, json=BODY | {"stream": True}) as answer:
            await model.begun.wait()
            server.should_exit = True
            model.end.set()
            assert "[DONE]" in (await answer.aread()).decode()


async def test_a_page_that_is_let_in_learns_what_it_may_send_and_reads_the_answer() -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with serving(Slow()) as (client, _):
        allowed = await client.options(CHAT, headers={"origin": PAGE, **asks})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
        told = await client.get("/v1/models", headers={"origin": PAGE})
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, PAGE)
        other = await client.get("/v1/models", headers={"origin": "https://other.example"})
        assert (other.status_code, "access-control-allow-origin" in other.headers) == (403, False)


async def test_a_connection_on_which_no_request_begins_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient, "OPENING", 0.2)
    async with serving(Slow()) as (client, _):
        assert (await client.get("/health")).status_code == 200
        port = client.base_url.port
        assert port is not None
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET /health HTTP/1.1\r\nHost: local")
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()


def test_a_call_that_went_wrong_is_no_json_so_that_nobody_makes_it() -> None:
    whole, cut = ToolUse("1", "shell", {"cmd": "rm a"}), ToolUse("1", "shell", {"cmd": "rm a"}, "it was cut off")
    assert json.loads(arguments_json(whole.arguments, whole.problem)) == {"cmd": "rm a"}
    for broken in (cut, ToolUse("1", "shell", {}, "it was cut off")):
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(arguments_json(broken.arguments, broken.problem))


def test_what_was_said_is_known_again_only_in_its_place_and_by_its_owner() -> None:
    said = Assistant("Yes.", "I think so.", (), "step-1")
    before = [User("Is it?")]
    recollection = Recollection()
    recollection.remember("ann", before, said)
    plain = Assistant("Yes.")
    assert recollection.recognised("ann", [*before, plain]) == [*before, said]
    assert recollection.recognised("bob", [*before, plain]) == [*before, plain]
    assert recollection.recognised("ann", [User("Was it?"), plain]) == [User("Was it?"), plain]
    other = Assistant("Yes.", "Not at all.")
    assert recollection.recognised("ann", [*before, other]) == [*before, other]
