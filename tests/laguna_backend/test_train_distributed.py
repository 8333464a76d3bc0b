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


FORKED = """
import os, signal, socket, sys, torch, torch._dynamo
from laguna_backend.__main__ import main
from laguna_backend.train import command
torch.set_num_threads(1)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
ranks = []
for rank in "01":
    if (child := os.fork()) == 0:
        try:
            os.environ["RANK"] = rank
            code = main(sys.argv[1:])
            sys.stdout.flush()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        os._exit(code)
    ranks.append(child)
while ranks:
    ended, status = os.wait()
    ranks.remove(ended)
    if status:  # the other would wait for it
        for rank in ranks:
            os.kill(rank, signal.SIGKILL)
        sys.exit(1)
"""


def on_two(*arguments: str, torchrun: bool) -> None:
    """A command in two processes: by `torchrun`, or forked from one that has torch already, which costs less."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "laguna_backend"]
    command = [sys.executable, *(launcher if torchrun else ["-c", FORKED]), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
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
    on_two(*begin, "--out", str(together), "--steps", "2", torchrun="--lora" not in how)
    assert main(["train", "--resume", str(together), "--steps", "4"]) == 0
    if "--lora" in how:
        on_two("train", "--resume", str(together), "--steps", "5", torchrun=False)
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
