"""`laguna train` beside transformers, and PEFT for an adapter: `python bench/training.py [--steps N] [--kind KIND]`.

A Laguna of random weights, the same for all, learns conversations that are made of this repository's own sources: the
same documents in the same order and batches, AdamW with the same rates, float32, two threads. Each run is a process of
its own; transformers gets a step's documents as one padded batch, as its users give it them, and its fastest way to run
experts. Told are tokens a second (the median of steps after the first two; padding does not count), the most memory
above that of a process which has imported everything, and the losses, which have to agree.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from wire import conditions, show

from laguna_backend.checkpoint.adapter import Adapter, save_adapter
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.weights import load_weights, save_checkpoint
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import random_weights
from laguna_backend.train import command
from laguna_backend.train.network import Network

ROOT = Path(__file__).parents[1]
NANO = ROOT / "laguna_backend" / "nano" / "checkpoint"
FULL, SLIDING = "full_attention", "sliding_attention"
LENGTH, BATCH, RANK = 1024, 4, 8
OURS = "laguna train"
KINDS: dict[str, list[str]] = {"full": ["--bias-rate", "0"], "LoRA": ["--lora", str(RANK)]}


def shape() -> dict[str, Any]:
    nano = json.loads((NANO / "config.json").read_text())
    return nano | {
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_attention_heads_per_layer": [6, 8, 8, 8, 6, 8],
        "num_key_value_heads": 2,
        "head_dim": 64,
        "layer_types": [FULL, SLIDING, SLIDING, SLIDING, FULL, SLIDING],
        "mlp_layer_types": ["dense", *["sparse"] * 5],
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 192,
        "shared_expert_intermediate_size": 192,
        "sliding_window": 128,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            FULL: {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5},
            SLIDING: {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0},
        },
    }


def prepare(folder: Path) -> None:
    """The checkpoint, and conversations that fill more than half of a pack each: a pack is one document."""
    base = folder / "base"
    shutil.copytree(NANO, base)
    (base / "config.json").write_text(json.dumps(shape()))
    save_checkpoint(random_weights(LagunaConfig.from_dict(shape()), seed=1), base)
    text = "".join(path.read_text() for path in sorted((ROOT / "laguna_backend").rglob("*.py")))
    size = 1000
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Part {number}"},
                {"role": "assistant", "content": text[number * size : (number + 1) * size]},
            ]
        }
        for number in range(120)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def options(folder: Path, kind: str, steps: int) -> list[str]:
    usual = [str(folder / "base"), "--data", str(folder / "data.jsonl"), "--out", str(folder / f"ours-{kind}")]
    usual += ["--length", str(LENGTH), "--batch", str(BATCH), "--steps", str(steps), "--rate", "1e-3"]
    usual += ["--schedule", "constant", "--warmup", "5", "--dtype", "float32", "--threads", "2"]
    return [*usual, *KINDS[kind]]


def status(field: str) -> int:
    """Bytes, as Linux tells them of this process."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(field))


def ours(folder: Path, kind: str, steps: int) -> list[dict[str, Any]]:
    assert command.main(options(folder, kind, steps)) == 0
    lines = (folder / f"ours-{kind}" / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def theirs(folder: Path, kind: str, steps: int, experts: str) -> list[dict[str, Any]]:
    """The same run, in a loop around transformers' model; the packs, the plan and the adapter's beginning are ours."""
    transformers: Any = importlib.import_module("transformers")
    torch.set_num_threads(2)
    chosen = command.chosen([*options(folder, kind, steps), "--out", str(folder / f"plan-{kind}-{experts}")])
    run = command.prepared(chosen, command.World(torch.device("cpu")), torch.float32)
    source, plan, rule = run.trainer.source, run.trainer.plan, run.trainer.optimizer.rule
    del run
    model: Any = transformers.LagunaForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    model.set_experts_implementation(experts)
    if kind == "LoRA":
        peft: Any = importlib.import_module("peft")
        model = peft.PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    model.train()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer: Any = torch.optim.AdamW(learning, lr=rule.rate, betas=rule.betas, weight_decay=0.0)
    log: list[dict[str, Any]] = []
    for step in range(steps):
        packs = source.step(step / steps)
        assert all(len(pack.lengths) == 1 for pack in packs)
        begun = time.perf_counter()
        longest = max(len(pack.tokens) for pack in packs)

        def padded(name: str, packs: Any = packs, longest: int = longest) -> torch.Tensor:
            return torch.stack([F.pad(getattr(pack, name), (0, longest - len(pack.tokens))) for pack in packs])

        mask = torch.stack([torch.arange(longest) < len(pack.tokens) for pack in packs]).long()
        logits = model(padded("tokens"), attention_mask=mask, use_cache=False).logits
        losses = F.cross_entropy(logits.flatten(0, 1), padded("targets").flatten(), reduction="none")
        weights = padded("weights").flatten()
        loss = (losses * weights).sum() / weights.sum()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(learning, rule.clip)
        for group in optimizer.param_groups:
            group["lr"] = rule.rate * plan.scale(step, step / steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds, tokens = time.perf_counter() - begun, sum(len(pack.tokens) for pack in packs)
        log.append({"loss": float(loss.detach()), "tokens": tokens, "tokens_per_second": tokens / seconds})
    return log


def begin_adapter(folder: Path) -> None:
    """An adapter as ours begins, in PEFT's files, so that both begin alike."""
    chosen = command.chosen(options(folder, "LoRA", 1))
    lora = command.Lora(RANK, 2.0 * RANK, 0.0, chosen.targets.split(","), chosen.seed)
    config = read_config(folder / "base")
    network = Network(config, load_weights(folder / "base", config).weights, lora=lora, dtype=torch.float32)
    save_adapter(Adapter(network.adapter(), RANK, 2.0 * RANK), folder / "adapter")


def child(arguments: argparse.Namespace) -> None:
    folder, who, kind = Path(arguments.folder), arguments.who, arguments.kind
    if who != OURS:
        importlib.import_module("transformers")
        importlib.import_module("peft")
    before = status("VmRSS")
    steps = arguments.steps
    log = ours(folder, kind, steps) if who == OURS else theirs(folder, kind, steps, who.partition(", ")[2])
    (folder / "result.json").write_text(json.dumps({"log": log, "memory": status("VmHWM") - before}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    parser.add_argument("--kind", choices=tuple(KINDS), help="only this one")
    for name in ("--folder", "--who"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        child(arguments)
        return
    told, found = conditions(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as made:
        prepare(Path(made))
        begin_adapter(Path(made))
        for kind in [arguments.kind] if arguments.kind else KINDS:
            for who in (OURS, "transformers, eager", "transformers, grouped_mm"):
                process = [sys.executable, __file__, "--folder", made, "--who", who, "--kind", kind]
                process += ["--steps", str(arguments.steps)]
                subprocess.run(process, check=True, timeout=280, stdout=subprocess.DEVNULL)
                found.append({"who": who, "kind": kind, **json.loads((Path(made) / "result.json").read_text())})
    rows = [row(one, next(other for other in found if other["kind"] == one["kind"])) for one in found]
    show("Training", rows, told, [], arguments.json, found)


def row(one: dict[str, Any], mine: dict[str, Any]) -> dict[str, str]:
    log, paces = one["log"], [line["tokens_per_second"] for line in one["log"][2:]]
    apart = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(log, mine["log"], strict=True))
    return {
        "what": f"{one['kind']}: {one['who']}",
        "tokens/s": f"{statistics.median(paces):.0f}",
        "least": f"{min(paces):.0f}",
        "most": f"{max(paces):.0f}",
        "memory, MiB": f"{one['memory'] / 2**20:.0f}",
        "first loss": f"{log[0]['loss']:.4f}",
        "last loss": f"{log[-1]['loss']:.4f}",
        "farthest from ours": f"{apart:.1e}",
    }


if __name__ == "__main__":
    main()
