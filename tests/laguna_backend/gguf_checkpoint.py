"""GGUF files of a Laguna, and what their blocks mean, in plain numpy after ggml's `block_*` structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

Kind = gguf.GGMLQuantizationType


def half(raw: np.ndarray) -> np.ndarray:
    """One number in half precision for each row of two bytes."""
    return np.ascontiguousarray(raw).view(np.float16)[:, 0].astype(np.float32)


def q4_k(block: np.ndarray) -> np.ndarray:
    """256 numbers of 144 bytes: d, dmin, eight 6-bit scales and minima in 12 bytes, 128 bytes of nibbles."""
    d, least = half(block[:, 0:2]), half(block[:, 2:4])
    packed, nibbles = block[:, 4:16], block[:, 16:]
    out = np.zeros((len(block), 256), np.float32)
    for group in range(8):
        if group < 4:
            scale, minimum = packed[:, group] & 63, packed[:, group + 4] & 63
        else:
            scale = (packed[:, group + 4] & 15) | (packed[:, group - 4] >> 6 << 4)
            minimum = (packed[:, group + 4] >> 4) | (packed[:, group] >> 6 << 4)
        for k in range(32):
            byte = nibbles[:, group // 2 * 32 + k]
            number = (byte >> 4 if group % 2 else byte & 15).astype(np.float32)
            out[:, group * 32 + k] = (d * scale.astype(np.float32)) * number - least * minimum.astype(np.float32)
    return out


def q6_k(block: np.ndarray) -> np.ndarray:
    """256 numbers of 210 bytes: 128 of low nibbles, 64 of two high bits, 16 signed scales, d."""
    low, high, d = block[:, :128], block[:, 128:192], half(block[:, 208:210])
    scales = np.ascontiguousarray(block[:, 192:208]).view(np.int8).astype(np.float32)
    out = np.zeros((len(block), 256), np.float32)
    for k in range(256):
        part, inside = k // 128, k % 128
        quarter, column = inside // 32, inside % 32
        byte = low[:, part * 64 + (quarter % 2) * 32 + column]
        bits = (byte >> 4 if quarter >= 2 else byte & 15) | (high[:, part * 32 + column] >> (2 * quarter) & 3) << 4
        out[:, k] = (d * scales[:, k // 16]) * (bits.astype(np.float32) - 32)
    return out


def q8_0(block: np.ndarray) -> np.ndarray:
    return half(block[:, :2])[:, None] * np.ascontiguousarray(block[:, 2:]).view(np.int8).astype(np.float32)


def q4_0(block: np.ndarray) -> np.ndarray:
    """32 numbers of 18 bytes: d, then the first sixteen in the low nibbles and the others in the high ones."""
    numbers = np.concatenate((block[:, 2:] & 15, block[:, 2:] >> 4), axis=1).astype(np.float32) - 8
    return half(block[:, :2])[:, None] * numbers


BLOCKS = {
    Kind.Q4_K: (256, 144, q4_k),
    Kind.Q6_K: (256, 210, q6_k),
    Kind.Q8_0: (32, 34, q8_0),
    Kind.Q4_0: (32, 18, q4_0),
}
HALVES = {Kind.Q4_K: ((0, 2), (2, 4)), Kind.Q6_K: ((208, 210),), Kind.Q8_0: ((0, 2),), Kind.Q4_0: ((0, 2),)}


def random_blocks(kind: Kind, rows: int, columns: int, seed: int) -> np.ndarray:
    """Bytes [rows, bytes] of any content but for the half-precision scales, which are small numbers."""
    rng = np.random.default_rng(seed)
    numbers, size, _ = BLOCKS[kind]
    raw = rng.integers(0, 256, (rows * columns // numbers, size), dtype=np.uint8)
    for start, end in HALVES[kind]:
        scale = (rng.uniform(0.5, 1, len(raw)) * (2e-5 if kind in (Kind.Q4_K, Kind.Q6_K) else 1e-3)).astype(np.float16)
        raw[:, start:end] = scale[:, None].view(np.uint8)
    return raw.reshape(rows, -1)


def meaning(kind: Kind, raw: np.ndarray) -> np.ndarray:
    _, size, widen = BLOCKS[kind]
    return widen(raw.reshape(-1, size)).reshape(len(raw), -1)


def renamed(name: str) -> str:
    """llama.cpp's name of a released tensor that is no expert's."""
    at, _, rest = name.removeprefix("model.layers.").partition(".")
    words = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
        "input_layernorm.weight": "attn_norm.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
        "self_attn.q_proj.weight": "attn_q.weight",
        "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight",
        "self_attn.o_proj.weight": "attn_output.weight",
        "self_attn.g_proj.weight": "attn_gate.weight",
        "self_attn.q_norm.weight": "attn_q_norm.weight",
        "self_attn.k_norm.weight": "attn_k_norm.weight",
        "mlp.gate_proj.weight": "ffn_gate.weight",
        "mlp.up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight",
        "mlp.gate.weight": "ffn_gate_inp.weight",
        "mlp.experts.e_score_correction_bias": "exp_probs_b.bias",
        "mlp.shared_expert.gate_proj.weight": "ffn_gate_shexp.weight",
        "mlp.shared_expert.up_proj.weight": "ffn_up_shexp.weight",
        "mlp.shared_expert.down_proj.weight": "ffn_down_shexp.weight",
    }
    return words[name] if name in words else f"blk.{at}.{words[rest]}"


def stacked(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Released tensors under llama.cpp's names, a layer's experts in one."""
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        head, is_expert, rest = name.partition(".mlp.experts.")
        if is_expert and rest[0].isdigit():
            which = rest.split(".")[1].removesuffix("_proj")
            found.setdefault(f"blk.{head.rsplit('.', 1)[1]}.ffn_{which}_exps.weight", []).append(tensor)
        else:
            found[renamed(name)] = tensor
    return {n: (torch.stack(t) if isinstance(t, list) else t).float().numpy() for n, t in found.items()}


def write(path: Path, raw: dict[str, Any], tensors: dict[str, tuple[np.ndarray, Kind]], **more: Any) -> Path:
    """A GGUF file with the fields that llama.cpp's converter writes; `more` are arrays of the tokenizer's."""
    writer = gguf.GGUFWriter(path, "laguna")
    ropes = raw["rope_parameters"]
    full, sliding = ropes["full_attention"], ropes["sliding_attention"]
    writer.add_block_count(raw["num_hidden_layers"])
    writer.add_context_length(raw["max_position_embeddings"])
    writer.add_embedding_length(raw["hidden_size"])
    writer.add_feed_forward_length(raw["intermediate_size"])
    writer.add_head_count(raw["num_attention_heads_per_layer"])
    writer.add_head_count_kv(raw["num_key_value_heads"])
    writer.add_key_length(raw["head_dim"])
    writer.add_value_length(raw["head_dim"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(raw["vocab_size"])
    writer.add_sliding_window(raw["sliding_window"])
    writer.add_expert_count(raw["num_experts"])
    writer.add_expert_used_count(raw["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(raw["moe_intermediate_size"])
    writer.add_expert_shared_feed_forward_length(raw["shared_expert_intermediate_size"])
    writer.add_expert_weights_norm(True)
    writer.add_expert_weights_scale(raw["moe_routed_scaling_factor"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_leading_dense_block_count(1)
    writer.add_rope_dimension_count(int(raw["head_dim"] * full.get("partial_rotary_factor", 1.0)))
    writer.add_uint32("laguna.rope.dimension_count_swa", raw["head_dim"])
    writer.add_rope_freq_base(full["rope_theta"])
    writer.add_float32("laguna.rope.freq_base_swa", sliding["rope_theta"])
    if full["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(full["factor"])
        writer.add_rope_scaling_orig_ctx_len(full["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_attn_factor(full["attention_factor"])
        writer.add_rope_scaling_yarn_beta_fast(full["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(full["beta_slow"])
    for key, value in more.items():
        name = key.replace("__", ".")
        writer.add_array(name, value) if isinstance(value, list) else writer.add_string(name, value)
    for name, (array, kind) in tensors.items():
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
