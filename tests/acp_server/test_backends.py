"""Backends by name."""

from __future__ import annotations

import pytest

from acp_server.__main__ import main
from acp_server.backends import NamedBackend
from acp_server.model import ModelBackend, ModelError, Sampling, Text, User

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
        ("no_such_module:open", "No module named 'no_such_module'; no_such_module needs an extra"),
        ("acp_server.backends:no_such_function", "the backend acp_server.backends:no_such_function cannot be opened"),
    ],
)
async def test_a_backend_that_cannot_be_opened_is_a_model_error_each_time(name: str, words: str) -> None:
    backend = NamedBackend(name)
    for _ in range(2):
        with pytest.raises(ModelError, match=words):
            await backend.ready()
    await backend.aclose()


async def test_options_of_its_own_reach_a_backend() -> None:
    with pytest.raises(ModelError, match=r"cannot be opened: weights is 'int3'; it is one of bf16, int8, int4"):
        await NamedBackend("laguna", options={"weights": "int3"}).ready()
    with pytest.raises(ModelError, match="unexpected keyword argument 'wings'"):
        await NamedBackend("scripted", options={"wings": "2"}).ready()


@pytest.mark.parametrize("given", [["weights"], ["=int8"], ["weights=int8", "weights=int4"]])
def test_an_option_that_is_no_pair_is_a_wrong_use(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([word for option in given for word in ("--backend-option", option)])
    assert stopped.value.code == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err
