"""A run goes on from where it was, to the last bit, whatever stopped it; and what cannot be trained says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoint import write_checkpoint
from training import logged, losses, write_conversations

from laguna_backend.__main__ import main
from laguna_backend.backend import NANO
from laguna_backend.checkpoint.adapter import read_adapter
from laguna_backend.loading import load
from laguna_backend.model.device import Placement
from laguna_backend.train import command as command_module
from laguna_backend.train import trainer as trainer_module
from laguna_backend.train.figures import Log, forward_work, visible_pairs
from laguna_backend.train.optimizer import Optimizer, Rule, orthogonal
from laguna_backend.train.saving import Saves
from laguna_backend.train.trainer import Plan
from laguna_backend.train.world import World

torch.set_num_threads(1)

CPU = World(torch.device("cpu"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny-laguna"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_conversations(tmp_path_factory.mktemp("data") / "data.jsonl")


FULL = ["--optimizer", "muon", "--rate", "0.003", "--matrix-rate", "0.02", "--weight-decay", "0.01"]
LORA = ["--lora", "3", "--targets", "attention,experts", "--dropout", "0.2", "--rate", "0.01"]


def words(checkpoint: Path, data: Path, out: Path, *more: str) -> list[str]:
    usual = ["--length", "300", "--batch", "2", "--steps", "8", "--save-steps", "3", "--warmup", "2"]
    return ["train", str(checkpoint), "--data", str(data), "--out", str(out), *usual, *more]


def states(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("step-*"))


@pytest.mark.parametrize("quick", [True, False])
def test_where_bfloat16_is_slow_a_model_that_learns_whole_is_multiplied_in_float32(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    quick: bool,
) -> None:  # fmt: skip
    large = Placement(torch.device("cpu"), torch.bfloat16)  # as of a model that is too large for float32
    monkeypatch.setattr(command_module, "place", lambda *_, **__: large)
    monkeypatch.setattr(command_module, "quick_bfloat16", lambda _: quick)
    assert main(words(checkpoint, data, tmp_path / "run", "--steps", "1")) == 0
    assert f"in {'bfloat16' if quick else 'float32'} products" in capsys.readouterr().out


@pytest.mark.parametrize("how", [FULL, LORA], ids=["full", "lora"])
def test_a_run_that_is_gone_on_with_is_the_run_that_never_stopped(
    checkpoint: Path, data: Path, tmp_path: Path, how: list[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(words(checkpoint, data, whole, *how)) == 0
    assert main(words(checkpoint, data, parts, *how)) == 0
    for name in states(parts)[1:]:
        shutil.rmtree(parts / name)  # back to step 6, as if it had been killed after that
    shutil.rmtree(parts / ("checkpoint" if how is FULL else "adapter"))
    assert main(["train", "--resume", str(parts)]) == 0
    assert losses(whole) == losses(parts)
    assert [line["step"] for line in logged(parts)] == list(range(1, 9))
    for file in whole.rglob("*.safetensors"):
        theirs = load_file(parts / file.relative_to(whole))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in load_file(file).items())


def test_the_losses_fall_and_the_log_says_how_it_went(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(words(checkpoint, data, run, *FULL, "--held-out", str(data), "--evaluate-steps", "4")) == 0
    assert losses(run)[-1] < losses(run)[0] - 0.3
    last = logged(run)[-1]
    assert last.keys() >= {"accuracy", "tokens", "learnt", "scale", "gradient", "busiest", "tokens_per_second"}
    assert 0 < last["utilisation"] < 1.5
    measured = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if "held_out" in line]
    assert [line["step"] for line in measured] == [4, 8]
    assert measured[1]["held_out_loss"] < measured[0]["held_out_loss"]
    capsys.readouterr()
    assert main(["eval", str(run / "checkpoint"), "--data", str(data), "--length", "300"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["loss"] == pytest.approx(measured[1]["held_out_loss"], abs=0.02)  # the file is in bfloat16
    assert figures["tokens"] == measured[1]["held_out_tokens"]
    assert load(run / "checkpoint").info.name == "checkpoint"


def test_an_adapter_is_measured_as_it_was_trained(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(words(checkpoint, data, run, *LORA, "--held-out", str(data))) == 0
    assert read_adapter(run / "adapter").base == checkpoint.name
    measured = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    capsys.readouterr()
    assert main(["eval", str(checkpoint), "--data", str(data), "--adapter", str(run / "adapter")]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(measured["held_out_loss"], rel=1e-5)


# Stopping ------------------------------------------------------------------------------------------------


def begin(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "laguna_backend", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def wait_for(process: subprocess.Popen[str], step: int) -> None:
    """Until the run says that it has evaluated this step, or a later one."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith("step ") and int(line.split()[1]) >= step:
            return
    raise AssertionError("the run has ended")


def test_ctrl_c_saves_and_a_kill_takes_back_to_what_was_saved(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    long = ["--steps", "400", "--save-steps", "1000", "--schedule", "constant", "--keep", "2", *LORA]
    long += ["--held-out", str(data), "--evaluate-steps", "1"]
    with begin(words(checkpoint, data, run, *long)) as process:
        wait_for(process, 3)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert f"laguna train --resume {run}" in said
    (state,) = states(run)
    done = int(state.removeprefix("step-"))
    assert len(losses(run)) == done
    with begin(["train", "--resume", str(run), "--save-steps", "2"]) as process:
        wait_for(process, done + 5)
        process.kill()
    lost = len(losses(run))
    kept = int(states(run)[-1].split(".")[0].removeprefix("step-"))
    assert main(["train", "--resume", str(run), "--steps", str(lost + 1)]) == 0
    assert kept > done
    assert main(words(checkpoint, data, whole, *long, "--steps", str(lost + 1))) == 0
    assert losses(run) == losses(whole)


def test_states_that_are_not_whole_are_passed_over_and_old_ones_go(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert main(words(checkpoint, data, run, *LORA, "--keep", "3", "--save-steps", "2")) == 0
    assert states(run) == ["step-00000004", "step-00000006", "step-00000008"]
    expected = losses(run)
    (torn,) = (run / "step-00000008").glob("*.distcp")
    torn.write_bytes(torn.read_bytes()[:-100])
    (run / "step-00000006" / "state.json").write_text("{")
    (run / "step-00000010.part").mkdir()
    saves = Saves(run, CPU)
    assert [state.name for state in saves.whole()] == ["step-00000004"]
    assert main(["train", "--resume", str(run)]) == 0
    assert losses(run) == expected


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    wild = ["--rate", "1e6", "--schedule", "constant", "--save-steps", "1", "--clip", "0", "--warmup", "0"]
    assert (
        main(words(checkpoint, data, run, "--steps", "60", *wild, "--optimizer", "adamw", "--weight-decay", "1")) == 1
    )
    said = capsys.readouterr().err
    assert "at step" in said
    assert f"the last good state is {Saves(run, CPU).whole()[0]}" in said
    assert all(torch.isfinite(torch.tensor(loss)) for loss in losses(run))
    assert not (run / "checkpoint").exists()


# Wrong use -----------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[list[str], str]] = {
    "a bias of an adapter": ([*LORA, "--bias-rate", "0.1"], "--bias-rate"),
    "packed weights that learn": (["--weights", "int8"], "packed weights cannot learn"),
    "a pattern that fits nothing": (["--lora", "2", "--targets", "*.w1"], "no module is called"),
    "a rank of nothing": (["--lora", "0"], "rank 0"),
    "a conversation that is too long": (["--length", "100"], "data.jsonl:"),
    "no such file": (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
    "no such device": (["--device", "abacus"], "abacus"),
    "a share above one": (["--decay", "7"], "decay"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_use_is_told(
    checkpoint: Path, data: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more, expected = WRONG[case]
    assert main(words(checkpoint, data, tmp_path / "run", *more)) == 1
    assert expected in capsys.readouterr().err


def test_a_run_is_not_begun_over_another_nor_gone_on_with_by_other_rules(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", write_conversations(tmp_path / "data.jsonl")
    assert main(words(checkpoint, data, run, *LORA, "--steps", "2")) == 0
    for arguments, expected in (
        (words(checkpoint, data, run, *LORA), "has a run already"),
        (["train", "--resume", str(run), "--batch", "7"], "keeps its --batch"),
        (["train", "--resume", str(tmp_path / "none")], "holds no run"),
    ):
        assert main(arguments) == 1
        assert expected in capsys.readouterr().err
    write_conversations(data, 5)
    assert main(["train", "--resume", str(run)]) == 1
    assert "is not what it was" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["train"], ["train", "somewhere"], ["eval", "somewhere"], ["merge"]])
def test_a_command_without_what_it_needs_explains_itself(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "usage: laguna" in capsys.readouterr().err


# Pieces --------------------------------------------------------------------------------------------------


def test_rates_rise_stay_and_fall() -> None:
    plan = Plan(steps=100, warmup=10, decay=0.5)
    assert [round(plan.scale(step, step / 100), 3) for step in (0, 4, 9, 50, 75, 100)] == [0.1, 0.5, 1, 1, 0.5, 0]
    cosine = Plan(steps=100, warmup=0, decay=1.0, shape="cosine")
    assert [round(cosine.scale(step, step / 100), 3) for step in (0, 50, 100)] == [1, 0.5, 0]
    assert Plan(minutes=1, shape="constant").scale(100, 1.0) == 1
    for wrong in ({}, {"steps": 1, "minutes": 1.0}, {"steps": -1}, {"steps": 1, "decay": 2.0}):
        with pytest.raises(ValueError, match="a run"):
            Plan(**wrong)  # pyright: ignore[reportArgumentType]


def test_muon_moves_along_an_orthogonal_matrix() -> None:
    matrix = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3


def test_adamw_is_torchs_and_decay_is_of_matrices() -> None:
    def parameters() -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return {name: torch.randn(size, generator=generator, requires_grad=True) for name, size in SHAPES.items()}

    mine, theirs = parameters(), parameters()
    optimizer = Optimizer(mine.items(), Rule(rate=0.01, decay=0.1, clip=0.5))
    groups: Any = [{"params": theirs["matrix"], "weight_decay": 0.1}, {"params": theirs["norm"], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98))
    for step in range(3):
        for held in (mine, theirs):
            sum(p.square().sum() * (step + 1) for p in held.values()).backward()  # pyright: ignore
        length = torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5)
        assert optimizer.clipped() == pytest.approx(float(length))
        optimizer.step(1.0)
        reference.step()
        reference.zero_grad()
    assert all(torch.equal(mine[name], theirs[name]) for name in SHAPES)


SHAPES = {"matrix": (4, 6), "norm": (6,)}


def test_a_log_is_taken_back_to_a_step(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.cut(3)
    for step in range(1, 6):
        log.write(step=step, loss=1.0)
    with log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    log.cut(3)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2, 3]


def test_the_work_of_a_step_is_counted() -> None:
    assert [visible_pairs(4, None), visible_pairs(4, 8), visible_pairs(4, 2)] == [10, 10, 7]
    config = load(NANO).engine.laguna.config
    per_token = 2.0 * sum(
        2 * config.hidden_size * (layer.heads + config.kv_heads) * config.head_dim + config.hidden_size * layer.heads
        for layer in config.layers
    )
    per_token += 2.0 * config.hidden_size * (3 * 384 + 7 * (3 * 3 * 128 + 4))
    attention = sum(4.0 * layer.heads * config.head_dim for layer in config.layers)
    assert forward_work(config, [1], 0) == per_token + attention
    assert forward_work(config, [1, 1], 1) == 2 * (per_token + attention) + 2.0 * config.hidden_size * config.vocab_size


@pytest.fixture(autouse=True)
def _fast_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is spent on how fast this machine is, where nothing asks for it."""
    monkeypatch.setattr(trainer_module, "best_rate", lambda *_: 1e12)
