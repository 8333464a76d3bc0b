"""Two processes make the run that one makes, and either goes on with what the other saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoint import write_checkpoint
from training import losses, write_conversations

from laguna_backend.__main__ import main

torch.set_num_threads(1)


def on_two(*arguments: str) -> None:
    """`torchrun` with two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "laguna_backend", *arguments], capture_output=True, text=True, timeout=110,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "on 2 process(es)" in done.stdout


@pytest.mark.parametrize(
    "how",
    [
        ["--optimizer", "muon", "--weight-decay", "0.1"],
        ["--lora", "3", "--targets", "attention,experts,shared", "--recompute"],
    ],
    ids=["full", "adapter"],
)
def test_two_processes_make_the_run_of_one_and_take_turns_with_it(tmp_path: Path, how: list[str]) -> None:
    checkpoint, data = write_checkpoint(tmp_path / "base"), write_conversations(tmp_path / "data.jsonl", 5)
    together, alone = tmp_path / "together", tmp_path / "alone"
    usual = ["--length", "300", "--rate", "0.01", "--warmup", "1", "--schedule", "constant", "--held-out", str(data)]
    # A batch of three: in each step one of the two processes has a pack of which nothing is learnt.
    begin = ["train", str(checkpoint), "--data", str(data), "--batch", "3", "--save-steps", "1", *usual, *how]
    on_two(*begin, "--out", str(together), "--steps", "2")
    assert main(["train", "--resume", str(together), "--steps", "4"]) == 0
    if "--lora" in how:
        on_two("train", "--resume", str(together), "--steps", "5")
    assert main([*begin, "--out", str(alone), "--steps", str(len(losses(together)))]) == 0
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)
    held = [json.loads((run / "log.jsonl").read_text().splitlines()[-1]) for run in (together, alone)]
    assert held[0]["held_out_loss"] == pytest.approx(held[1]["held_out_loss"], rel=1e-4)
    file = "adapter/adapter_model.safetensors" if "--lora" in how else "checkpoint/model.safetensors"
    mine, theirs = load_file(together / file), load_file(alone / file)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        moved = (tensor.float() - theirs[name].float()).norm()
        assert float(moved) <= 0.01 * float(theirs[name].float().norm()) + 1e-6, name
