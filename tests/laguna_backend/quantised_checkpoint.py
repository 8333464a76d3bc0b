"""Checkpoints quantised in each released format, by plain numpy that shares no code with the loader.

Numbers are looked up in tables that are made from the formats' definitions; rounding is a search for the nearest one,
ties to the even code.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

Stored = dict[str, torch.Tensor]
Quantiser = Callable[[np.ndarray], tuple[Stored, np.ndarray]]
"""A matrix to its stored parts, by what follows the module's name, and to what they mean."""


def e4m3_value(code: int) -> float:
    """Sign, four bits of exponent with bias 7, three of mantissa; all ones is NaN (OCP FP8 v1.0, 5.3)."""
    sign, exponent, mantissa = -1.0 if code & 128 else 1.0, code >> 3 & 15, code & 7
    if code & 127 == 127:
        return math.nan
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (8 + mantissa) * 2.0 ** (exponent - 10)


def e2m1_value(code: int) -> float:
    sign, exponent, mantissa = -1.0 if code & 8 else 1.0, code >> 1 & 3, code & 1
    return sign * (mantissa * 0.5 if exponent == 0 else (2 + mantissa) * 2.0 ** (exponent - 2))


E4M3 = np.array([e4m3_value(code) for code in range(256)])
E2M1 = np.array([e2m1_value(code) for code in range(16)])


def nearest(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Codes of the values nearest to x, ties to the even code; `values` are those of the codes without a sign."""
    size = np.abs(np.asarray(x, np.float64))
    above = np.clip(np.searchsorted(values, size), 1, len(values) - 1)
    low, high = size - values[above - 1], values[above] - size
    up = (high < low) | ((high == low) & (above % 2 == 0))
    return np.where(up, above, above - 1)


def to_e4m3(x: np.ndarray) -> np.ndarray:
    return (nearest(x, E4M3[:127]) | np.where(np.signbit(x), 128, 0)).astype(np.uint8)


def to_e2m1(x: np.ndarray) -> np.ndarray:
    return (nearest(x, E2M1[:8]) | np.where(np.signbit(x), 8, 0)).astype(np.uint8)


def blocks(w: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The largest magnitude of each block, and for every element the row and column of its block."""
    row, column = np.arange(w.shape[0]) // rows, np.arange(w.shape[1]) // columns
    largest = np.zeros((row[-1] + 1, column[-1] + 1))
    np.maximum.at(largest, (row[:, None], column[None, :]), np.abs(w))
    return largest, (row[:, None], column[None, :])


def fp8(rows: int, columns: int, suffix: str = "weight_scale") -> Quantiser:
    def quantise(w: np.ndarray) -> tuple[Stored, np.ndarray]:
        largest, at = blocks(w, min(rows, w.shape[0]), min(columns, w.shape[1]))
        scale = (largest / 448).astype(np.float32)
        codes = to_e4m3(w / scale[at])
        stored = {
            "weight": torch.from_numpy(codes).view(torch.float8_e4m3fn),
            suffix: torch.from_numpy(scale),
        }
        return stored, (E4M3[codes].astype(np.float32) * scale[at]).astype(np.float32)

    return quantise


def pack(numbers: np.ndarray, bits: int) -> torch.Tensor:
    """Whole numbers as 32-bit words, the first one in the lowest bits."""
    each = 32 // bits
    words = np.zeros((numbers.shape[0], -(-numbers.shape[1] // each)), np.uint64)
    for k in range(numbers.shape[1]):
        words[:, k // each] |= (numbers[:, k] + 2 ** (bits - 1)).astype(np.uint64) << np.uint64(bits * (k % each))
    return torch.from_numpy(words.astype(np.uint32).view(np.int32))


def packed(bits: int, group: int) -> Quantiser:
    """`group` 0: one scale a row. Scales are bfloat16, as released."""

    def quantise(w: np.ndarray) -> tuple[Stored, np.ndarray]:
        largest, at = blocks(w, 1, group or w.shape[1])
        half = 2 ** (bits - 1)
        scale = torch.from_numpy(largest / (half - 0.5)).bfloat16()
        wide = scale.float().numpy()
        numbers = np.clip(np.rint(w / wide[at]), -half, half - 1).astype(np.int64)
        stored = {
            "weight_packed": pack(numbers, bits),
            "weight_scale": scale,
            "weight_shape": torch.tensor(w.shape),
        }
        return stored, numbers.astype(np.float32) * wide[at]

    return quantise


def nvfp4(w: np.ndarray) -> tuple[Stored, np.ndarray]:
    largest, at = blocks(w, 1, 16)
    whole = np.float32(448 * 6 / largest.max())
    scale = to_e4m3(largest / 6 * whole)
    wide = (E4M3[scale].astype(np.float32) / whole).astype(np.float32)
    codes = to_e2m1(w / np.where(wide == 0, 1, wide)[at])
    pairs = np.zeros((w.shape[0], w.shape[1] // 2), np.uint8)
    for k in range(w.shape[1]):
        pairs[:, k // 2] |= codes[:, k] << (4 * (k % 2))
    stored = {
        "weight_packed": torch.from_numpy(pairs),
        "weight_scale": torch.from_numpy(scale).view(torch.float8_e4m3fn),
        "weight_global_scale": torch.tensor([float(whole)]),
        "input_global_scale": torch.tensor([3.0]),
    }
    return stored, E2M1[codes].astype(np.float32) * wide[at]


def quantise(source: Path, rules: list[tuple[str, Quantiser]], config: dict[str, Any], into: Path) -> Path:
    """Write two checkpoints from one: `into`/quantised, and `into`/plain with what that means. Gives back `into`.

    The first rule whose pattern matches a matrix's module, if any does, says how it is stored.
    """
    stored: Stored = {}
    plain: Stored = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        module = name.removesuffix(".weight")
        rule = next((rule for pattern, rule in rules if tensor.dim() == 2 and re.search(pattern, module)), None)
        if rule is None:
            stored[name] = plain[name] = tensor
            continue
        parts, meaning = rule(tensor.float().numpy().astype(np.float64))
        stored |= {f"{module}.{part}": value for part, value in parts.items()}
        plain[name] = torch.from_numpy(meaning)
    raw = json.loads((source / "config.json").read_text())
    for folder, tensors, declared in (("quantised", stored, {"quantization_config": config}), ("plain", plain, {})):
        directory = into / folder
        directory.mkdir(parents=True)
        for path in source.iterdir():
            if path.name not in ("model.safetensors", "config.json"):
                (directory / path.name).write_bytes(path.read_bytes())
        (directory / "config.json").write_text(json.dumps(raw | declared))
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors")
    return into


EXPERTS = r"experts\.\d+\.(gate|up|down)_proj$"


def compressed(layout: str, *groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A `quantization_config` of compressed-tensors; each group is its targets and its weights' fields."""
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {
            f"group_{index}": {"targets": group.pop("targets", ["Linear"]), "weights": group}
            for index, group in enumerate(dict(group) for group in groups)
        },
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*mlp\\.gate$"],
        **more,
    }
