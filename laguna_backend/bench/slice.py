"""`laguna bench`: speed of a few layers of the real width, with random weights, beside peers on the same weights.

The slice has Laguna XS.2's layers in its order (full, sliding, sliding, sliding, …; the first one dense) and its
vocabulary. What decides speed at this size is how many bytes a token reads and how well they are read, so every figure
is also told as a share of the memory's measured read bandwidth. Random weights route uniformly; answers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from ..backend import GROUPS, PRECISIONS, STORAGES, group_of
from ..model.cache import KVCache, Storage
from ..model.config import ConfigError, LagunaConfig
from ..model.device import keep_freed_memory, place, roomy
from ..model.forward import Apart, Dense, Laguna, Layer, Sparse, Together, Weights, joined
from ..model.linear import Packer, Stack, tensors_of
from .timing import CLOCKS, read_bandwidth, timed

LONGEST_PASS = 2048
"""Tokens of a prompt that are run at once: what a pass holds beside them is bounded."""
YARN = {
    "rope_type": "yarn",
    "rope_theta": 5e5,
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "beta_fast": 64.0,
    "beta_slow": 1.0,
    "partial_rotary_factor": 0.5,
    "attention_factor": 1.3465735902799727,  # what llama.cpp computes, whatever the file says
}
SHAPES: Mapping[str, dict[str, Any]] = {
    "xs2": {
        "hidden_size": 2048, "intermediate_size": 8192, "head_dim": 128, "num_key_value_heads": 8,
        "num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512, "sliding_window": 512, "vocab_size": 100_352,
        "heads": (48, 64),
    },
    "tiny": {  # for tests: the same in small
        "hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_key_value_heads": 2,
        "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64, "sliding_window": 32, "vocab_size": 512,
        "heads": (6, 8),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """Of one engine: prefill of `prompt` tokens, and one token at a time after `context` of them."""

    name: str
    prefill: float | None
    """tokens a second"""
    decode: float
    """milliseconds a token, median"""
    fastest: float
    slowest: float
    megabytes: float | None = None
    """that a token reads, weights and cache"""


def shape_config(shape: str, layers: int) -> dict[str, Any]:
    """A `config.json` of the first `layers` layers of a shape."""
    raw = dict(SHAPES[shape])
    full, sliding = raw.pop("heads")
    kinds = ["full_attention" if index % 4 == 0 else "sliding_attention" for index in range(layers)]
    return {
        "model_type": "laguna",
        "architectures": ["LagunaForCausalLM"],
        **raw,
        "num_hidden_layers": layers,
        "num_attention_heads": full,
        "num_attention_heads_per_layer": [full if kind == "full_attention" else sliding for kind in kinds],
        "layer_types": kinds,
        "mlp_layer_types": ["dense", *["sparse"] * (layers - 1)],
        "moe_routed_scaling_factor": 2.5,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131_072,
        "gating": True,
        "eos_token_id": [2, 24],
        "bos_token_id": 2,
        "rope_parameters": {
            "full_attention": YARN,
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0},
        },
    }


def pooled_weights(config: LagunaConfig, seed: int = 0, device: torch.device | str = "cpu") -> Weights:
    """Random bfloat16 weights, cut from one pool of normal numbers: billions of them in seconds."""
    generator = torch.Generator().manual_seed(seed)
    size = min(1 << 25, 8 * config.vocab_size * config.hidden_size)
    pool = torch.randn(size, generator=generator).bfloat16().to(device)
    hidden, dim = config.hidden_size, config.head_dim

    def matrix(*shape: int) -> Tensor:
        out = roomy(*shape, dtype=torch.bfloat16, device=device)
        for piece in out.view(-1).split(len(pool) // 2):
            at = int(torch.randint(0, len(pool) - len(piece), (), generator=generator))
            piece.copy_(pool[at : at + len(piece)])
        return out.mul_(shape[-1] ** -0.5)

    def ones(size: int) -> Tensor:
        return torch.ones(size, dtype=torch.bfloat16, device=device)

    layers: list[Layer] = []
    for spec in config.layers:
        heads, kv = spec.heads * dim, config.kv_heads * dim
        inner, shared, count = config.expert_size, config.shared_expert_size, config.experts
        mlp = (
            Sparse(
                matrix(count, hidden),
                torch.zeros(count, dtype=torch.bfloat16, device=device),
                matrix(count, 2 * inner, hidden),
                matrix(count, hidden, inner),
                matrix(2 * shared, hidden),
                matrix(hidden, shared),
            )
            if spec.sparse
            else Dense(matrix(2 * config.intermediate_size, hidden), matrix(hidden, config.intermediate_size))
        )
        inputs = Apart(*matrix(heads + 2 * kv + spec.heads, hidden).split((heads, kv, kv, spec.heads)))
        layers.append(Layer(ones(hidden), inputs, matrix(hidden, heads), ones(dim), ones(dim), ones(hidden), mlp))
    return Weights(matrix(config.vocab_size, hidden), layers, ones(hidden), matrix(config.vocab_size, hidden))


def packed(weights: Weights, packer: Packer) -> Weights:
    """The same weights, packed as `load_weights` packs them."""

    def stack(w: Any) -> Any:
        gathered = Stack(len(w))
        for matrix in w:
            gathered.add(packer(matrix))
        return gathered.whole()

    layers: list[Layer] = []
    for layer in joined(weights).layers:
        mlp, inputs = layer.mlp, layer.inputs
        assert isinstance(inputs, Together)
        plain: Any = mlp
        layers.append(
            Layer(
                layer.attention_norm,
                Together(packer(tensors_of(inputs.rows)[0]), inputs.sizes),
                packer(tensors_of(layer.out)[0]),
                layer.q_norm,
                layer.k_norm,
                layer.mlp_norm,
                Dense(packer(plain.gate_up), packer(plain.down))
                if isinstance(mlp, Dense)
                else Sparse(
                    mlp.router,
                    mlp.bias,
                    stack(mlp.gate_up),
                    stack(mlp.down),
                    packer(plain.shared_gate_up),
                    packer(plain.shared_down),
                ),
            )
        )
    return Weights(weights.embed, layers, weights.norm, packer(tensors_of(weights.head)[0], packer.head))


def bytes_a_token(config: LagunaConfig, weights: Weights, cache: KVCache, context: int) -> int:
    """What one token reads: every matrix but the experts that are not chosen, one row of the embedding, the cache."""
    total = 0
    for name, tensor in weights.named():
        size = tensor.numel() * tensor.element_size()
        if name == "embed":
            size //= config.vocab_size
        elif name.endswith((".mlp.gate_up", ".mlp.down")) and tensor.shape[0] == config.experts:
            size = size * config.experts_per_token // config.experts
        total += size
    for spec, stores in zip(config.layers, cache.stores, strict=True):
        held = context if spec.window is None else min(context, spec.window)
        total += sum(held * store.heads * store.dim * store.rows.element_size() for store in stores)
    return total


def filled_cache(config: LagunaConfig, storage: Storage, context: int, device: torch.device | str = "cpu") -> KVCache:
    """A cache of `context` tokens that were never computed."""
    cache = KVCache(config, storage=storage, device=device)
    generator = torch.Generator(device).manual_seed(1)
    for start in range(0, context, 512):
        many = min(512, context - start)
        for layer in range(len(config.layers)):
            shape = 1, config.kv_heads, many, config.head_dim
            k, v = (torch.randn(shape, generator=generator, device=device) for _ in range(2))
            cache.extend(layer, k.bfloat16(), v.bfloat16())
        cache.advance(many)
    return cache


def measure(
    config: LagunaConfig,
    weights: Weights,
    *,
    name: str,
    storage: Storage,
    context: int,
    prompt: int,
    steps: int,
    runs: int,
    clock: str,
) -> Figures:
    """Our own figures."""
    laguna = Laguna(config, joined(weights))
    device = weights.embed.device
    ids = torch.arange(prompt, device=device)[None] % config.vocab_size

    def prefill() -> None:
        cache = KVCache(config, storage=storage, device=device)
        for piece in ids.split(LONGEST_PASS, dim=1):
            laguna.forward(piece, cache, last_only=True)

    with torch.inference_mode():
        pace = prompt / statistics.median(timed(prefill, runs, clock, device))
        cache = filled_cache(config, storage, context, device)
        token = torch.tensor([[5]], device=device)

        def step() -> None:
            token.copy_(laguna.forward(token, cache, last_only=True)[0, -1].argmax())

        for _ in range(2):
            step()
        seconds = timed(step, steps, clock, device)
    read = bytes_a_token(config, laguna.weights, cache, context)
    return figures(name, pace, seconds, read)


def figures(name: str, prefill: float | None, seconds: Sequence[float], read: float | None = None) -> Figures:
    ms = sorted(1000 * value for value in seconds)
    return Figures(name, prefill, statistics.median(ms), ms[0], ms[-1], read / 1e6 if read else None)


# The command ---------------------------------------------------------------------------------------------


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="laguna bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="xs2")
    parser.add_argument("--layers", type=int, default=4, metavar="N")
    parser.add_argument("--weights", choices=PRECISIONS, default="bf16")
    parser.add_argument("--group", type=int, choices=tuple(map(int, GROUPS)), help="INT4's groups; default 32")
    parser.add_argument("--kv", choices=STORAGES, default="bf16")
    parser.add_argument("--context", type=int, default=512, metavar="N", help="tokens before those that are timed")
    parser.add_argument("--prompt", type=int, default=512, metavar="N", help="tokens of the prefill that is timed")
    parser.add_argument("--peers", default="", metavar="LIST", help="transformers, llama.cpp or both, with a comma")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: this process's time, of one thread")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    given = parser.parse_args(argv)
    if given.clock == "processor" and given.threads != 1:
        parser.error("--clock processor is for --threads 1: threads that wait for one another compute, too")
    try:
        given.group = group_of(given.weights, given.group)
    except ValueError as error:
        parser.error(f"--group: {error}")
    try:
        given.device = place(given.device, "bfloat16", weights=given.weights).device
    except ConfigError as error:
        parser.error(f"--device: {error}")
    if given.device.type != "cpu" and (given.clock != "wall" or "llama.cpp" in given.peers):
        parser.error("on an accelerator seconds are those on the wall, and llama.cpp is no peer there")
    given.peers = [peer for peer in given.peers.split(",") if peer]
    for name in ("layers", "context", "prompt", "threads"):
        if not 0 < getattr(given, name) <= 131_072:
            parser.error(f"--{name} is {getattr(given, name)}")
    if unknown := set(given.peers) - {"transformers", "llama.cpp"}:
        parser.error(f"--peers: {', '.join(sorted(unknown))} is not known; known are transformers and llama.cpp")
    return given


def main(argv: Sequence[str]) -> int:
    """Our figures are printed in any case; the status is 1 where those of a peer that was asked for are missing."""
    given = arguments(argv)
    torch.set_num_threads(given.threads)
    raw = shape_config(given.shape, given.layers)
    config = LagunaConfig.from_dict(raw)
    steps, runs = (12, 2) if given.quick else (48, 3)
    bandwidth = read_bandwidth(given.clock, given.device)
    weights = pooled_weights(config, device=given.device)
    packer = Packer(given.weights, given.group, narrow=given.device.type != "cpu")
    settings: dict[str, Any] = {"context": given.context, "prompt": given.prompt, "steps": steps, "runs": runs}
    settings["clock"] = given.clock
    rows: list[Figures] = []
    status = 0
    # The peers come first: what we tell the C library about memory stays told for the process.
    for peer in given.peers:
        from . import peers as bench_peers

        try:
            run = bench_peers.transformers_figures if peer == "transformers" else bench_peers.llama_figures
            rows += run(raw, weights, precision=given.weights, threads=given.threads, **settings)
        except bench_peers.Unavailable as error:
            print(f"laguna: no figures of {peer}: {error}", file=sys.stderr)
            status = 1
    keep_freed_memory()
    ours = weights if given.weights == "bf16" else packed(weights, packer)
    name = f"ours, {given.weights}"
    rows.insert(0, measure(config, ours, name=name, storage=STORAGES[given.kv], **settings))
    bandwidth = statistics.median((bandwidth, read_bandwidth(given.clock, given.device)))
    conditions = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "shape": f"{given.shape}, {given.layers} layers, random weights",
        "weights": given.weights if given.weights != "int4" else f"int4, groups of {given.group}",
        "kv": given.kv,
        "context": given.context,
        "prompt": given.prompt,
        "device": device_name(given.device),
        "threads": given.threads,
        "clock": given.clock,
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "read_bandwidth_gb_s": round(bandwidth, 1),
        "weights_rms_error": round(packer.error(), 5),
    }
    if given.json:
        print(json.dumps(conditions | {"figures": [asdict(row) for row in rows]}))
    else:
        print(", ".join(f"{name} {value}" for name, value in conditions.items()))
        print(table(rows, bandwidth))
    return status


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def table(rows: Sequence[Figures], bandwidth: float) -> str:
    """Markdown. `x` is how many times as fast we are; the share is of the bandwidth measured in the same run."""
    ours = rows[0]
    lines = [
        "| engine | prefill tokens/s | ours x | decode ms/token | fastest to slowest | ours x | read bandwidth |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        prefill = f"{row.prefill:,.0f}" if row.prefill else "–"
        ratio = f"{ours.prefill / row.prefill:.2f}" if row.prefill and ours.prefill else "–"
        share = f"{row.megabytes / row.decode / bandwidth:.0%}" if row.megabytes else "–"
        lines.append(
            f"| {row.name} | {prefill} | {ratio} | {row.decode:.1f} | {row.fastest:.1f} to {row.slowest:.1f} "
            f"| {row.decode / ours.decode:.2f} | {share} |"
        )
    return "\n".join(lines)
