"""Configurations in every spelling that checkpoints use."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.loading import parameters
from laguna_backend.model.cache import cache_bytes
from laguna_backend.model.config import ConfigError, LagunaConfig

FULL, SLIDING = "full_attention", "sliding_attention"
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "beta_fast": 64.0,
    "beta_slow": 1.0,
    "attention_factor": 1.0,
    "partial_rotary_factor": 0.5,
}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}

# As poolside/Laguna-XS.2 has it: original_max_position_embeddings lies beside the two dictionaries.
XS2: dict[str, Any] = {
    "model_type": "laguna",
    "vocab_size": 100352,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 40,
    "num_attention_heads": 48,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "moe_routed_scaling_factor": 2.5,
    "sliding_window": 512,
    "gating": True,
    "eos_token_id": [2, 24],
    "bos_token_id": 2,
    "torch_dtype": "bfloat16",
    "layer_types": [FULL if i % 4 == 0 else SLIDING for i in range(40)],
    "num_attention_heads_per_layer": [48 if i % 4 == 0 else 64 for i in range(40)],
    "mlp_layer_types": ["dense"] + ["sparse"] * 39,
    "rope_parameters": {FULL: YARN, SLIDING: PLAIN, "original_max_position_embeddings": 4096},
}


def config(**changes: Any) -> LagunaConfig:
    raw = {key: value for key, value in (XS2 | changes).items() if value is not ...}
    return LagunaConfig.from_dict(raw)


def test_xs2_has_the_published_size_and_cache() -> None:
    xs2 = config()
    assert parameters(xs2) == 33_442_617_088
    assert sum(layer.window is None for layer in xs2.layers) == 10
    mebibyte = 2**20
    assert round(cache_bytes(xs2, 131_072, "bfloat16") / mebibyte) == 5180
    assert round(cache_bytes(xs2, 131_072, "fp8") / mebibyte) == 2590


def test_the_flat_and_the_nested_spelling_of_rope_mean_the_same() -> None:
    flat = YARN | {"original_max_position_embeddings": 4096}
    assert config(rope_parameters=flat, swa_rope_parameters=PLAIN) == config()


def test_the_legacy_spelling_of_rope_is_read() -> None:
    scaling = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 64}
    legacy = config(
        rope_parameters=...,
        rope_theta=500000.0,
        rope_scaling=scaling | {"attention_factor": 1.0},
        partial_rotary_factor=0.5,
        swa_rope_parameters=PLAIN,
    )
    assert legacy.layers[0].rope == config().layers[0].rope


def test_a_missing_attention_factor_follows_from_the_factor() -> None:
    yarn = {key: value for key, value in YARN.items() if key != "attention_factor"}
    rope = config(rope_parameters={FULL: yarn, SLIDING: PLAIN}).layers[0].rope
    assert rope.attention_factor == pytest.approx(0.1 * math.log(32) + 1)


@pytest.mark.parametrize(
    "spelling",
    [{"mlp_only_layers": [0]}, {"first_k_dense_replace": 1}, {"mlp_only_layers": [0], "decoder_sparse_step": 1}],
)
def test_dense_layers_are_found_in_every_spelling(spelling: dict[str, Any]) -> None:
    assert config(mlp_layer_types=..., **spelling) == config()


@pytest.mark.parametrize(
    ("gating", "wide"), [(True, False), ("per-head", False), ("per_head", False), ("per-element", True)]
)
def test_the_gate_is_read_in_every_spelling(gating: Any, wide: bool) -> None:
    assert config(gating=gating).per_element_gate is wide


def test_global_attention_is_another_word_for_full() -> None:
    kinds = ["global_attention" if kind == FULL else kind for kind in XS2["layer_types"]]
    assert config(layer_types=kinds) == config()


def test_a_model_without_sliding_layers_needs_no_window() -> None:
    all_full = config(layer_types=..., sliding_window=None, num_attention_heads_per_layer=..., num_attention_heads=64)
    assert {layer.window for layer in all_full.layers} == {None}


def test_stop_tokens_come_from_the_generation_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(XS2 | {"eos_token_id": 2}))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 24]}')
    assert read_config(tmp_path).eos == (2, 24)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "llama"}, "model_type"),
        ({"hidden_size": "big"}, "hidden_size"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"num_experts_per_tok": 300}, "num_experts_per_tok"),
        ({"layer_types": [FULL]}, "layer_types"),
        ({"layer_types": ["linear"] * 40}, "layer_types"),
        ({"num_attention_heads_per_layer": [7] * 40}, "heads"),
        ({"mlp_layer_types": ["odd"] * 40}, "mlp_layer_types"),
        ({"gating": "sometimes"}, "gating"),
        ({"moe_router_score_func": "softmax"}, "moe_router_score_func"),
        ({"rope_parameters": {FULL: {"rope_type": "longrope"}, SLIDING: PLAIN}}, "rope_type"),
        ({"rope_parameters": {FULL: {"rope_type": "yarn"}, SLIDING: PLAIN}}, "factor"),
        ({"attention_bias": True}, "attention_bias"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"eos_token_id": "end"}, "eos_token_id"),
        ({"rope_parameters": [YARN]}, "rope_parameters"),
        ({"rope_parameters": {FULL: "yarn", SLIDING: PLAIN}}, "rope_parameters.full_attention"),
        ({"rope_parameters": {FULL: YARN | {"beta_fast": "x"}, SLIDING: PLAIN}}, "beta_fast"),
        ({"mlp_layer_types": ..., "mlp_only_layers": 0}, "mlp_only_layers"),
        ({"mlp_layer_types": ..., "mlp_only_layers": [40]}, "mlp_only_layers"),
        ({"mlp_layer_types": ..., "first_k_dense_replace": "one"}, "first_k_dense_replace"),
        ({"num_hidden_layers": 10**9, "layer_types": ...}, "num_hidden_layers"),
        ({"torch_dtype": 16}, "torch_dtype"),
        ({"moe_router_use_sigmoid": False}, "moe_router_use_sigmoid"),
        ({"gating_types": ["per-head", "both"]}, "gating"),
        ({"rms_norm_eps": None, "moe_routed_scaling_factor": "x"}, "moe_routed_scaling_factor"),
    ],
)
def test_a_wrong_configuration_is_refused_by_the_name_of_the_field(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config(**changes)


OPTIONAL = [
    "swa_rope_parameters",
    "rope_theta",
    "rope_scaling",
    "partial_rotary_factor",
    "gating_types",
    "mlp_only_layers",
    "dtype",
    "first_k_dense_replace",
    "decoder_sparse_step",
    "moe_router_score_func",
    "moe_router_logit_softcapping",
    "rms_norm_eps",
    "hidden_act",
    "original_max_position_embeddings",
    "norm_topk_prob",
]
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
json_values = st.recursive(
    leaves | st.lists(leaves, min_size=40, max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([FULL, SLIDING, *YARN]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*XS2, *OPTIONAL]), json_values, min_size=1, max_size=3), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_configuration_or_refused_as_one(changes: dict[str, Any], without_kinds: bool) -> None:
    raw = XS2 | changes
    if without_kinds and "mlp_layer_types" not in changes:
        del raw["mlp_layer_types"]
    try:
        found = LagunaConfig.from_dict(raw)
    except ConfigError:
        return
    assert len(found.layers) == raw["num_hidden_layers"]
    assert all(layer.heads % found.kv_heads == 0 for layer in found.layers)
    assert all(2 <= layer.rope.rotary_dim <= found.head_dim for layer in found.layers)


@given(st.dictionaries(st.sampled_from([*YARN, "original_max_position_embeddings"]), json_values, min_size=1))
@settings(max_examples=200, deadline=None)
def test_any_json_as_rope_is_a_rope_or_refused_as_one(changes: dict[str, Any]) -> None:
    try:
        rope = config(rope_parameters={FULL: YARN | changes, SLIDING: PLAIN}).layers[0].rope
    except ConfigError:
        return
    assert math.isfinite(rope.theta)
    assert math.isfinite(rope.attention_factor)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
def test_a_file_that_is_no_configuration_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_config(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*config\.json"):
        read_config(tmp_path)
