"""The simulated workspace that laguna-nano is trained in answers as the agent's real tools do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from acp_server.action import ToolProblem
from acp_server.tools import Toolbox
from acp_server.workspace.workspace import Workspace
from laguna_backend.nano.evaluate import held_out_task, main, new_task
from laguna_backend.nano.names import Names
from laguna_backend.nano.tasks import FAMILIES, play

ON_DISK = [family for family in FAMILIES if family != "run"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def answer(toolbox: Toolbox, name: str, arguments: dict[str, object]) -> str:
    async def report(_: object) -> None:
        pass

    try:
        action = await toolbox.prepare(name, arguments)
        return (await action.run(report)).text
    except ToolProblem as problem:
        return f"error: {problem}"


@pytest.mark.anyio
@pytest.mark.parametrize("family", ON_DISK)
async def test_the_simulator_and_the_real_tools_say_the_same(family: str, tmp_path: Path) -> None:
    names = Names(random.Random(family), held_out=True)
    for number in range(12):
        directory = tmp_path / str(number)
        directory.mkdir()
        task = new_task(names, family, directory)
        toolbox = Toolbox(Workspace(directory))
        for step in play(task):
            if step.call:
                name, arguments = step.call
                assert await answer(toolbox, name, arguments) == step.response, task.prompt


@pytest.mark.anyio
async def test_a_command_ends_as_the_simulator_says(tmp_path: Path) -> None:
    names = Names(random.Random(5), held_out=True)
    for number in range(6):
        directory = tmp_path / str(number)
        directory.mkdir()
        task = held_out_task(names, "run", directory)
        [step, _] = play(task)
        assert step.call
        real = await answer(Toolbox(Workspace(directory)), step.call[0], step.call[1])
        assert real.splitlines()[0] == step.response.splitlines()[0], task.prompt


def test_no_tasks_are_no_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nano", "--tasks", "0"])
    assert "--tasks is 0" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_told_before_anything_begins(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        main(["nano", "--tasks", "1", "--model", str(tmp_path / "nowhere")])
    assert "there is no checkpoint directory" in capsys.readouterr().err
