"""Checkpoints: safetensors in the released layout, to and from `Weights`.

The released files hold one tensor for each expert's projection; transformers renames some tensors and fuses the
experts. `load_weights` takes either spelling and any released number format (`source`, `formats`), reads tensor by
tensor straight into the memory where it stays, so that the peak is hardly more than the model, and insists that each
parameter is assigned once and each tensor is used. `save_checkpoint` writes the released spelling.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..model.config import LagunaConfig, LayerConfig
from ..model.device import roomy
from ..model.forward import Apart, Dense, Layer, Sparse, Together, Weights
from ..model.linear import Matrix, Packer, Stack, plain
from .gguf_file import GgufSource, gguf_files
from .shards import INDEX, SINGLE, CheckpointError, shards
from .source import ShardSource, Source

__all__ = ["CheckpointError", "Loaded", "load_weights", "released", "save_checkpoint", "shards"]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint's weights and, where it has them, the static scales of its FP8 cache by (layer, "k" or "v")."""

    weights: Weights
    cache_scales: dict[tuple[int, str], float]
    packing_error: float = 0.0
    """Of weights that were packed on loading: root of the squared errors over that of the squared weights."""


SHARD = 5_000_000_000  # bytes of one file of a checkpoint, as released ones have them

Progress = Callable[[int, int], None]
"""Called with the number of tensors done and of all."""


def load_weights(
    directory: Path | str,
    config: LagunaConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    progress: Progress | None = None,
    packer: Packer | None = None,
) -> Loaded:
    """Read a checkpoint directory. Raises CheckpointError: a shard missing or cut short, a tensor missing, left over,
    of the wrong shape or type, or holding NaN or infinity.

    `packer` packs the matrices as they come; the embedding, the router and the norms stay as they are, and the head has
    eight bits."""
    with ExitStack() as files:
        stored = open_source(Path(directory), files, config)
        source = _Taker(stored, torch.device(device), dtype, progress, packer or Packer())
        weights = Weights(
            embed=source.take("model.embed_tokens.weight", config.vocab_size, config.hidden_size),
            layers=[_layer(source, config, index, spec) for index, spec in enumerate(config.layers)],
            norm=source.take("model.norm.weight", config.hidden_size),
            head=source.packer(
                source.take("lm_head.weight", config.vocab_size, config.hidden_size),
                source.packer.head,
            ),
        )
        scales = source.cache_scales(len(config.layers))
        source.finish()
    return Loaded(weights, scales, source.packer.error())


def open_source(folder: Path, files: ExitStack, config: LagunaConfig) -> Source:
    """The tensors of a directory: safetensors where there are any, else GGUF. Raises CheckpointError."""
    plain = (folder / SINGLE).exists() or (folder / INDEX).exists()
    paths = [] if plain else gguf_files(folder)
    return GgufSource(paths, files) if paths else ShardSource(folder, files, config.quantization)


class _Taker:
    """Takes tensors from a source into the memory where they will stay, and checks them there."""

    def __init__(
        self, source: Source, device: torch.device, dtype: torch.dtype, progress: Progress | None, packer: Packer
    ) -> None:
        self.source, self.device, self.dtype, self.progress = source, device, dtype, progress
        self.packer = packer

    def __contains__(self, name: str) -> bool:
        return name in self.source

    def empty(self, *shape: int) -> Tensor:
        return roomy(*shape, dtype=self.dtype, device=self.device)

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor on its device in its dtype. Shape and finiteness are checked."""
        return self.fill(name, self.empty(*shape))

    def matrix(self, name: str, *shape: int) -> Matrix:
        """The same, packed if the others are."""
        return self.packer(self.take(name, *shape))

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
    return Layer(
        attention_norm=source.take(f"{at}.input_layernorm.weight", hidden),
        inputs=_inputs(source, config, f"{at}.self_attn", spec),
        out=source.matrix(f"{at}.self_attn.o_proj.weight", hidden, spec.heads * dim),
        q_norm=source.take(f"{at}.self_attn.q_norm.weight", dim),
        k_norm=source.take(f"{at}.self_attn.k_norm.weight", dim),
        mlp_norm=source.take(f"{at}.post_attention_layernorm.weight", hidden),
        mlp=_sparse(source, config, f"{at}.mlp") if spec.sparse else _dense(source, config, f"{at}.mlp"),
    )


def _inputs(source: _Taker, config: LagunaConfig, at: str, spec: LayerConfig) -> Apart | Together:
    """What reads a layer's input: in one piece of memory, so that it can be run together without a copy."""
    heads, kv, gate = spec.heads * config.head_dim, config.kv_heads * config.head_dim, f"{at}.g_proj.weight"
    # What `gating` declares is not to be trusted; the tensor's own shape is.
    wide = gate in source and source.source.rows(gate) == heads
    sizes = (heads, kv, kv, heads if wide else spec.heads)
    whole = source.empty(sum(sizes), config.hidden_size)
    parts = whole.split(sizes)
    for name, part in zip("qkvg", parts, strict=True):
        source.fill(f"{at}.{name}_proj.weight", part)
    return Apart(*parts) if source.packer.precision == "bf16" else Together(source.packer(whole), sizes)


def _dense(source: _Taker, config: LagunaConfig, at: str) -> Dense:
    return Dense(*_projections(source, at, config.hidden_size, config.intermediate_size))


def _projections(source: _Taker, at: str, hidden: int, inner: int) -> tuple[Matrix, Matrix]:
    """gate_up [2I, H] and down [H, I] of one feed-forward."""
    gate_up, down = source.empty(2 * inner, hidden), source.empty(hidden, inner)
    _fill(source, at, gate_up, down)
    return source.packer(gate_up), source.packer(down)


def _fill(source: _Taker, at: str, gate_up: Tensor, down: Tensor) -> None:
    inner = gate_up.shape[0] // 2
    source.fill(f"{at}.gate_proj.weight", gate_up[:inner])
    source.fill(f"{at}.up_proj.weight", gate_up[inner:])
    source.fill(f"{at}.down_proj.weight", down)


def _sparse(source: _Taker, config: LagunaConfig, at: str) -> Sparse:
    shared_gate_up, shared_down = _projections(
        source, f"{at}.shared_expert", config.hidden_size, config.shared_expert_size
    )
    gate_up, down = _experts(source, config, f"{at}.experts")
    return Sparse(
        router=source.take(f"{at}.gate.weight", config.experts, config.hidden_size),
        bias=source.take(f"{at}.experts.e_score_correction_bias", config.experts),
        gate_up=gate_up,
        down=down,
        shared_gate_up=shared_gate_up,
        shared_down=shared_down,
    )


def _experts(source: _Taker, config: LagunaConfig, at: str) -> tuple[Matrix, Matrix]:
    """gate_up [E, 2I, H] and down [E, H, I], from a tensor for each projection or from two of all."""
    experts, inner, hidden = config.experts, config.expert_size, config.hidden_size
    fused = f"{at}.gate_up_proj" in source
    many = experts if fused or source.packer.precision == "bf16" else 1  # that are plain at the same time
    gate_up, down = source.empty(many, 2 * inner, hidden), source.empty(many, hidden, inner)
    if fused:
        source.fill(f"{at}.gate_up_proj", gate_up)
        source.fill(f"{at}.down_proj", down)
    ups, downs = Stack(experts), Stack(experts)
    for expert in range(experts):
        place = min(expert, many - 1)
        if not fused:
            _fill(source, f"{at}.{expert}", gate_up[place], down[place])
        if source.packer.precision != "bf16":
            ups.add(source.packer(gate_up[place]))
            downs.add(source.packer(down[place]))
    return (gate_up, down) if source.packer.precision == "bf16" else (ups.whole(), downs.whole())


# Saving --------------------------------------------------------------------------------------------------


def released(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under the name it has in a released checkpoint, one for each expert's projection."""
    yield "model.embed_tokens.weight", weights.embed
    for index, layer in enumerate(weights.layers):
        yield from released_layer(layer, index)
    yield "model.norm.weight", weights.norm
    yield "lm_head.weight", plain(weights.head)


def released_layer(layer: Layer, index: int) -> Iterator[tuple[str, Tensor]]:
    """Those of one layer."""
    at = f"model.layers.{index}"
    yield f"{at}.input_layernorm.weight", layer.attention_norm
    yield f"{at}.post_attention_layernorm.weight", layer.mlp_norm
    inputs = layer.inputs
    apart = inputs.tensors() if isinstance(inputs, Apart) else plain(inputs.rows).split(inputs.sizes)
    for name, part in zip("qkvgo", (*apart, plain(layer.out)), strict=True):
        yield f"{at}.self_attn.{name}_proj.weight", part
    yield f"{at}.self_attn.q_norm.weight", layer.q_norm
    yield f"{at}.self_attn.k_norm.weight", layer.k_norm
    mlp = layer.mlp
    if isinstance(mlp, Dense):
        yield from _released_projections(f"{at}.mlp", mlp.gate_up, mlp.down)
        return
    yield f"{at}.mlp.gate.weight", mlp.router
    yield f"{at}.mlp.experts.e_score_correction_bias", mlp.bias
    for expert in range(mlp.gate_up.shape[0]):
        each = plain(mlp.gate_up)[expert], plain(mlp.down)[expert]
        yield from _released_projections(f"{at}.mlp.experts.{expert}", *each)
    yield from _released_projections(f"{at}.mlp.shared_expert", mlp.shared_gate_up, mlp.shared_down)


def _released_projections(at: str, gate_up: Matrix, down: Matrix) -> Iterator[tuple[str, Tensor]]:
    gate, up = plain(gate_up).chunk(2, dim=0)
    yield f"{at}.gate_proj.weight", gate
    yield f"{at}.up_proj.weight", up
    yield f"{at}.down_proj.weight", plain(down)


def save_checkpoint(
    weights: Weights, directory: Path | str, *, dtype: torch.dtype = torch.bfloat16, largest: int = SHARD
) -> Path:
    """Write the weights in the released layout: `model.safetensors`, or shards of at most `largest` bytes with their
    index. Gives back the path of the one or the other. The directory is made."""
    return write_released(released(weights), directory, dtype=dtype, largest=largest)


def write_released(
    tensors: Iterable[tuple[str, Tensor]],
    directory: Path | str,
    *,
    dtype: torch.dtype = torch.bfloat16,
    largest: int = SHARD,
) -> Path:
    """The same for tensors as they come, of which no more than a shard's worth is held at a time.

    Nothing has its final name before everything is written; another checkpoint in the directory goes then.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    places: dict[str, int] = {}
    held: dict[str, Tensor] = {}
    size = total = 0

    def write() -> None:
        part = folder / f"model-{len(parts) + 1:05}.part"
        write_tensors(held, part)
        parts.append(part)

    for name, tensor in tensors:
        ready = tensor.detach().to("cpu", dtype).contiguous()
        if held and size + ready.nbytes > largest:
            write()
            held, size = {}, 0
        held[name] = ready
        places[name] = len(parts)
        size, total = size + ready.nbytes, total + ready.nbytes
    write()
    for old in [*folder.glob("model*.safetensors"), folder / INDEX]:
        old.unlink(missing_ok=True)
    if len(parts) == 1:
        return parts[0].replace(folder / SINGLE)
    names = [f"model-{number + 1:05}-of-{len(parts):05}.safetensors" for number in range(len(parts))]
    for part, name in zip(parts, names, strict=True):
        part.replace(folder / name)
    index = {"metadata": {"total_size": total}, "weight_map": {name: names[at] for name, at in places.items()}}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return folder / INDEX


def write_tensors(tensors: dict[str, Tensor], path: Path) -> Path:
    """Write one safetensors file, of tensors on the CPU, whole or not at all."""
    partial = path.with_name(f"{path.name}.part")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(path.parent.stat().st_mode & 0o666)  # safetensors lets only the owner read; the folder knows better
    return partial.replace(path)
