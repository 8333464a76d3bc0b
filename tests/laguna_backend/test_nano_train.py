"""laguna-nano is trained as any other model is; its conversations are drawn, and drawn again when a run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from training import losses

from laguna_backend.backend import NANO
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.loading import load
from laguna_backend.nano.train import REST_WEIGHT, Simulator, main
from laguna_backend.nano.vocabulary import nano_tokenizer

torch.set_num_threads(1)


def options(folder: Path, *more: str) -> list[str]:
    return ["--out", str(folder), "--batch", "600", "--longest", "200", "--tasks", "1", "--seed", "1", *more]


def test_some_steps_lower_the_loss_and_the_result_speaks(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(options(run, "--steps", "12", "--export", str(tmp_path / "nano"))) == 0
    assert losses(run)[0] > 6.4  # guessing among 648 tokens is 6.47
    assert losses(run)[-1] < 6.3
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last.keys() >= {"held_out_show", "held_out_edit", "held_out_cannot"}
    assert read_config(tmp_path / "nano") == read_config(NANO)
    assert load(tmp_path / "nano").info.name == "nano"


def test_a_run_that_is_gone_on_with_is_the_run_that_never_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for run in (whole, parts):
        assert main(options(run, "--steps", "3", "--bias-rate", "0.001", "--save-every", "0")) == 0
    shutil.rmtree(parts / "step-00000003")
    assert main(options(parts, "--steps", "3", "--bias-rate", "0.001", "--resume")) == 0
    assert "resumed: step 2" in capsys.readouterr().out
    assert losses(parts) == losses(whole)
    assert main(options(parts, "--steps", "9")) == 1
    assert "has a run already" in capsys.readouterr().err


def test_a_run_can_begin_with_the_weights_that_ship(tmp_path: Path) -> None:
    assert main(options(tmp_path, "--steps", "1", "--init", str(NANO))) == 0
    assert losses(tmp_path)[0] < 1  # a new model starts at 6.5


def test_what_the_assistant_does_not_say_counts_little_and_then_nothing() -> None:
    early, late = (Simulator(nano_tokenizer(), seed=3, size=600, longest=200).step(p)[0] for p in (0.0, 0.9))
    assert torch.equal(early.tokens, late.tokens)
    assert set(late.weights.tolist()) == {1.0, 0.0}
    assert torch.equal(early.weights, torch.where(late.weights == 1, 1.0, REST_WEIGHT))
