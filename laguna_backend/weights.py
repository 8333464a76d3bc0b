"""Checkpoints: safetensors in the released layout, to and from `Weights`.

The released files hold one tensor for each expert's projection; transformers renames some tensors and fuses the
experts. `load_weights` takes either spelling and any released number format (`source`, `formats`), reads tensor by
tensor straight into the memory where it stays, so that the peak is hardly more than the model, and insists that each
parameter is assigned once and each tensor is used. `save_checkpoint` writes the released spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .config import LagunaConfig, LayerConfig
from .formats.gguf_file import GgufSource, gguf_files
from .model import Dense, Layer, Sparse, Weights
from .shards import INDEX, SINGLE, CheckpointError, shards
from .source import ShardSource, Source

__all__ = ["CheckpointError", "Loaded", "load_weights", "released", "save_checkpoint", "shards"]


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
        source = _Taker(open_source(Path(directory), files, config), torch.device(device), dtype, progress)
        weights = Weights(
            embed=source.take("model.embed_tokens.weight", config.vocab_size, config.hidden_size),
            layers=[_layer(source, config, index, spec) for index, spec in enumerate(config.layers)],
            norm=source.take("model.norm.weight", config.hidden_size),
            head=source.take("lm_head.weight", config.vocab_size, config.hidden_size),
        )
        scales = source.cache_scales(len(config.layers))
        source.finish()
    return Loaded(weights, scales)


def open_source(folder: Path, files: ExitStack, config: LagunaConfig) -> Source:
    """The tensors of a directory: safetensors where there are any, else GGUF. Raises CheckpointError."""
    plain = (folder / SINGLE).exists() or (folder / INDEX).exists()
    paths = [] if plain else gguf_files(folder)
    return GgufSource(paths, files) if paths else ShardSource(folder, files, config.quantization)


class _Taker:
    """Takes tensors from a source into the memory where they will stay, and checks them there."""

    def __init__(self, source: Source, device: torch.device, dtype: torch.dtype, progress: Progress | None) -> None:
        self.source, self.device, self.dtype, self.progress = source, device, dtype, progress

    def __contains__(self, name: str) -> bool:
        return name in self.source

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor on its device in its dtype. Shape and finiteness are checked."""
        return self.fill(name, self.empty(*shape))

    def fill(self, name: str, out: Tensor) -> Tensor:
        """The same into memory that is there already."""
        if name not in self.source:
            raise CheckpointError(f"the checkpoint has no tensor {name}")
        self.source.read(name, out)
        if out.numel() and not all(torch.isfinite(end) for end in torch.aminmax(out)):  # one pass, no copy
            raise CheckpointError(f"{self.source.where(name)} holds NaN or infinity")
        if self.progress:
            self.progress(self.source.total - len(self.source.left()), self.source.total)
        return out

    def cache_scales(self, layers: int) -> dict[tuple[int, str], float]:
        names = {(i, part): f"model.layers.{i}.self_attn.{part}_scale" for i in range(layers) for part in "kv"}
        found = {key: self.source.scale(name) for key, name in names.items() if name in self.source}
        if self.progress:
            self.progress(self.source.total - len(self.source.left()), self.source.total)
        return found

    def finish(self) -> None:
        left = self.source.left()
        if left:
            some = ", ".join(self.source.where(name) for name in sorted(left)[:5])
            raise CheckpointError(f"{len(left)} tensors have no place in this model, such as {some}")


def _layer(source: _Taker, config: LagunaConfig, index: int, spec: LayerConfig) -> Layer:
    at, hidden, dim = f"model.layers.{index}", config.hidden_size, config.head_dim
    heads, kv = spec.heads * dim, config.kv_heads * dim
    gate = f"{at}.self_attn.g_proj.weight"
    return Layer(
        attention_norm=source.take(f"{at}.input_layernorm.weight", hidden),
        q=source.take(f"{at}.self_attn.q_proj.weight", heads, hidden),
        k=source.take(f"{at}.self_attn.k_proj.weight", kv, hidden),
        v=source.take(f"{at}.self_attn.v_proj.weight", kv, hidden),
        # What `gating` declares is not to be trusted; the tensor's own shape is.
        gate=source.take(gate, heads if gate in source and source.source.rows(gate) == heads else spec.heads, hidden),
        out=source.take(f"{at}.self_attn.o_proj.weight", hidden, heads),
        q_norm=source.take(f"{at}.self_attn.q_norm.weight", dim),
        k_norm=source.take(f"{at}.self_attn.k_norm.weight", dim),
        mlp_norm=source.take(f"{at}.post_attention_layernorm.weight", hidden),
        mlp=_sparse(source, config, f"{at}.mlp") if spec.sparse else _dense(source, config, f"{at}.mlp"),
    )


def _dense(source: _Taker, config: LagunaConfig, at: str) -> Dense:
    return Dense(*_projections(source, at, config.hidden_size, config.intermediate_size))


def _projections(source: _Taker, at: str, hidden: int, inner: int) -> tuple[Tensor, Tensor]:
    """gate_up [2I, H] and down [H, I] of one feed-forward."""
    gate_up = source.empty(2 * inner, hidden)
    source.fill(f"{at}.gate_proj.weight", gate_up[:inner])
    source.fill(f"{at}.up_proj.weight", gate_up[inner:])
    return gate_up, source.take(f"{at}.down_proj.weight", hidden, inner)


def _sparse(source: _Taker, config: LagunaConfig, at: str) -> Sparse:
    experts, inner, hidden = config.experts, config.expert_size, config.hidden_size
    if f"{at}.experts.gate_up_proj" in source:
        gate_up = source.take(f"{at}.experts.gate_up_proj", experts, 2 * inner, hidden)
        down = source.take(f"{at}.experts.down_proj", experts, hidden, inner)
    else:
        gate_up, down = source.empty(experts, 2 * inner, hidden), source.empty(experts, hidden, inner)
        for expert in range(experts):
            name = f"{at}.experts.{expert}"
            source.fill(f"{name}.gate_proj.weight", gate_up[expert, :inner])
            source.fill(f"{name}.up_proj.weight", gate_up[expert, inner:])
            source.fill(f"{name}.down_proj.weight", down[expert])
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
