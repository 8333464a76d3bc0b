"""A GGUF file of a model, without a vocabulary, for llama.cpp to be measured with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .gguf_file import ARCHITECTURE, module

if TYPE_CHECKING:
    from ..model.forward import Weights


def write_gguf(path: Path, raw: Mapping[str, Any], weights: Weights) -> Path:
    """Write weights in bfloat16, norms, router and its bias in float32, and the fields that llama.cpp asks for.

    `raw` is a `config.json` in transformers' spelling, full layers with YaRN. Needs the package `gguf`.
    """
    gguf = module("gguf")
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    ropes = raw["rope_parameters"]
    full, sliding, dim = ropes["full_attention"], ropes["sliding_attention"], raw["head_dim"]
    numbers = {
        "block_count": raw["num_hidden_layers"],
        "context_length": raw["max_position_embeddings"],
        "embedding_length": raw["hidden_size"],
        "feed_forward_length": raw["intermediate_size"],
        "attention.head_count_kv": raw["num_key_value_heads"],
        "attention.key_length": dim,
        "attention.value_length": dim,
        "attention.sliding_window": raw["sliding_window"],
        "vocab_size": raw["vocab_size"],
        "expert_count": raw["num_experts"],
        "expert_used_count": raw["num_experts_per_tok"],
        "expert_feed_forward_length": raw["moe_intermediate_size"],
        "expert_shared_feed_forward_length": raw["shared_expert_intermediate_size"],
        "expert_gating_func": 2,
        "leading_dense_block_count": raw["mlp_layer_types"].index("sparse"),
        "rope.dimension_count": int(dim * full["partial_rotary_factor"]),
        "rope.dimension_count_swa": int(dim * sliding["partial_rotary_factor"]),
        "rope.scaling.original_context_length": full["original_max_position_embeddings"],
    }
    fractions = {
        "attention.layer_norm_rms_epsilon": raw["rms_norm_eps"],
        "expert_weights_scale": raw["moe_routed_scaling_factor"],
        "rope.freq_base": full["rope_theta"],
        "rope.freq_base_swa": sliding["rope_theta"],
        "rope.scaling.factor": full["factor"],
        "rope.scaling.yarn_attn_factor": full["attention_factor"],
        "rope.scaling.yarn_beta_fast": full["beta_fast"],
        "rope.scaling.yarn_beta_slow": full["beta_slow"],
    }
    for name, value in numbers.items():
        writer.add_uint32(f"{ARCHITECTURE}.{name}", value)
    for name, value in fractions.items():
        writer.add_float32(f"{ARCHITECTURE}.{name}", value)
    writer.add_array(f"{ARCHITECTURE}.attention.head_count", list(raw["num_attention_heads_per_layer"]))
    writer.add_bool(f"{ARCHITECTURE}.expert_weights_norm", True)
    writer.add_string(f"{ARCHITECTURE}.rope.scaling.type", "yarn")
    writer.add_string("tokenizer.ggml.model", "none")
    bf16 = gguf.GGMLQuantizationType.BF16

    def add(name: str, tensor: Any, *, wide: bool = False) -> None:
        if wide:
            writer.add_tensor(name, tensor.float().numpy())
            return
        flat = tensor.contiguous().view(torch.uint8).numpy()  # bfloat16 as the bytes it is
        writer.add_tensor(name, flat, raw_dtype=bf16)

    add("token_embd.weight", weights.embed)
    add("output_norm.weight", weights.norm, wide=True)
    add("output.weight", weights.head)
    for index, layer in enumerate(weights.layers):
        at, inputs, mlp = f"blk.{index}", _any(layer.inputs), _any(layer.mlp)
        for name in ("q", "k", "v", "gate"):
            add(f"{at}.attn_{name}.weight", getattr(inputs, name))
        add(f"{at}.attn_output.weight", layer.out)
        norms = {"attn_norm": layer.attention_norm, "ffn_norm": layer.mlp_norm}
        for name, norm in (norms | {"attn_q_norm": layer.q_norm, "attn_k_norm": layer.k_norm}).items():
            add(f"{at}.{name}.weight", norm, wide=True)
        kind = "_exps" if hasattr(mlp, "router") else ""
        gate, up = mlp.gate_up.chunk(2, dim=-2)
        for name, part in (("gate", gate), ("up", up), ("down", mlp.down)):
            add(f"{at}.ffn_{name}{kind}.weight", part)
        if kind:
            add(f"{at}.ffn_gate_inp.weight", mlp.router, wide=True)
            add(f"{at}.exp_probs_b.bias", mlp.bias, wide=True)
            gate, up = mlp.shared_gate_up.chunk(2, dim=0)
            for name, part in (("gate", gate), ("up", up), ("down", mlp.shared_down)):
                add(f"{at}.ffn_{name}_shexp.weight", part)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _any(value: Any) -> Any:
    """Weights that `laguna bench` made: plain tensors, inputs apart."""
    return value
