"""GGUF files of llama.cpp's architecture `laguna`, by the `gguf` package. The only file that imports it.

A directory with one model in GGUF (one file, or its parts `-00001-of-0000N`) is a checkpoint like any other. Tensors
are found under their released names; all of a layer's experts are one tensor there, of which each expert is a slice.
Numbers may be in any type that `gguf.quants` can read (Q8_0, Q4_0, Q4_K, Q6_K, BF16 …); rows are read and widened a
piece at a time. Queries and keys are not permuted in this architecture.
"""

from __future__ import annotations

import importlib
import re
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .shards import CheckpointError

PIECE = 1 << 22  # numbers widened at a time
ARCHITECTURE = "laguna"

NAMES = (
    (r"model\.embed_tokens\.weight", "token_embd.weight"),
    (r"model\.norm\.weight", "output_norm.weight"),
    (r"lm_head\.weight", "output.weight"),
    (r"model\.layers\.(\d+)\.input_layernorm\.weight", r"blk.\1.attn_norm.weight"),
    (r"model\.layers\.(\d+)\.post_attention_layernorm\.weight", r"blk.\1.ffn_norm.weight"),
    (r"model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.weight", r"blk.\1.attn_\2.weight"),
    (r"model\.layers\.(\d+)\.self_attn\.o_proj\.weight", r"blk.\1.attn_output.weight"),
    (r"model\.layers\.(\d+)\.self_attn\.g_proj\.weight", r"blk.\1.attn_gate.weight"),
    (r"model\.layers\.(\d+)\.self_attn\.([qk])_norm\.weight", r"blk.\1.attn_\2_norm.weight"),
    (r"model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight", r"blk.\1.ffn_\2.weight"),
    (r"model\.layers\.(\d+)\.mlp\.gate\.weight", r"blk.\1.ffn_gate_inp.weight"),
    (r"model\.layers\.(\d+)\.mlp\.experts\.e_score_correction_bias", r"blk.\1.exp_probs_b.bias"),
    (r"model\.layers\.(\d+)\.mlp\.shared_expert\.(gate|up|down)_proj\.weight", r"blk.\1.ffn_\2_shexp.weight"),
    (r"model\.layers\.(\d+)\.mlp\.experts\.\d+\.(gate|up|down)_proj\.weight", r"blk.\1.ffn_\2_exps.weight"),
)
EXPERT = re.compile(r"\.mlp\.experts\.(\d+)\.")
LEGACY = ((re.compile(r"\.attn_g\.weight$"), ".attn_gate.weight"),)  # Ollama's first conversions


class Stored(NamedTuple):
    """Where one tensor lies: `type` as ggml numbers it, `shape` outermost first, its first byte and their number."""

    file: Any
    path: Path
    type: int
    shape: tuple[int, ...]
    at: int
    size: int


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files of a directory, none where it is a checkpoint of another kind. Raises CheckpointError."""
    found = sorted(folder.glob("*.gguf"))
    if len(found) > 1:
        parts = [re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name) for path in found]
        whole = all(
            part and part[1] == (parts[0] or part)[1] and int(part[3]) == len(found) and int(part[2]) == number
            for number, part in enumerate(parts, 1)
        )
        if not whole:
            raise CheckpointError(f"{folder} holds {len(found)} GGUF files that are not the parts of one model")
    return found


def module(name: str) -> Any:
    """`gguf` or a part of it. Raises CheckpointError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CheckpointError("GGUF files need the package gguf: pip install 'acp-laguna[gguf]'") from error


def open_gguf(path: Path) -> Any:
    """A reader of one file's header. Raises CheckpointError."""
    try:
        return module("gguf").GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{path.name} is not a whole GGUF file: {error}") from error


class GgufSource:
    """The tensors of GGUF files under their released names; see `source.Source`."""

    def __init__(self, paths: list[Path], files: ExitStack) -> None:
        self.places: dict[str, Stored] = {}
        for path in paths:
            reader = open_gguf(path)
            file = files.enter_context(closing(path.open("rb", buffering=0)))
            for tensor in reader.tensors:
                name = str(tensor.name)
                for pattern, replacement in LEGACY:
                    name = pattern.sub(replacement, name)
                if name in self.places:
                    raise CheckpointError(f"{path.name}: {name} is there twice")
                shape = tuple(int(side) for side in reversed(tensor.shape))
                self.places[name] = Stored(
                    file, path, int(tensor.tensor_type), shape, int(tensor.data_offset), int(tensor.n_bytes)
                )
        self.total = len(self.places)
        self.untaken = set(self.places)

    def __contains__(self, name: str) -> bool:
        return self.stored_name(name) in self.places

    def stored_name(self, name: str) -> str:
        for pattern, replacement in NAMES:
            if match := re.fullmatch(pattern, name):
                return match.expand(replacement)
        return name

    def left(self) -> set[str]:
        return self.untaken

    def where(self, name: str) -> str:
        stored = self.stored_name(name)
        return f"{self.places[stored].path.name}: {stored}" if stored in self.places else name

    def rows(self, name: str) -> int:
        return self.places[self.stored_name(name)].shape[0]

    def scale(self, name: str) -> float:
        raise CheckpointError(f"{name}: GGUF files hold no scales of a cache")

    def read(self, name: str, out: Tensor) -> None:
        stored = self.places[self.stored_name(name)]
        shape, at, size = stored.shape, stored.at, stored.size
        if expert := EXPERT.search(name):
            index, count = int(expert[1]), shape[0] if len(shape) == 3 else 0
            if index >= count:
                raise CheckpointError(f"{self.where(name)} is {list(shape)}, it has no expert {index}")
            shape, size = shape[1:], size // count
            at += index * size
        if shape != tuple(out.shape):
            found = f"{self.where(name)} is {list(stored.shape)}"
            raise CheckpointError(f"{found}, the configuration asks for {list(out.shape)} of it")
        rows = shape[0] if len(shape) > 1 else 1
        table = out.view(rows, -1)
        step = max(1, PIECE // max(table.shape[1], 1))
        stored.file.seek(at)
        for start in range(0, rows, step):
            many = min(step, rows - start)
            raw = stored.file.read(many * size // rows)
            if len(raw) != many * size // rows:
                raise CheckpointError(f"{self.where(name)}: the file ends within it")
            table[start : start + many].copy_(widened(raw, stored.type, many, self.where(name)))
        self.untaken.discard(self.stored_name(name))


def widened(raw: bytes, kind: int, rows: int, where: str) -> Tensor:
    """Rows of numbers in ggml's type `kind`, as float32."""
    flat = np.frombuffer(raw, np.uint8).reshape(rows, -1)
    try:
        wide = module("gguf.quants").dequantize(flat, module("gguf").GGMLQuantizationType(kind))
    except (NotImplementedError, ValueError, KeyError) as error:
        raise CheckpointError(f"{where} is of ggml's type {kind}, which cannot be read: {error}") from error
    return torch.from_numpy(np.array(wide, np.float32, copy=True))


# Configuration ------------------------------------------------------------------------------------------


def gguf_config(path: Path) -> dict[str, Any]:
    """What the file says of the model, in the spelling of a `config.json`. Raises CheckpointError.

    llama.cpp stores no pattern of sliding layers: every fourth layer attends to everything, beginning with the first.
    """
    fields = open_gguf(path).fields

    def get(name: str, default: Any = None) -> Any:
        field = fields.get(f"{ARCHITECTURE}.{name}")
        return default if field is None else field.contents()

    found = fields.get("general.architecture")
    if found is None or found.contents() != ARCHITECTURE:
        raise CheckpointError(f"{path.name} is not of the architecture {ARCHITECTURE}")
    layers = int(get("block_count", 0))
    heads = get("attention.head_count")
    window = int(get("attention.sliding_window", 0))
    kinds = ["full_attention" if not window or index % 4 == 0 else "sliding_attention" for index in range(layers)]
    dense = int(get("leading_dense_block_count", 0))
    dim = int(get("attention.key_length", 128))
    vocabulary = get("vocab_size")
    tokens = fields.get("tokenizer.ggml.tokens")
    gating = {None: "sigmoid", 0: "sigmoid", 2: "sigmoid", 4: "sqrtsoftplus"}
    if get("expert_gating_func") not in gating:
        raise CheckpointError(
            f"{path.name}: expert_gating_func is {get('expert_gating_func')}; known is 2, the sigmoid"
        )
    ends = [
        fields[name].contents()
        for name in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
        if name in fields
    ]
    full = {
        "rope_theta": get("rope.freq_base", 5e5),
        "partial_rotary_factor": get("rope.dimension_count", dim) / dim,
        "rope_type": "default",
    }
    if get("rope.scaling.type") == "yarn":
        optional = {
            "attention_factor": get("rope.scaling.yarn_attn_factor"),
            "beta_fast": get("rope.scaling.yarn_beta_fast"),
            "beta_slow": get("rope.scaling.yarn_beta_slow"),
            "original_max_position_embeddings": get("rope.scaling.original_context_length"),
        }
        full |= {"rope_type": "yarn", "factor": get("rope.scaling.factor")}
        full |= {name: value for name, value in optional.items() if value is not None}
    return {
        "model_type": "laguna",
        "vocab_size": vocabulary if vocabulary is not None else len(tokens.data) if tokens is not None else None,
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0] if isinstance(heads, list) and heads else heads,
        "num_attention_heads_per_layer": heads if isinstance(heads, list) else None,
        "num_key_value_heads": uniform(get("attention.head_count_kv")),
        "head_dim": dim,
        "layer_types": kinds,
        "mlp_layer_types": ["dense" if index < dense else "sparse" for index in range(layers)],
        "sliding_window": window or None,
        "num_experts": get("expert_count"),
        "num_experts_per_tok": get("expert_used_count"),
        "moe_intermediate_size": uniform(get("expert_feed_forward_length")),
        "shared_expert_intermediate_size": get("expert_shared_feed_forward_length"),
        "moe_routed_scaling_factor": get("expert_weights_scale", 1.0),
        "moe_router_score_func": gating[get("expert_gating_func")],
        "norm_topk_prob": get("expert_weights_norm", True),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon", 1e-6),
        "max_position_embeddings": get("context_length"),
        "eos_token_id": ends if len(ends) == 2 else None,  # without the second, ours is the released pair
        "rope_parameters": {
            "full_attention": full,
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": get("rope.freq_base_swa", 1e4),
                "partial_rotary_factor": get("rope.dimension_count_swa", dim) / dim,
            },
        },
    }


def uniform(value: Any) -> Any:
    """One number of a list that repeats it."""
    return value[0] if isinstance(value, list) and value and set(cast("list[Any]", value)) == {value[0]} else value


def kinds_of(path: Path) -> dict[str, int]:
    """How many tensors a file has of each type, by the type's name. Raises CheckpointError."""
    counts: dict[str, int] = {}
    for tensor in open_gguf(path).tensors:
        name = str(tensor.tensor_type.name)
        counts[name] = counts.get(name, 0) + 1
    return counts


def gguf_texts(path: Path) -> dict[str, Any]:
    """The fields `tokenizer.*` of a file, lists and texts. Raises CheckpointError."""
    return {name: field.contents() for name, field in open_gguf(path).fields.items() if name.startswith("tokenizer.")}
