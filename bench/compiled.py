"""What the kernels for CUDA become on devices that are not there: `python bench/compiled.py [--arch 90] [--json]`.

Triton compiles without a device. The step of one token is run at the full width of Laguna XS.2 on tensors that have a
shape and no memory, and a prompt's kernels after it: each launch goes as far as the machine code for the device asked
for and no further. Told of each kernel, of the first tiles of those that are tuned: how often the step launches it,
what a thread and a block of it take, and the instructions and the bytes that spill. A kernel that spills, or that takes
more memory than a block has, is slow or does not start.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch

from laguna_backend.bench.slice import pooled_weights, shape_config
from laguna_backend.kernels.triton import experts, flash, narrow
from laguna_backend.model.cache import KVCache, Storage
from laguna_backend.model.captured import Captured, runs
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import joined
from laguna_backend.model.linear import Matrix
from laguna_backend.model.narrow import BLOCK, Fp8, Nibbles
from laguna_backend.model.parameters import Dense, Layer, Sparse, Together, Weights

triton: Any = importlib.import_module("triton")  # which need not be there to check types
GPUTarget = importlib.import_module("triton.backends.compiler").GPUTarget
driver = importlib.import_module("triton.runtime").driver
JITFunction = importlib.import_module("triton.runtime.jit").JITFunction
Autotuner = importlib.import_module("triton.runtime.autotuner").Autotuner

ARCHES = {80: "A100", 89: "RTX 4090", 90: "H100, H200", 120: "RTX 5090"}
STEP = 4
"""Layers of the slice: a full one that is dense, and three sliding ones with experts."""
PROMPT = 2048


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel for one kind of weights or cache."""

    name: str
    of: str
    launches: int
    """in a step of `STEP` layers, or for a layer of a prompt"""
    warps: int
    registers: int
    spilled: int
    """bytes a thread"""
    shared: int
    """bytes a block"""
    instructions: int


class Absent:
    """Stands where Triton's driver of a device would."""

    def __init__(self, arch: int) -> None:
        self.target = GPUTarget("cuda", arch, 32)

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Launches:
    """Every launch from here on is compiled for `arch`, and counted, and not launched. Of tiles that a device would be
    asked for, the first are taken, or all with `every`."""

    def __init__(self, arch: int, *, every: bool) -> None:
        driver.set_active(Absent(arch))
        self.found: dict[tuple[str, str], tuple[str, Any, list[int]]] = {}
        self.of = ""
        compiled, tuned = JITFunction.run, Autotuner.run

        def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
            made = compiled(kernel, *args, grid=grid, warmup=True, **options)
            of, _, times = self.found.setdefault((kernel.__name__, made.hash), (self.of, made, []))
            if of == self.of:
                times.append(1)
            return made

        def choose(tuner: Any, *args: Any, **options: Any) -> Any:
            configs = tuner.configs
            if every:
                for tuner.configs in ([config] for config in configs[1:]):
                    tuned(tuner, *args, **options)
            tuner.configs = configs[:1]
            try:
                return tuned(tuner, *args, **options)
            finally:
                tuner.configs = configs

        JITFunction.run, Autotuner.run = run, choose

    def kernels(self) -> list[Kernel]:
        return [measured(name, of, made, len(times)) for (name, _), (of, made, times) in self.found.items()]


def measured(name: str, of: str, made: Any, launches: int) -> Kernel:
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        use = subprocess.run([tools / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True)
        code = subprocess.run([tools / "nvdisasm", file.name], capture_output=True, text=True, check=True)
    registers, stack = (int(re.search(rf"{word}:(\d+)", use.stdout)[1]) for word in ("REG", "STACK"))  # type: ignore[index]
    instructions = len(re.findall(r"/\*[0-9a-f]{4,}\*/\s+\S", code.stdout))
    return Kernel(name, of, launches, made.metadata.num_warps, registers, stack, made.metadata.shared, instructions)


def narrowed(weights: Weights, kind: str) -> Weights:
    """The same shapes in eight or four bits."""

    def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def pack(w: Matrix) -> Matrix:
        *stack, rows, columns = w.shape
        if kind == "fp8":
            scale = empty(*stack, -(-rows // BLOCK), -(-columns // BLOCK), dtype=torch.float32)
            return Fp8(empty(*stack, rows, columns, dtype=torch.uint8), scale)
        scale, zero = (empty(*stack, rows, columns // 32, dtype=torch.bfloat16) for _ in range(2))
        return Nibbles(empty(*stack, rows, columns // 2, dtype=torch.uint8), scale, zero, columns)

    layers: list[Layer] = []
    for layer in weights.layers:
        mlp, inputs = layer.mlp, layer.inputs
        assert isinstance(inputs, Together)
        if isinstance(mlp, Sparse):
            shared = pack(mlp.shared_gate_up), pack(mlp.shared_down)
            mlp = Sparse(mlp.router, mlp.bias, pack(mlp.gate_up), pack(mlp.down), *shared)
        else:
            mlp = Dense(pack(mlp.gate_up), pack(mlp.down))
        norms = layer.q_norm, layer.k_norm, layer.mlp_norm
        inputs = Together(pack(inputs.rows), inputs.sizes)
        layers.append(Layer(layer.attention_norm, inputs, pack(layer.out), *norms, mlp))
    return Weights(weights.embed, layers, weights.norm, pack(weights.head))


def launch(launches: Launches, kinds: list[str]) -> None:
    """A step with each kind of weights and of cache, and a prompt's experts and attention."""
    config = LagunaConfig.from_dict(shape_config("xs2", STEP))
    plain = joined(pooled_weights(config, device="meta"))
    caches: dict[str, Storage] = {"bf16": "bfloat16", "fp8": "fp8"}
    narrow.ours = Always()
    for kind in kinds:
        weights = plain if kind == "bf16" else narrowed(plain, kind)
        assert runs(config, weights)
        mlp = weights.layers[1].mlp
        assert isinstance(mlp, Sparse)
        for name in caches if kind == "bf16" else ["bf16"]:
            launches.of = f"{kind} weights, {name} cache"
            cache = KVCache(config, storage=caches[name], device="meta")
            cache.planned = 4096
            step = Captured(config, weights, capture=False)
            step.forward(torch.zeros(1, 1, dtype=torch.int64, device="meta"), cache)
        launches.of = f"a prompt, {kind} weights"
        x = torch.empty(PROMPT, config.hidden_size, dtype=torch.bfloat16, device="meta")
        chosen = torch.empty(PROMPT, config.experts_per_token, dtype=torch.int64, device="meta")
        experts.mix_many(x, chosen.bfloat16(), chosen, mlp.gate_up, mlp.down)
    for spec in config.layers[:2]:
        launches.of = "a prompt, " + ("all keys" if spec.window is None else "a window")
        shape = 1, PROMPT, spec.heads, config.head_dim
        q = torch.empty(shape, dtype=torch.bfloat16, device="meta").transpose(1, 2)
        k = torch.empty(1, config.kv_heads, 2 * PROMPT, config.head_dim, dtype=torch.bfloat16, device="meta")
        flash.attend_many(q, k, k, spec.window)


class Always(dict[Any, bool]):
    """Our kernel, and not the library's, whatever the matrix."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: Any) -> bool:
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--arch", type=int, default=90, help="compute capability, times ten: " + str(ARCHES))
    parser.add_argument("--weights", nargs="+", default=["bf16", "fp8", "int4"], choices=["bf16", "fp8", "int4"])
    parser.add_argument("--every", action="store_true", help="all tiles, not only the first of each kernel")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    launches = Launches(options.arch, every=options.every)
    with torch.no_grad():
        launch(launches, options.weights)
    kernels = launches.kernels()
    if options.json:
        print(json.dumps([asdict(kernel) for kernel in kernels]))
        return
    print(f"compute capability {options.arch / 10}, Triton {triton.__version__}, torch {torch.__version__}\n")
    print("| kernel | of | launches | warps | registers | spilled | shared KiB | instructions |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for k in kernels:
        cells = k.name, k.of, k.launches, k.warps, k.registers, k.spilled, f"{k.shared / 1024:.1f}", k.instructions
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
