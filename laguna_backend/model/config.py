"""What a Laguna is made of, read from a checkpoint's `config.json`.

Released configurations differ in spelling (transformers' nested `rope_parameters`, flat `rope_parameters` with
`swa_rope_parameters`, the older `rope_theta` with `rope_scaling`; `mlp_layer_types`, `mlp_only_layers` or
`first_k_dense_replace`; several words for the gate). `LagunaConfig.from_dict` accepts them all and gives one frozen
value in which every layer says for itself what it is. No torch here: `laguna info` and the agent's start-up read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from ..fields import ConfigError, Fields, is_integer, shown
from ..formats.scheme import Quantization, read_quantization

__all__ = ["ConfigError", "LagunaConfig", "LayerConfig", "Rope"]

FULL = "full_attention"
SLIDING = "sliding_attention"
MOST_LAYERS = 4096


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding of one kind of layer (YaRN: arXiv 2309.00071).

    `rotary_dim` of the head's dimensions turn, the rest pass. `factor` None: plain RoPE. `attention_factor`
    multiplies cos and sin; it is the configuration's own value where it gives one, as transformers does it.
    """

    theta: float
    rotary_dim: int
    factor: float | None = None
    original_context: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """One decoder layer. `window` None: it attends to everything before; else to `window` tokens, itself included."""

    heads: int
    rope: Rope
    window: int | None
    sparse: bool


@dataclass(frozen=True, slots=True)
class LagunaConfig:
    """The shape of a Laguna. `per_element_gate` is what the file declares; the weights' own shape decides."""

    vocab_size: int
    hidden_size: int
    head_dim: int
    kv_heads: int
    layers: tuple[LayerConfig, ...]
    intermediate_size: int
    experts: int
    experts_per_token: int
    expert_size: int
    shared_expert_size: int
    routed_scale: float
    router_score: Literal["sigmoid", "sqrtsoftplus"]
    router_softcap: float
    norm_eps: float
    max_context: int
    bos: int
    eos: tuple[int, ...]
    dtype: str
    per_element_gate: bool
    quantization: Quantization | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> LagunaConfig:
        """One configuration from any of the spellings in use. Raises ConfigError."""
        return _Reader(raw).config()

    @property
    def dense_layers(self) -> int:
        return sum(not layer.sparse for layer in self.layers)


class _Reader(Fields):
    """A raw configuration. Each method reads one aspect of it, whatever its spelling."""

    __slots__ = ()

    def config(self) -> LagunaConfig:
        self.refuse_what_no_release_has()
        experts = self.integer("num_experts")
        top_k = self.integer("num_experts_per_tok")
        if top_k > experts:
            raise ConfigError(f"num_experts_per_tok is {top_k}, more than num_experts, {experts}")
        score = self.get("moe_router_score_func", "sigmoid")
        if score not in ("sigmoid", "sqrtsoftplus"):
            raise ConfigError(f"moe_router_score_func is {shown(score)}; known are 'sigmoid' and 'sqrtsoftplus'")
        return LagunaConfig(
            vocab_size=self.integer("vocab_size"),
            hidden_size=self.integer("hidden_size"),
            head_dim=self.integer("head_dim", 128),
            kv_heads=self.integer("num_key_value_heads"),
            layers=self.layers(),
            intermediate_size=self.integer("intermediate_size"),
            experts=experts,
            experts_per_token=top_k,
            expert_size=self.integer("moe_intermediate_size"),
            shared_expert_size=self.integer("shared_expert_intermediate_size"),
            routed_scale=self.number("moe_routed_scaling_factor", 1.0),
            router_score=score,
            router_softcap=self.number("moe_router_logit_softcapping", 0.0, least=0.0),
            norm_eps=self.number("rms_norm_eps", 1e-6, least=0.0),
            max_context=self.integer("max_position_embeddings"),
            bos=self.integer("bos_token_id", 2, least=0),
            eos=self.eos(),
            dtype=self.text("dtype", self.text("torch_dtype", "bfloat16")),
            per_element_gate=self.per_element_gate(),
            quantization=read_quantization(self.raw),
        )

    def refuse_what_no_release_has(self) -> None:
        kind = self.get("model_type")
        if kind != "laguna":
            raise ConfigError(f"model_type is {shown(kind)}, not 'laguna'")
        absent = ("attention_bias", "qkv_bias", "moe_apply_router_weight_on_input", "tie_word_embeddings")
        for flag in (*absent, "swa_attention_sink_enabled"):
            if self.get(flag):
                raise ConfigError(f"{flag} is {shown(self.get(flag))}; no released Laguna has it, it is not supported")
        for flag in ("norm_topk_prob", "moe_router_use_sigmoid"):
            if self.get(flag, True) is not True:
                raise ConfigError(f"{flag} is {shown(self.get(flag))}; every released Laguna has true")
        if self.get("hidden_act", "silu") != "silu":
            raise ConfigError(f"hidden_act is {shown(self.get('hidden_act'))}, not 'silu'")

    # Layers ------------------------------------------------------------------------------------------------

    def layers(self) -> tuple[LayerConfig, ...]:
        count = self.integer("num_hidden_layers", most=MOST_LAYERS)
        kinds = [self.layer_kind(kind) for kind in self.each_layer("layer_types", count, FULL)]
        heads = self.each_layer("num_attention_heads_per_layer", count, self.get("num_attention_heads"))
        sparse = self.sparse(count)
        kv_heads = self.integer("num_key_value_heads")
        window = self.integer("sliding_window") if SLIDING in kinds else 0
        ropes = {kind: self.rope(kind) for kind in set(kinds)}
        for index, number in enumerate(heads):
            if not is_integer(number, 1) or number % kv_heads:
                raise ConfigError(
                    f"layer {index} has {shown(number)} heads, not a multiple of num_key_value_heads, {kv_heads}"
                )
        return tuple(
            LayerConfig(heads[i], ropes[kind], window if kind == SLIDING else None, sparse[i])
            for i, kind in enumerate(kinds)
        )

    def layer_kind(self, name: Any) -> str:
        if name in (FULL, "global_attention"):
            return FULL
        if name == SLIDING:
            return SLIDING
        raise ConfigError(f"layer_types has {shown(name)}; known are {FULL!r} and {SLIDING!r}")

    def sparse(self, count: int) -> list[bool]:
        if self.has("mlp_layer_types"):
            kinds = self.each_layer("mlp_layer_types", count, None)
            for kind in kinds:
                if kind not in ("dense", "sparse"):
                    raise ConfigError(f"mlp_layer_types has {shown(kind)}; known are 'dense' and 'sparse'")
            return [kind == "sparse" for kind in kinds]
        if self.has("mlp_only_layers"):
            dense = self.items("mlp_only_layers")
            if not all(is_integer(i, 0, count - 1) for i in dense):
                raise ConfigError(f"mlp_only_layers is {shown(dense)}, not indices of the {count} layers")
        else:
            dense = range(self.integer("first_k_dense_replace", 1, least=0))
        step = self.integer("decoder_sparse_step", 1)
        return [i not in dense and (i + 1) % step == 0 for i in range(count)]

    # Rope --------------------------------------------------------------------------------------------------

    def rope(self, kind: str) -> Rope:
        raw = self.rope_source(kind)
        # What the layer's own object lacks may stand at the top, once for all.
        partial = raw.number("partial_rotary_factor", self.number("partial_rotary_factor", 1.0), least=0.0)
        rotary_dim = int(self.integer("head_dim", 128) * min(partial, 2.0))
        if partial > 1 or rotary_dim < 2 or rotary_dim % 2:
            raise ConfigError(f"partial_rotary_factor {partial} gives {rotary_dim} rotary dimensions for {kind}")
        usual = 500_000.0 if kind == FULL else 10_000.0
        theta = raw.number("rope_theta", self.number("rope_theta", usual), least=1.0)
        rope_type = raw.get("rope_type", raw.get("type", "default"))
        if rope_type == "default":
            return Rope(theta, rotary_dim)
        if rope_type != "yarn":
            raise ConfigError(f"{raw.path}rope_type is {shown(rope_type)}; known are 'default' and 'yarn'")
        if theta == 1:
            raise ConfigError(f"{raw.path}rope_theta is 1, which yarn cannot stretch")
        factor = raw.number("factor", least=1.0)
        return Rope(
            theta,
            rotary_dim,
            factor,
            raw.integer("original_max_position_embeddings", self.original_context()),
            raw.number("beta_fast", least=1e-3) if raw.get("beta_fast") else 32.0,
            raw.number("beta_slow", least=1e-3) if raw.get("beta_slow") else 1.0,
            raw.number("attention_factor", 0.1 * math.log(factor) + 1.0, least=0.0),
        )

    def original_context(self) -> int:
        name = "original_max_position_embeddings"
        beside = self.mapping("rope_parameters")
        if beside and beside.has(name):
            return beside.integer(name)
        return self.integer(name, self.integer("max_position_embeddings"))

    def rope_source(self, kind: str) -> Fields:
        """The object that describes this kind of layer's rope, empty when none does."""
        parameters = self.mapping("rope_parameters")
        nested = parameters.mapping(kind) if parameters else None
        if nested:
            return nested
        if kind == SLIDING:
            return self.mapping("swa_rope_parameters") or Fields({}, "swa_rope_parameters.")
        if parameters and (parameters.has("rope_type") or parameters.has("rope_theta")):
            return parameters
        if scaling := self.mapping("rope_scaling"):
            return scaling
        return Fields({} if self.has("rope_theta") else {"partial_rotary_factor": 0.5}, "rope_parameters.")

    # Fields ------------------------------------------------------------------------------------------------

    def per_element_gate(self) -> bool:
        declared = self.items("gating_types") or [self.get("gating", True)]
        for gating in declared:
            if gating not in (True, "per-head", "per_head", "per-element", "per_element"):
                raise ConfigError(f"gating is {shown(gating)}; known are true, 'per-head' and 'per-element'")
        return declared[0] in ("per-element", "per_element")

    def eos(self) -> tuple[int, ...]:
        eos = self.get("eos_token_id", [2, 24])
        ids = cast("list[Any]", eos) if isinstance(eos, list) else [eos]
        if not ids or not all(is_integer(i, 0) for i in ids):
            raise ConfigError(f"eos_token_id is {shown(eos)}, not token ids")
        return tuple(ids)

    def each_layer(self, name: str, count: int, default: Any) -> list[Any]:
        if not self.has(name):
            return [default] * count
        value = self.items(name)
        if len(value) != count:
            raise ConfigError(f"{name} lists {len(value)} values for {count} layers")
        return value
