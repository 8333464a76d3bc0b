"""The forward pass by the kernels: for one new token, or a few, four calls a layer and nothing of torch between.

The same function as `Laguna.through`, which is its plain twin. It runs where one sequence goes on, or several together,
on a CPU and without gradients. A prompt's many rows go this way too, but for attention, which is torch's then, where
the matrices are packed, or in bfloat16 on a processor without AVX-512 or with its BF16: of other plain ones oneDNN
makes better use. `Compiled.of` says whether a model can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import library, native
from .attention import attend
from .batch import Batch
from .cache import KVCache
from .config import LagunaConfig, LayerConfig, Rope
from .layer import gathered
from .linear import FEW, LANES, LowRank, Matrix, Packed, native_matrix
from .narrow import Fp8, Nibbles
from .parameters import Dense, Layer, Sparse, Together, Weights
from .rope import Tables


@dataclass(frozen=True)
class Call:
    """One layer as the kernels take it. The structs hold addresses: the weights must be kept."""

    spec: LayerConfig
    inputs: native.Matrix
    out: native.Matrix
    shape: native.Shape
    mixture: native.Mixture
    attention_norm: int
    mlp_norm: int


class Compiled:
    """A model's layers as addresses, and the pass through them."""

    def __init__(self, config: LagunaConfig, weights: Weights, kernels: native.Library) -> None:
        self.config, self.weights, self.kernels = config, weights, kernels
        self.type = native.TYPES[weights.embed.dtype]
        # oneDNN has no fast bfloat16 below AVX-512 (measured on AVX2: 35 tokens/s of a prompt, where we do over 100).
        # Where the unit multiplies it, it is made for more rows than a tool's answer or an expert has (72 against 161
        # tokens/s with 16 tokens, 213 against 347 with 128, 400 against 433 with 512).
        ours = kernels.unit.startswith("AVX2") or kernels.unit.endswith("BF16")
        self.prompts = isinstance(weights.head, Packed) or (weights.embed.dtype == torch.bfloat16 and ours)
        self.calls = [call(config, spec, layer) for spec, layer in zip(config.layers, weights.layers, strict=True)]
        self.head = native_matrix(weights.head)

    @classmethod
    def of(cls, config: LagunaConfig, weights: Weights) -> Compiled | None:
        """Of weights that the kernels can run, on a machine that has the kernels; else None."""
        if config.head_dim % LANES or not runs(weights):
            return None
        kernels = library()
        return cls(config, weights, kernels) if kernels else None

    def takes(self, tokens: Tensor) -> bool:
        """Whether a pass of these tokens, with a cache, is for the kernels."""
        return not torch.is_grad_enabled() and tokens.shape[1] > 0 and (self.prompts or tokens.shape[1] <= FEW)

    def forward(self, tokens: Tensor, cache: KVCache | Batch, ropes: Mapping[Rope, Tables], last_only: bool) -> Tensor:
        """Logits [1, T, V] after tokens [1, T] that follow those of the cache, or of each of a batch; with `last_only`
        of the last token of each sequence."""
        config, weights, eps = self.config, self.weights, self.config.norm_eps
        batch = cache if isinstance(cache, Batch) else Batch([cache], [tokens.shape[1]])
        count, threads = tokens.shape[1], torch.get_num_threads()
        product, feed_forward, kind = self.kernels.product, self.kernels.feed_forward, self.type
        h = F.embedding(tokens[0], weights.embed)  # [T, H]
        size, hidden = h.element_size(), config.hidden_size
        between = torch.empty_like(h)
        parts = [
            (one, at.start, many, {rope: tables.at(one.length, many, h.dtype) for rope, tables in ropes.items()})
            for (one, at), many in zip(batch.parts(), batch.counts, strict=True)
        ]
        widest = max(call.inputs.rows for call in self.calls)
        inputs, mixed = h.new_empty(count * widest), h.new_empty(count * max(c.out.columns for c in self.calls))
        at, then, read, found = h.data_ptr(), between.data_ptr(), inputs.data_ptr(), mixed.data_ptr()
        address = native.address
        for index, call in enumerate(self.calls):
            batch.pause()
            shape, width = call.shape, call.spec.heads * config.head_dim
            product(address(call.inputs), at, hidden, count, kind, call.attention_norm, eps, None, read, threads)
            for one, first, many, turns in parts:
                cos, sin = turns[call.spec.rope]
                if many > FEW:
                    rows = inputs[first * call.inputs.rows : (first + many) * call.inputs.rows].view(1, many, -1)
                    heard = self.attention(index, rows, (cos, sin), one)
                    mixed[first * width : (first + many) * width].copy_(heard.reshape(-1))
                    continue
                past = one.past(index, many)
                shape.cos, shape.sin = cos.data_ptr(), sin.data_ptr()
                mine, out = read + first * call.inputs.rows * size, found + first * width * size
                self.kernels.attend(address(past), address(shape), mine, many, one.length, kind, out, threads)
            product(address(call.out), found, width, count, kind, None, 0.0, at, then, threads)
            feed_forward(address(call.mixture), then, hidden, count, kind, call.mlp_norm, eps, at, threads)
        batch.advance()
        if last_only and count > len(parts):
            h = h[batch.ends()]
            at, count = h.data_ptr(), len(parts)
        logits = h.new_empty(1, count, config.vocab_size)
        norm, out = weights.norm.data_ptr(), logits.data_ptr()
        product(address(self.head), at, hidden, count, kind, norm, eps, None, out, threads)
        return logits

    def attention(self, index: int, inputs: Tensor, turn: tuple[Tensor, Tensor], cache: KVCache) -> Tensor:
        """Of many rows, by torch: inputs [1, T, ..] -> [1, T, heads * D]."""
        layer, spec = self.weights.layers[index], self.config.layers[index]
        assert isinstance(layer.inputs, Together)

        def see(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attend(q, *cache.extend(index, k, v), spec.window)

        parts = inputs.split(layer.inputs.sizes, dim=-1)
        return gathered(self.config, spec, layer, parts, turn, see)


def call(config: LagunaConfig, spec: LayerConfig, layer: Layer) -> Call:
    """One layer of weights that `runs`."""
    mlp, none = layer.mlp, native.Matrix()
    assert isinstance(layer.inputs, Together)
    shape = native.Shape(
        spec.heads, layer.inputs.sizes[-1], spec.rope.rotary_dim, layer.q_norm.data_ptr(), layer.k_norm.data_ptr(),
        None, None, config.norm_eps,
    )  # fmt: skip
    if isinstance(mlp, Sparse):
        mixture = native.Mixture(
            native_matrix(mlp.router), mlp.bias.data_ptr(), native_matrix(mlp.gate_up), native_matrix(mlp.down),
            native_matrix(mlp.shared_gate_up), native_matrix(mlp.shared_down), config.experts,
            config.experts_per_token, int(config.router_score != "sigmoid"), config.router_softcap,
            config.routed_scale,
        )  # fmt: skip
    else:
        dense = native_matrix(mlp.gate_up), native_matrix(mlp.down)
        mixture = native.Mixture(none, None, none, none, *dense, 0, 0, 0, 0.0, 1.0)
    norms = layer.attention_norm.data_ptr(), layer.mlp_norm.data_ptr()
    return Call(spec, native_matrix(layer.inputs.rows), native_matrix(layer.out), shape, mixture, *norms)


def runs(weights: Weights) -> bool:
    """Whether the kernels run such weights: on a CPU, in one type, contiguous, packed where a block holds up, and with
    no adapter beside them."""
    dtype = weights.embed.dtype
    plain = [weights.embed, weights.norm]
    matrices = [weights.head]
    halves: list[Matrix] = []
    for layer in weights.layers:
        if not isinstance(layer.inputs, Together):
            return False
        plain += [layer.attention_norm, layer.q_norm, layer.k_norm, layer.mlp_norm]
        matrices += [layer.inputs.rows, layer.out]
        match layer.mlp:
            case Dense(gate_up, down):
                halves.append(gate_up)
                matrices.append(down)
            case Sparse(router, bias, gate_up, down, shared_gate_up, shared_down):
                plain += [router, bias]
                halves += [gate_up, shared_gate_up]
                matrices += [down, shared_down]
    plain += [matrix for matrix in (*matrices, *halves) if isinstance(matrix, Tensor)]
    # up's rows begin where a block of gate's ends
    packed = [matrix for matrix in halves if isinstance(matrix, Packed)]
    return (
        dtype in native.TYPES
        and not any(isinstance(matrix, LowRank | Fp8 | Nibbles) for matrix in (*matrices, *halves))
        and all(tensor.device.type == "cpu" and tensor.dtype == dtype and tensor.is_contiguous() for tensor in plain)
        and all(matrix.rows // 2 % LANES == 0 for matrix in packed)
    )
