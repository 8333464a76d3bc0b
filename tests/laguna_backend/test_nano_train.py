"""The training run: it learns, and a killed run goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from laguna_backend.backend import NANO
from laguna_backend.nano.optimizer import orthogonal
from laguna_backend.nano.train import Run, arguments, main

torch.set_num_threads(1)


def options(folder: Path, *more: str) -> list[str]:
    base = ["nano", "--out", str(folder), "--batch", "600", "--longest", "200", "--tasks", "1", "--seed", "1"]
    return [*base, *more]


def test_some_steps_lower_the_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(tmp_path, "--steps", "12")) == 0
    assert (tmp_path / "state.pt").exists()
    loss = float(capsys.readouterr().out.split("loss ")[1].split()[0])
    assert loss < 6.45  # guessing among 648 tokens is 6.47, and the mean remembers the first step


def test_a_saved_run_is_restored_to_the_last_bit(tmp_path: Path) -> None:
    chosen = arguments().parse_args(options(tmp_path, "--steps", "3")[1:])
    first = Run(tmp_path, 1, chosen)
    first.train()
    second = Run(tmp_path, 1, chosen)
    second.restore()
    assert (second.steps, second.tokens) == (first.steps, first.tokens)
    for (name, mine), (_, theirs) in zip(first.laguna.weights.named(), second.laguna.weights.named(), strict=True):
        assert torch.equal(mine, theirs), name
    for mine, theirs in zip(first.optimizer.momentum, second.optimizer.momentum, strict=True):
        assert torch.equal(mine, theirs)


def test_muon_moves_along_an_orthogonal_matrix() -> None:
    matrix = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3


def test_a_run_can_begin_with_the_weights_that_ship(tmp_path: Path) -> None:
    chosen = arguments().parse_args(options(tmp_path, "--steps", "1", "--init", str(NANO))[1:])
    run = Run(tmp_path, 1, chosen)
    run.train()
    assert run.loss < 1  # a new model starts at 6.5
