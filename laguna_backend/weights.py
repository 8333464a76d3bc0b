"""Checkpoints: safetensors in the released layout, to and from `Weights`.

The released files hold one tensor for each expert's projection; transformers renames some tensors and fuses the
experts. `load_weights` takes either spelling, maps every file instead of reading it, converts tensor by tensor, and
insists that each parameter is assigned once and each tensor is used. `save_checkpoint` writes the released spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import LagunaConfig, LayerConfig
from .model import Dense, Layer, Sparse, Weights

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SPELLINGS = (
    (re.compile(r"^language_model\."), ""),
    (re.compile(r"\.mlp\.shared_experts\."), ".mlp.shared_expert."),
    (re.compile(r"\.mlp\.gate\.e_score_correction_bias$"), ".mlp.experts.e_score_correction_bias"),
)


class CheckpointError(ValueError):
    """The checkpoint cannot be loaded. The message names the file or the tensor."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint's weights and, where it has them, the static scales of its FP8 cache by (layer, "k" or "v")."""

    weights: Weights
    cache_scales: dict[tuple[int, str], float]


Progress = Callable[[int, int], None]
"""Called with the number of tensors done and of all."""


def load_weights(
    directory: Path | str,
    config: LagunaConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    progress: Progress | None = None,
) -> Loaded:
    """Read a checkpoint directory. Raises CheckpointError: a shard missing or cut short, a tensor missing, left over,
    of the wrong shape or type, or holding NaN or infinity."""
    with ExitStack() as files:
        source = _Source(Path(directory), files, torch.device(device), dtype, progress)
        weights = Weights(
            embed=source.take("model.embed_tokens.weight", config.vocab_size, config.hidden_size),
            layers=[_layer(source, config, index, spec) for index, spec in enumerate(config.layers)],
            norm=source.take("model.norm.weight", config.hidden_size),
            head=source.take("lm_head.weight", config.vocab_size, config.hidden_size),
        )
        scales = source.cache_scales(len(config.layers))
        source.finish()
    return Loaded(weights, scales)


class _Source:
    """The tensors of a checkpoint by released name; remembers which were taken."""

    def __init__(
        self, folder: Path, files: ExitStack, device: torch.device, dtype: torch.dtype, progress: Progress | None
    ) -> None:
        self.device, self.dtype, self.progress = device, dtype, progress
        self.handles: dict[str, tuple[Any, str]] = {}
        for path in shards(folder):
            handle = _open(path, files)
            for name in handle.keys():  # noqa: SIM118 - a handle, not a mapping
                released = name
                for pattern, replacement in SPELLINGS:
                    released = pattern.sub(replacement, released)
                if released in self.handles:
                    raise CheckpointError(f"{name} is in {folder} twice")
                self.handles[released] = (handle, name)
        self.total = len(self.handles)
        self.left = set(self.handles)

    def __contains__(self, name: str) -> bool:
        return name in self.handles

    def raw(self, name: str) -> Tensor:
        if name not in self.handles:
            raise CheckpointError(f"the checkpoint has no tensor {name}")
        handle, spelled = self.handles[name]
        try:
            tensor: Tensor = handle.get_tensor(spelled)
        except (SafetensorError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"cannot read tensor {spelled}: {error}") from error
        self.left.discard(name)
        if self.progress:
            self.progress(self.total - len(self.left), self.total)
        return tensor

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor on its device in its dtype. Shape and finiteness are checked."""
        tensor = self.raw(name)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"{name} is {list(tensor.shape)}, the configuration asks for {list(shape)}")
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise CheckpointError(f"{name} is {tensor.dtype}: quantised checkpoints are not supported yet")
        tensor = tensor.to(self.device, self.dtype)
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name} holds NaN or infinity")
        return tensor

    def take_any(self, name: str, shapes: list[tuple[int, ...]]) -> Tensor:
        """The tensor, which may have any of several shapes."""
        found = tuple(self.raw(name).shape)
        return self.take(name, *(found if found in shapes else shapes[0]))

    def cache_scales(self, layers: int) -> dict[tuple[int, str], float]:
        names = {(i, part): f"model.layers.{i}.self_attn.{part}_scale" for i in range(layers) for part in "kv"}
        return {key: self.scale(name) for key, name in names.items() if name in self}

    def scale(self, name: str) -> float:
        tensor = self.raw(name).float()
        if tensor.numel() != 1 or not 0 < float(tensor.reshape(())) < float("inf"):
            raise CheckpointError(f"{name} is {tensor.flatten()[:3].tolist()}, not one positive number")
        return float(tensor.reshape(()))

    def finish(self) -> None:
        if self.left:
            some = ", ".join(sorted(self.left)[:5])
            raise CheckpointError(f"{len(self.left)} tensors have no place in this model, such as {some}")


def shards(folder: Path) -> list[Path]:
    """The files of a checkpoint, from its index where it has one. Raises CheckpointError when one is missing."""
    index = folder / INDEX
    if not index.exists():
        if (folder / SINGLE).exists():
            return [folder / SINGLE]
        raise CheckpointError(f"{folder} holds neither {SINGLE} nor {INDEX}")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is not a checkpoint's index: {error}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).exists():
            raise CheckpointError(f"shard {name} is missing from {folder}")
    return [folder / name for name in names]


def _open(path: Path, files: ExitStack) -> Any:
    try:
        return files.enter_context(safe_open(path, framework="pt", device="cpu"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is not a whole safetensors file: {error}") from error


def _layer(source: _Source, config: LagunaConfig, index: int, spec: LayerConfig) -> Layer:
    at, hidden, dim = f"model.layers.{index}", config.hidden_size, config.head_dim
    heads, kv = spec.heads * dim, config.kv_heads * dim
    return Layer(
        attention_norm=source.take(f"{at}.input_layernorm.weight", hidden),
        q=source.take(f"{at}.self_attn.q_proj.weight", heads, hidden),
        k=source.take(f"{at}.self_attn.k_proj.weight", kv, hidden),
        v=source.take(f"{at}.self_attn.v_proj.weight", kv, hidden),
        # What `gating` declares is not to be trusted; the tensor's own shape is.
        gate=source.take_any(f"{at}.self_attn.g_proj.weight", [(spec.heads, hidden), (heads, hidden)]),
        out=source.take(f"{at}.self_attn.o_proj.weight", hidden, heads),
        q_norm=source.take(f"{at}.self_attn.q_norm.weight", dim),
        k_norm=source.take(f"{at}.self_attn.k_norm.weight", dim),
        mlp_norm=source.take(f"{at}.post_attention_layernorm.weight", hidden),
        mlp=_sparse(source, config, f"{at}.mlp") if spec.sparse else _dense(source, config, f"{at}.mlp"),
    )


def _dense(source: _Source, config: LagunaConfig, at: str) -> Dense:
    return Dense(*_projections(source, at, config.hidden_size, config.intermediate_size))


def _projections(source: _Source, at: str, hidden: int, inner: int) -> tuple[Tensor, Tensor]:
    """gate_up [2I, H] and down [H, I] of one feed-forward."""
    gate_up = torch.empty(2 * inner, hidden, dtype=source.dtype, device=source.device)
    gate_up[:inner] = source.take(f"{at}.gate_proj.weight", inner, hidden)
    gate_up[inner:] = source.take(f"{at}.up_proj.weight", inner, hidden)
    return gate_up, source.take(f"{at}.down_proj.weight", hidden, inner)


def _sparse(source: _Source, config: LagunaConfig, at: str) -> Sparse:
    experts, inner, hidden = config.experts, config.expert_size, config.hidden_size
    if f"{at}.experts.gate_up_proj" in source:
        gate_up = source.take(f"{at}.experts.gate_up_proj", experts, 2 * inner, hidden)
        down = source.take(f"{at}.experts.down_proj", experts, hidden, inner)
    else:
        gate_up = torch.empty(experts, 2 * inner, hidden, dtype=source.dtype, device=source.device)
        down = torch.empty(experts, hidden, inner, dtype=source.dtype, device=source.device)
        for expert in range(experts):
            name = f"{at}.experts.{expert}"
            gate_up[expert, :inner] = source.take(f"{name}.gate_proj.weight", inner, hidden)
            gate_up[expert, inner:] = source.take(f"{name}.up_proj.weight", inner, hidden)
            down[expert] = source.take(f"{name}.down_proj.weight", hidden, inner)
    shared_gate_up, shared_down = _projections(source, f"{at}.shared_expert", hidden, config.shared_expert_size)
    return Sparse(
        router=source.take(f"{at}.gate.weight", experts, hidden),
        bias=source.take(f"{at}.experts.e_score_correction_bias", experts),
        gate_up=gate_up,
        down=down,
        shared_gate_up=shared_gate_up,
        shared_down=shared_down,
    )


# Saving --------------------------------------------------------------------------------------------------


def released(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under the name it has in a released checkpoint, one for each expert's projection."""
    yield "model.embed_tokens.weight", weights.embed
    for index, layer in enumerate(weights.layers):
        at = f"model.layers.{index}"
        yield f"{at}.input_layernorm.weight", layer.attention_norm
        yield f"{at}.post_attention_layernorm.weight", layer.mlp_norm
        for name, part in (("q", layer.q), ("k", layer.k), ("v", layer.v), ("g", layer.gate), ("o", layer.out)):
            yield f"{at}.self_attn.{name}_proj.weight", part
        yield f"{at}.self_attn.q_norm.weight", layer.q_norm
        yield f"{at}.self_attn.k_norm.weight", layer.k_norm
        mlp = layer.mlp
        if isinstance(mlp, Dense):
            yield from _released_projections(f"{at}.mlp", mlp.gate_up, mlp.down)
            continue
        yield f"{at}.mlp.gate.weight", mlp.router
        yield f"{at}.mlp.experts.e_score_correction_bias", mlp.bias
        for expert in range(mlp.gate_up.shape[0]):
            yield from _released_projections(f"{at}.mlp.experts.{expert}", mlp.gate_up[expert], mlp.down[expert])
        yield from _released_projections(f"{at}.mlp.shared_expert", mlp.shared_gate_up, mlp.shared_down)
    yield "model.norm.weight", weights.norm
    yield "lm_head.weight", weights.head


def _released_projections(at: str, gate_up: Tensor, down: Tensor) -> Iterator[tuple[str, Tensor]]:
    gate, up = gate_up.chunk(2, dim=0)
    yield f"{at}.gate_proj.weight", gate
    yield f"{at}.up_proj.weight", up
    yield f"{at}.down_proj.weight", down


def save_checkpoint(weights: Weights, directory: Path | str, *, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write `model.safetensors` in the released layout; gives back its path. The directory is made."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in released(weights)}
    partial = folder / f"{SINGLE}.part"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(folder.stat().st_mode & 0o666)  # safetensors lets only the owner read; the folder knows better
    return partial.replace(folder / SINGLE)
