"""How much memory a process takes at most while it loads: every format that checkpoints have, each way of packing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf_checkpoint as g
import numpy as np
import pytest
import quantised_checkpoint as q
import torch
from safetensors.torch import save_file
from test_formats import FORMATS
from tiny_checkpoint import tiny_config
from torch import Tensor

from laguna_backend.checkpoint.weights import released
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import random_weights

torch.set_num_threads(1)

MEASURE = """
import json, os, sys, torch, gguf
from pathlib import Path
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.kept import load_packed
from laguna_backend.checkpoint.weights import load_weights
from laguna_backend.kernels import library
from laguna_backend.model.linear import Packer

def status(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

def load(folder, precision, kept):
    config, packer = read_config(folder), Packer(precision)
    if kept:
        return load_packed(Path(folder), config, packer, dtype=torch.bfloat16)
    return load_weights(folder, config, packer=packer)

torch.set_num_threads(1)
library()
for line in sys.stdin:
    small, big, *how = json.loads(line)
    if os.fork() == 0:  # a process for each, without starting Python and torch again
        load(small, *how)  # whatever is set up once
        before = status("RssAnon") + status("RssShmem")
        resident = load(big, *how).weights.resident()
        # What is mapped from files still is code, which a forked process takes in as it touches it.
        print(resident, status("VmHWM") - status("RssFile") - before, flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(1)
"""

Store = Callable[[Tensor], dict[str, Tensor]]
"""A matrix to what is stored of one of its size, by what follows the module's name."""


def nvfp4(w: Tensor) -> dict[str, Tensor]:
    rows, columns = w.shape
    return {
        "weight_packed": torch.randint(256, (rows, columns // 2), dtype=torch.uint8),
        "weight_scale": torch.ones(rows, columns // 16).to(torch.float8_e4m3fn),
        "weight_global_scale": torch.ones(1),
    }


def fp8(w: Tensor) -> dict[str, Tensor]:
    scale = torch.ones([-(-side // 128) for side in w.shape])
    return {"weight": w.to(torch.float8_e4m3fn), "weight_scale": scale}


def packed(bits: int, group: int) -> Store:
    def store(w: Tensor) -> dict[str, Tensor]:
        rows, columns = w.shape
        return {
            "weight_packed": torch.randint(-(2**31), 2**31, (rows, columns * bits // 32), dtype=torch.int32),
            "weight_scale": torch.full((rows, columns // group), 0.01, dtype=torch.bfloat16),
            "weight_shape": torch.tensor(w.shape),
        }

    return store


INT8 = {"num_bits": 8, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
STORED: dict[str, tuple[Store, dict[str, Any]]] = {
    "bf16": (lambda w: {"weight": w}, {}),
    "nvfp4": (nvfp4, FORMATS["nvfp4"][1]),
    "fp8": (fp8, FORMATS["fp8, blocks of 128"][1]),
    "int4": (packed(4, 32), FORMATS["int4, groups of 32"][1]),
    "int8": (packed(8, 128), q.compressed("pack-quantized", INT8)),
}
Model = tuple[dict[str, Any], dict[str, Tensor]]


def model(size: int, experts: int) -> Model:
    inner = dict.fromkeys(("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"), 256)
    raw = tiny_config(hidden_size=size, num_experts=experts, head_dim=64, **inner)
    return raw, dict(released(random_weights(LagunaConfig.from_dict(raw), dtype=torch.bfloat16)))


def write(model: Model, form: str, folder: Path) -> Path:
    """A model with its experts in a format. Their numbers are any; their sizes are right."""
    raw, tensors = model
    folder.mkdir()
    if form not in STORED:
        write_gguf(model, g.Kind[form], folder / "model.gguf")
        return folder
    store, declared = STORED[form]
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, expert = name.removesuffix(".weight"), ".experts." in name and tensor.dim() == 2
        kept |= {f"{module}.{part}": value for part, value in store(tensor).items()} if expert else {name: tensor}
    save_file({name: tensor.contiguous() for name, tensor in kept.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(raw | ({"quantization_config": declared} if declared else {})))
    return folder


def write_gguf(model: Model, kind: g.Kind, path: Path) -> None:
    raw, tensors = model
    blocks: dict[str, tuple[np.ndarray, g.Kind]] = {}
    for name, array in g.stacked(tensors).items():
        if array.ndim == 3:  # a layer's experts
            rows = g.random_blocks(kind, array.shape[0] * array.shape[1], array.shape[2], seed=1)
            blocks[name] = rows.reshape(*array.shape[:2], -1), kind
        else:
            blocks[name] = array, g.Kind.F32
    g.write(path, raw, blocks)
    (path.parent / "config.json").write_text(json.dumps(raw))


@pytest.fixture(scope="module")
def models() -> tuple[Model, Model]:
    return model(256, 2), model(512, 96)


@pytest.fixture(scope="module")
def measuring() -> Iterator[subprocess.Popen[str]]:
    # The few MB that glibc keeps of what was freed are the same for any model, and much only for one as small as this.
    frugal = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "65536")
    command, pipe = [sys.executable, "-c", MEASURE], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | frugal, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=60) == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize(
    ("form", "precision", "loads"),
    [
        *((form, "bf16", 1) for form in (*STORED, "Q8_0", "Q4_K")),
        ("bf16", "int8", 1),
        ("bf16", "int4", 1),
        ("int4", "int4", 1),
        ("Q4_K", "int4", 1),
        ("bf16", "int4", 2),  # the first keeps what it packs, the second reads that
    ],
)
def test_loading_takes_hardly_more_memory_than_the_model(
    tmp_path: Path,
    models: tuple[Model, Model],
    measuring: subprocess.Popen[str],
    form: str,
    precision: str,
    loads: int,
) -> None:
    folders = [str(write(each, form, tmp_path / f"{size}")) for size, each in enumerate(models)]
    assert measuring.stdin
    assert measuring.stdout
    for _ in range(loads):
        print(json.dumps([*folders, precision, loads > 1]), file=measuring.stdin, flush=True)
        resident, grown = map(int, measuring.stdout.readline().split())
        assert resident > {"bf16": 150e6, "int8": 75e6, "int4": 45e6}[precision]
        assert grown < 1.1 * resident
    assert len(list(Path(folders[1]).glob("packed-*"))) == loads - 1
