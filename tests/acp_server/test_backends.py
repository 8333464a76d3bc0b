"""Backends by name."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from test_sessions import connected, start

from acp_server.__main__ import main
from acp_server.agent import Agent
from acp_server.backends import NamedBackend
from acp_server.model import ModelBackend, ModelError, Part, Sampling, Text, User
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_a_short_name_opens_its_backend_at_the_first_need() -> None:
    backend = NamedBackend("scripted")
    assert isinstance(backend, ModelBackend)
    assert "not opened" in repr(backend)
    assert (await backend.ready()).name == "scripted"
    parts = [part async for part in backend.generate([User("say hi")], [], Sampling())]
    assert Text("hi") in parts
    await backend.aclose()


async def test_a_long_name_is_a_function_of_a_module() -> None:
    assert (await NamedBackend("acp_server.backends:open_scripted").ready()).name == "scripted"


async def test_an_unknown_name_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no backend 'gpt'; it is one of laguna, openai, scripted or MODULE:FUNCTION"):
        NamedBackend("gpt")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:open", "no_such_module:open cannot be imported: No module named 'no_such_module'"),
        ("acp_server.backends:no_such_function", "acp_server.backends has no no_such_function"),
    ],
)
async def test_a_backend_that_cannot_be_opened_is_a_model_error_each_time(name: str, words: str) -> None:
    backend = NamedBackend(name)
    for _ in range(2):
        with pytest.raises(ModelError, match=words):
            await backend.ready()
    await backend.aclose()


async def test_options_of_its_own_reach_a_backend() -> None:
    with pytest.raises(ModelError, match=r"weights is 'int3'; it is one of bf16, int8, int4") as failed:
        await NamedBackend("laguna", options={"weights": "int3"}).ready()
    assert failed.value.shown == "the model's backend cannot be opened"
    with pytest.raises(ModelError, match="--backend-option wings: the options of the backend scripted are: none"):
        await NamedBackend("scripted", options={"wings": "2"}).ready()


LOCAL = ["--backend", "openai", "--backend-option", "base_url=http://127.0.0.1:9/v1"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--model", "/no/such/place"], "there is no checkpoint directory /no/such/place"),
        (["--model", "no/such"], "there is no checkpoint directory no/such; `laguna pull no/such` fetches it"),
        (["--backend-option", "adapter=/no/such"], "there is no adapter directory /no/such"),
        (["--backend-option", "wings=2"], "--backend-option wings: the options of the backend laguna are: weights, "),
        (["--backend-option", "weights=int3"], "weights is 'int3'; it is one of bf16, int8, int4"),
        (["--backend", "scripted", "--backend-option", "wings=2"], "the options of the backend scripted are: none"),
        ([*LOCAL, "--backend-option", "wings=2"], "the options of the backend openai are: base_url, model, "),
        (["--backend", "openai"], "base_url is missing"),
        (["--backend", "nosuch:thing"], "--backend: there is no module 'nosuch'"),
        (["--backend", "nosuch.inner:thing"], "--backend: No module named 'nosuch'"),
        (["--unstable", "subagents"], "argument --unstable: invalid choice: 'subagents'"),
        (["--unstable", "plans"], "argument --unstable: invalid choice: 'plans'"),
        (["--unstable", "providers"], "only the backend openai has its model somewhere else"),
    ],
)
def test_what_cannot_be_is_refused_before_the_agent_begins(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POOLSIDE_STANDALONE_BASE_URL", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--sessions", "none"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert "needs an extra" not in said


def test_an_extra_is_named_only_where_a_backend_of_ours_lacks_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "acp_server.openai.backend", None)
    with pytest.raises(ValueError, match="the backend openai needs an extra of acp-laguna"):
        NamedBackend("openai").check()


def secretive(path: str | None = None, *, device: str | None = None) -> ModelBackend:
    """A backend whose troubles are nobody's business."""
    raise KeyError("/home/me/secret/key.txt")


@pytest.mark.parametrize("version", [1, 2])
async def test_a_client_hears_a_sentence_and_a_reference_and_the_log_has_the_rest(
    version: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent(NamedBackend(f"{__name__}:secretive"))
    async with connected(agent) as client:
        session = await start(client, tmp_path, version)
        error = (await client.prompt(session, "say hi"))["error"]
        said = json.dumps(client.received)
    found = re.fullmatch(r"the model's backend cannot be opened \(see (\w{8}) in the agent's log\)", error["message"])
    assert found
    assert not [word for word in ("secret", "KeyError", "secretive") if word in said]
    [line] = [record.getMessage() for record in caplog.records if found[1] in record.getMessage()]
    assert "/home/me/secret/key.txt" in line


@pytest.mark.parametrize("error", [ModelError("no /home/me/x", shown="gone"), ValueError("/home/me/x")])
async def test_the_insides_of_a_model_that_fails_in_its_turn_stay_inside(error: Exception, tmp_path: Path) -> None:
    class Failing(ScriptedBackend):
        async def generate(self, conversation: Any, tools: Any, sampling: Any) -> AsyncGenerator[Part, None]:
            raise error
            yield  # pyright: ignore[reportUnreachable]

    async with connected(Agent(Failing())) as client:
        session = await start(client, tmp_path, 1)
        answer = await client.prompt(session, "say hi")
        assert "in the agent's log)" in answer["error"]["message"]
        said = json.dumps(client.received)
    assert "/home/me" not in said
    assert "ValueError" not in said


@pytest.mark.parametrize("given", [["weights"], ["=int8"], ["weights=int8", "weights=int4"]])
def test_an_option_that_is_no_pair_is_a_wrong_use(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([word for option in given for word in ("--backend-option", option)])
    assert stopped.value.code == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err
