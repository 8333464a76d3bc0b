"""The kernels' structs and functions, as ctypes calls them. Addresses go in: whoever calls keeps the tensors.

The structs repeat those of `cpp/`, field by field; the library tells their sizes, and loading compares them.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

I32, I64, REAL, DOUBLE, ADDRESS = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_double, ctypes.c_void_p

FLOAT32, BFLOAT16, INT8, INT4 = range(4)
TYPES = {torch.float32: 0, torch.bfloat16: 1}
STORAGES = {"float32": 0, "bfloat16": 1, "fp8": 2}
KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16}


class Matrix(ctypes.Structure):
    """`matrix.h`: how a matrix, or a stack of them, lies in memory."""

    _fields_ = (
        ("kind", I32), ("group", I32), ("rows", I64), ("columns", I64), ("data", ADDRESS), ("scale", ADDRESS),
        ("step", I64), ("scale_step", I64),
    )  # fmt: skip


class Mixture(ctypes.Structure):
    """`experts.cpp`: a feed-forward, dense or of experts."""

    _fields_ = (
        ("router", Matrix), ("bias", ADDRESS), ("gate_up", Matrix), ("down", Matrix), ("shared_gate_up", Matrix),
        ("shared_down", Matrix), ("experts", I32), ("top_k", I32), ("softplus", I32), ("softcap", REAL),
        ("scale", REAL),
    )  # fmt: skip


class Past(ctypes.Structure):
    """`attention.cpp`: one layer's keys and values."""

    _fields_ = (
        ("k", ADDRESS), ("v", ADDRESS), ("k_scales", ADDRESS), ("v_scales", ADDRESS), ("k_scale", REAL),
        ("v_scale", REAL), ("storage", I32), ("kv_heads", I32), ("dim", I64), ("capacity", I64), ("window", I64),
    )  # fmt: skip


class Shape(ctypes.Structure):
    """`attention.cpp`: what one layer does to queries and keys."""

    _fields_ = (
        ("heads", I64), ("gates", I64), ("rotary", I64), ("q_norm", ADDRESS), ("k_norm", ADDRESS), ("cos", ADDRESS),
        ("sin", ADDRESS), ("eps", REAL),
    )  # fmt: skip


class Library:
    """The compiled kernels. Raises OSError when the file is none, or is not of these sources."""

    def __init__(self, path: Path) -> None:
        self.path = path
        loaded = ctypes.CDLL(str(path))
        sizes = (I64 * 4)()
        loaded.laguna_sizes(sizes)
        if list(sizes) != [ctypes.sizeof(kind) for kind in (Matrix, Mixture, Past, Shape)]:
            raise OSError(f"{path.name} was made of other sources")
        loaded.laguna_unit.restype = ctypes.c_char_p
        self.unit: str = loaded.laguna_unit().decode()
        self.product, self.feed_forward, self.attend, self.pack = (
            loaded.laguna_product, loaded.laguna_feed_forward, loaded.laguna_attend, loaded.laguna_pack,
        )  # fmt: skip
        for function in (self.product, self.feed_forward, self.attend, self.pack):
            function.restype = None
        self.product.argtypes = (ADDRESS, ADDRESS, I64, I64, I32, ADDRESS, REAL, ADDRESS, ADDRESS, I32)
        self.feed_forward.argtypes = (ADDRESS, ADDRESS, I64, I64, I32, ADDRESS, REAL, ADDRESS, I32)
        self.pack.argtypes = (ADDRESS, ADDRESS, I64, I32, ADDRESS, I32)
        self.attend.argtypes = (ADDRESS, ADDRESS, ADDRESS, I64, I64, I32, ADDRESS, I32)

    def __repr__(self) -> str:
        return f"<Library {self.path.name} [{self.unit}]>"


def plain(w: Tensor) -> Matrix:
    """A contiguous matrix [N, K], or a stack of them [E, N, K], of float32 or bfloat16."""
    rows, columns = w.shape[-2:]
    step = rows * columns * w.element_size()
    return Matrix(KINDS[w.dtype], 0, rows, columns, w.data_ptr(), None, step, 0)


def address(struct: ctypes.Structure) -> int:
    """Where a struct lies; it must outlive the call."""
    return ctypes.addressof(struct)
