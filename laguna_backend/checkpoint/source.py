"""A checkpoint's tensors under their released names, as plain numbers, whatever format they are stored in.

`Source` is the seam: `weights` builds a model from one and knows neither files nor formats. `ShardSource` reads
safetensors; a matrix that is quantised there is several tensors, and is dequantised into the memory it will stay in.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..formats import Quantization, Scheme, fp8, nvfp4, packed
from ..formats.scales import FormatError, spread
from .shards import CheckpointError, Shard, shards

SPELLINGS = (
    (re.compile(r"^language_model\."), ""),
    (re.compile(r"\.mlp\.shared_experts\."), ".mlp.shared_expert."),
    (re.compile(r"\.mlp\.gate\.e_score_correction_bias$"), ".mlp.experts.e_score_correction_bias"),
    # Where a cache's scales stand has changed with the versions of compressed-tensors.
    (re.compile(r"\.self_attn\.(?:attn\.|[kv]_proj\.)([kv])_scale$"), r".self_attn.\1_scale"),
    (re.compile(r"\.self_attn\.([kv])_proj\.output_scale$"), r".self_attn.\1_scale"),
)
# What only says how activations were quantised in calibration; ours stay as they are.
OF_ACTIVATIONS = ("input_scale", "input_global_scale", "input_zero_point")


class Source(Protocol):
    """Tensors by released name. Errors are CheckpointErrors that name file and tensor."""

    total: int

    def __contains__(self, name: str) -> bool: ...

    def rows(self, name: str) -> int:
        """The first dimension of a tensor."""
        ...

    def read(self, name: str, out: Tensor) -> None:
        """Write a tensor into `out`, which has the shape that it should have and is contiguous."""
        ...

    def scale(self, name: str) -> float:
        """A tensor of one positive number."""
        ...

    def where(self, name: str) -> str:
        """The file and the tensor, for messages."""
        ...

    def left(self) -> set[str]:
        """The tensors that were not read."""
        ...


class ShardSource:
    """The tensors of a directory of safetensors files; remembers which were taken."""

    def __init__(self, folder: Path, files: ExitStack, quantization: Quantization | None) -> None:
        self.quantization = quantization
        self.places: dict[str, tuple[Shard, str]] = {}
        for path in shards(folder):
            shard = files.enter_context(closing(Shard(path)))
            for name in shard.entries:
                released = name
                for pattern, replacement in SPELLINGS:
                    released = pattern.sub(replacement, released)
                if released in self.places:
                    raise CheckpointError(f"{path.name}: {name} is in {folder} twice")
                self.places[released] = (shard, name)
        self.total = len(self.places)
        self.untaken = set(self.places)

    def __contains__(self, name: str) -> bool:
        return name in self.places or packed_name(name) in self.places

    def left(self) -> set[str]:
        return self.untaken

    def where(self, name: str) -> str:
        for stored in (name, packed_name(name)):
            if stored in self.places:
                shard, spelled = self.places[stored]
                return f"{shard.path.name}: {spelled}"
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        shard, spelled = self.place(name)
        return shard.entries[spelled].shape

    def rows(self, name: str) -> int:
        return (*self.shape(name if name in self.places else packed_name(name)), 0)[0]

    def place(self, name: str) -> tuple[Shard, str]:
        if name not in self.places:
            raise CheckpointError(f"the checkpoint has no tensor {name}")
        return self.places[name]

    def raw(self, name: str, out: Tensor | None = None) -> Tensor:
        """One stored tensor."""
        shard, spelled = self.place(name)
        self.untaken.discard(name)
        return shard.read(spelled, out)

    def scale(self, name: str) -> float:
        tensor = self.raw(name).float()
        if tensor.numel() != 1 or not 0 < float(tensor.reshape(())) < float("inf"):
            raise CheckpointError(f"{self.where(name)} is {tensor.flatten()[:3].tolist()}, not one positive number")
        return float(tensor.reshape(()))

    def read(self, name: str, out: Tensor) -> None:
        if packed_name(name) in self.places and name in self.places:
            raise CheckpointError(f"{self.where(name)} is there both plain and packed")
        if packed_name(name) not in self.places:
            shard, spelled = self.place(name)
            entry = shard.entries[spelled]
            if entry.shape != tuple(out.shape):
                raise self.misshapen(name, entry.shape, out)
            if entry.dtype.is_floating_point and entry.dtype.itemsize >= 2:
                if entry.dtype == out.dtype and out.device.type == "cpu":
                    self.raw(name, out)
                else:
                    out.copy_(self.raw(name))
                return
        try:
            self.dequantise(name, out)
        except FormatError as error:
            raise CheckpointError(f"{self.where(name)}: {error}") from error

    def misshapen(self, name: str, found: tuple[int, ...], out: Tensor) -> CheckpointError:
        return CheckpointError(f"{self.where(name)} is {list(found)}, the configuration asks for {list(out.shape)}")

    # Quantised ---------------------------------------------------------------------------------------------

    def dequantise(self, name: str, out: Tensor) -> None:
        """Write a quantised matrix into `out`, rounded once from float32."""
        module = name.removesuffix(".weight")
        scheme = self.scheme_of(name, module)
        # On CUDA the bytes travel and are widened there; MPS has no e4m3.
        device = out.device if out.device.type == "cuda" else torch.device("cpu")
        if out.dim() != 2:
            raise FormatError(f"only matrices can be quantised, this is {list(out.shape)}")
        shape = (out.shape[0], out.shape[1])
        stored = self.raw(packed_name(name) if packed_name(name) in self.places else name).to(device)
        if f"{module}.weight_shape" in self.places:
            said = tuple(self.raw(f"{module}.weight_shape").tolist())
            if said != shape:
                raise self.misshapen(name, said, out)
        scale = self.scale_of(module).to(device)
        if scheme.kind == "nvfp4":
            if f"{module}.weight_global_scale" not in self.places:
                raise FormatError("weight_global_scale is missing")
            whole = self.raw(f"{module}.weight_global_scale").to(device)
            wide = nvfp4.dequantise(stored, as_bytes(scale, "weight_scale"), whole, shape)
        elif scheme.kind == "fp8":
            wide = fp8.dequantise(as_bytes(stored, "the weight"), scale, scheme.block)
        elif stored.dtype == torch.int8:
            wide = spread(stored.float(), scale, scheme.block)
        else:
            wide = packed.dequantise(stored, scale, shape, scheme.bits, scheme.block)
        out.copy_(wide)
        for part in OF_ACTIVATIONS:
            self.untaken.discard(f"{module}.{part}")

    def scheme_of(self, name: str, module: str) -> Scheme:
        """What the configuration says of a matrix that is stored as no plain number."""
        if self.quantization is None:
            raise FormatError("it is quantised, and config.json has no quantization_config that says how")
        stored = packed_name(name) if packed_name(name) in self.places else name
        shard, spelled = self.place(stored)
        spelled = spelled.removesuffix("_packed").removesuffix(".weight")
        scheme = self.quantization.scheme_of(spelled) or self.quantization.scheme_of(module)
        if scheme is None:
            raise FormatError("it is quantised, and quantization_config names it in no group or ignores it")
        plain = {"fp8": (torch.float8_e4m3fn, torch.uint8), "int": (torch.int8,), "nvfp4": ()}[scheme.kind]
        dtype = shard.entries[self.places[stored][1]].dtype
        if stored == name and dtype not in plain:
            raise FormatError(f"it is {dtype}, quantised as {scheme} it would not be")
        if stored != name and scheme.kind == "fp8":
            raise FormatError(f"it is packed, quantised as {scheme} it would not be")
        return scheme

    def scale_of(self, module: str) -> Tensor:
        for name in (f"{module}.weight_scale", f"{module}.weight_scale_inv"):
            if name in self.places:
                return self.raw(name)
        raise FormatError("weight_scale is missing")


def packed_name(name: str) -> str:
    return f"{name}_packed"


def as_bytes(tensor: Tensor, what: str) -> Tensor:
    """e4m3 numbers as the bytes they are."""
    if tensor.dtype not in (torch.float8_e4m3fn, torch.uint8):
        raise FormatError(f"{what} is {tensor.dtype}, not e4m3")
    return tensor.view(torch.uint8)
