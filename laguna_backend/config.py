"""What a Laguna is made of, read from a checkpoint's `config.json`.

Released configurations differ in spelling (transformers' nested `rope_parameters`, flat `rope_parameters` with
`swa_rope_parameters`, the older `rope_theta` with `rope_scaling`; `mlp_layer_types`, `mlp_only_layers` or
`first_k_dense_replace`; several words for the gate). `LagunaConfig.from_dict` accepts them all and gives one frozen
value in which every layer says for itself what it is. No torch here: `laguna info` and the agent's start-up read it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FULL = "full_attention"
SLIDING = "sliding_attention"


class ConfigError(ValueError):
    """The configuration cannot be a Laguna's. The message names the field."""


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

    @classmethod
    def from_directory(cls, directory: Path | str) -> LagunaConfig:
        """Read `config.json`, and `generation_config.json` for the stop tokens where there is one.

        Raises ConfigError: no such file, not JSON, not a Laguna.
        """
        folder = Path(directory)
        raw = read_json(folder / "config.json")
        generation = folder / "generation_config.json"
        if generation.exists():
            eos = read_json(generation).get("eos_token_id")
            if eos is not None:
                raw = {**raw, "eos_token_id": eos}
        return cls.from_dict(raw)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> LagunaConfig:
        """One configuration from any of the spellings in use. Raises ConfigError."""
        return _Reader(raw).config()

    @property
    def dense_layers(self) -> int:
        return sum(not layer.sparse for layer in self.layers)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises ConfigError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]


class _Reader:
    """Takes fields out of a raw configuration, naming the field when one does not fit."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    def config(self) -> LagunaConfig:
        kind = self.raw.get("model_type")
        if kind != "laguna":
            raise ConfigError(f"model_type is {kind!r}, not 'laguna'")
        for flag in ("attention_bias", "qkv_bias", "moe_apply_router_weight_on_input", "tie_word_embeddings"):
            if self.raw.get(flag):
                raise ConfigError(f"{flag}=true is not a released Laguna's and is not supported")
        if self.raw.get("swa_attention_sink_enabled"):
            raise ConfigError("swa_attention_sink_enabled=true is not supported: no released checkpoint has sinks")
        if self.raw.get("norm_topk_prob", True) is not True:
            raise ConfigError("norm_topk_prob=false is not supported: no released checkpoint has it")
        if self.raw.get("hidden_act", "silu") != "silu":
            raise ConfigError(f"hidden_act is {self.raw['hidden_act']!r}, not 'silu'")
        experts = self.integer("num_experts")
        top_k = self.integer("num_experts_per_tok")
        if top_k > experts:
            raise ConfigError(f"num_experts_per_tok is {top_k}, more than num_experts, {experts}")
        score = self.raw.get("moe_router_score_func", "sigmoid")
        if score not in ("sigmoid", "sqrtsoftplus"):
            raise ConfigError(f"moe_router_score_func is {score!r}; known are 'sigmoid' and 'sqrtsoftplus'")
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
            router_softcap=self.number("moe_router_logit_softcapping", 0.0),
            norm_eps=self.number("rms_norm_eps", 1e-6),
            max_context=self.integer("max_position_embeddings"),
            bos=self.integer("bos_token_id", 2, least=0),
            eos=self.eos(),
            dtype=str(self.raw.get("dtype") or self.raw.get("torch_dtype") or "bfloat16"),
            per_element_gate=self.per_element_gate(),
        )

    # Layers ------------------------------------------------------------------------------------------------

    def layers(self) -> tuple[LayerConfig, ...]:
        count = self.integer("num_hidden_layers")
        kinds = [self.layer_kind(kind) for kind in self.listed("layer_types", count, FULL)]
        heads = self.listed("num_attention_heads_per_layer", count, self.raw.get("num_attention_heads"))
        sparse = self.sparse(count)
        kv_heads = self.integer("num_key_value_heads")
        window = self.integer("sliding_window") if SLIDING in kinds else 0
        ropes = {kind: self.rope(kind) for kind in set(kinds)}
        for index, number in enumerate(heads):
            if not isinstance(number, int) or number < 1 or number % kv_heads:
                raise ConfigError(
                    f"layer {index} has {number} heads, not a multiple of num_key_value_heads, {kv_heads}"
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
        raise ConfigError(f"layer_types has {name!r}; known are {FULL!r} and {SLIDING!r}")

    def sparse(self, count: int) -> list[bool]:
        if self.raw.get("mlp_layer_types") is not None:
            kinds = self.listed("mlp_layer_types", count, None)
            if strange := set(kinds) - {"dense", "sparse"}:
                raise ConfigError(f"mlp_layer_types has {sorted(map(str, strange))}; known are 'dense' and 'sparse'")
            return [kind == "sparse" for kind in kinds]
        if self.raw.get("mlp_only_layers") is not None:
            dense = set(self.raw["mlp_only_layers"])
        else:
            dense = set(range(int(self.raw.get("first_k_dense_replace", 1))))
        step = self.integer("decoder_sparse_step", 1)
        return [i not in dense and (i + 1) % step == 0 for i in range(count)]

    # Rope --------------------------------------------------------------------------------------------------

    def rope(self, kind: str) -> Rope:
        raw = self.rope_source(kind)
        head_dim = self.integer("head_dim", 128)
        partial = raw.get("partial_rotary_factor", self.raw.get("partial_rotary_factor", 1.0))
        rotary_dim = int(head_dim * float(partial))
        if rotary_dim < 2 or rotary_dim % 2:
            raise ConfigError(f"partial_rotary_factor {partial} gives {rotary_dim} rotary dimensions for {kind}")
        theta = float(raw.get("rope_theta", self.raw.get("rope_theta", 500_000.0 if kind == FULL else 10_000.0)))
        rope_type = raw.get("rope_type", raw.get("type", "default"))
        if rope_type == "default":
            return Rope(theta, rotary_dim)
        if rope_type != "yarn":
            raise ConfigError(f"rope_type is {rope_type!r}; known are 'default' and 'yarn'")
        factor = float(raw["factor"]) if raw.get("factor") else 0.0
        if factor < 1.0:
            raise ConfigError(f"yarn needs a factor of at least 1, not {raw.get('factor')!r}")
        declared = raw.get("attention_factor")
        return Rope(
            theta,
            rotary_dim,
            factor,
            int(raw.get("original_max_position_embeddings") or self.original_context()),
            float(raw.get("beta_fast") or 32.0),
            float(raw.get("beta_slow") or 1.0),
            float(declared) if declared is not None else (0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0),
        )

    def original_context(self) -> int:
        parameters = self.raw.get("rope_parameters")
        if isinstance(parameters, dict) and "original_max_position_embeddings" in parameters:
            return int(parameters["original_max_position_embeddings"])  # pyright: ignore[reportUnknownArgumentType]
        return self.integer("original_max_position_embeddings", self.integer("max_position_embeddings"))

    def rope_source(self, kind: str) -> Mapping[str, Any]:
        parameters: Any = self.raw.get("rope_parameters")
        if isinstance(parameters, Mapping) and isinstance(parameters.get(kind), Mapping):  # pyright: ignore
            return parameters[kind]  # pyright: ignore[reportUnknownVariableType]
        if kind == SLIDING:
            sliding: Any = self.raw.get("swa_rope_parameters")
            return sliding if isinstance(sliding, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]
        if isinstance(parameters, Mapping) and ("rope_type" in parameters or "rope_theta" in parameters):
            return parameters  # pyright: ignore[reportUnknownVariableType]
        scaling: Any = self.raw.get("rope_scaling")
        if isinstance(scaling, Mapping):
            return scaling  # pyright: ignore[reportUnknownVariableType]
        return {} if "rope_theta" in self.raw else {"partial_rotary_factor": 0.5}

    # Fields ------------------------------------------------------------------------------------------------

    def per_element_gate(self) -> bool:
        gating = self.raw.get("gating", True)
        if isinstance(self.raw.get("gating_types"), list) and self.raw["gating_types"]:
            gating = self.raw["gating_types"][0]
        if gating in (True, "per-head", "per_head"):
            return False
        if gating in ("per-element", "per_element"):
            return True
        raise ConfigError(f"gating is {gating!r}; known are true, 'per-head' and 'per-element'")

    def eos(self) -> tuple[int, ...]:
        eos = self.raw.get("eos_token_id", [2, 24])
        ids = eos if isinstance(eos, list) else [eos]  # pyright: ignore[reportUnknownVariableType]
        if not ids or not all(isinstance(i, int) and i >= 0 for i in ids):  # pyright: ignore
            raise ConfigError(f"eos_token_id is {eos!r}, not token ids")
        return tuple(ids)  # pyright: ignore[reportUnknownArgumentType]

    def listed(self, name: str, count: int, default: Any) -> Sequence[Any]:
        value = self.raw.get(name)
        if value is None:
            return [default] * count
        if not isinstance(value, list) or len(value) != count:  # pyright: ignore[reportUnknownArgumentType]
            raise ConfigError(f"{name} must list one value for each of the {count} layers")
        return value  # pyright: ignore[reportUnknownVariableType]

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        value = self.raw.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{name} is {value!r}, not a whole number of at least {least}")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.raw.get(name)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ConfigError(f"{name} is {value!r}, not a number")
        return float(value)
