"""The kernels of a CUDA device as machine code for devices that are not there: all of them compile, at the full width
of XS.2, nothing spills, and a block takes no more shared memory than it may have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed: its kernels are not compiled")

BENCH = Path(__file__).parents[2] / "bench" / "compiled.py"
ROOM = {80: 163, 90: 227}
"""KiB of shared memory that a block may have (CUDA C++ Programming Guide, technical specifications)."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("arch", "weights"), [(80, ["bf16", "fp8"]), (90, ["bf16", "fp8", "int4"])])
def test_every_kernel_becomes_machine_code(arch: int, weights: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH), "--json", "--arch", str(arch), "--weights", *weights]
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=390, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    kernels: list[dict[str, Any]] = json.loads(done.stdout)
    assert {kernel["name"] for kernel in kernels} == {
        "add_and_norm_kernel", "few_kernel", "turn_and_store_kernel", "part_kernel", "whole_kernel", "choose_kernel",
        "up_kernel", "down_kernel", "grouped_kernel", "seen_kernel",
    }  # fmt: skip
    step = [kernel for kernel in kernels if kernel["of"] == "bf16 weights, bf16 cache"]
    assert sum(kernel["launches"] for kernel in step) == 1 + 4 * 11 + 1 - 2  # the dense layer has no router
    for kernel in kernels:
        assert kernel["spilled"] == 0, kernel
        assert kernel["shared"] <= ROOM[arch] * 1024, kernel
