"""A Laguna's parameters: plain tensors in dataclasses, layer by layer. Functions of them live elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .linear import Matrix, linear, plain, tensors_of


@dataclass(slots=True)
class Dense:
    """A feed-forward of one expert: gate_up [2I, H] (gate rows first), down [H, I]."""

    gate_up: Matrix
    down: Matrix


@dataclass(slots=True)
class Sparse:
    """A mixture: router [E, H], bias [E], gate_up [E, 2I, H], down [E, H, I], and the shared expert."""

    router: Tensor
    bias: Tensor
    gate_up: Matrix
    down: Matrix
    shared_gate_up: Matrix
    shared_down: Matrix


@dataclass(slots=True)
class Apart:
    """What reads a layer's normed input, each a parameter of its own: q [heads*D, H], k and v [KV*D, H], gate [heads or
    heads*D, H]. So they are trained and saved."""

    q: Matrix
    k: Matrix
    v: Matrix
    gate: Matrix

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        return linear(x, self.q), linear(x, self.k), linear(x, self.v), linear(x, self.gate)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v and gate, which are plain but while an adapter is trained."""
        return plain(self.q), plain(self.k), plain(self.v), plain(self.gate)


@dataclass(slots=True)
class Together:
    """The same as the rows of one matrix, q's first and the gate's last: one product. So they are run."""

    rows: Matrix
    sizes: tuple[int, int, int, int]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        return linear(x, self.rows).split(self.sizes, dim=-1)


@dataclass(slots=True)
class Layer:
    """One decoder layer: what reads its normed input, out [H, heads*D], the norms and the feed-forward."""

    attention_norm: Tensor
    inputs: Apart | Together
    out: Matrix
    q_norm: Tensor
    k_norm: Tensor
    mlp_norm: Tensor
    mlp: Dense | Sparse


@dataclass(slots=True)
class Weights:
    """Every parameter of a Laguna: embed and head [V, H], norm [H], and the layers."""

    embed: Tensor
    layers: list[Layer]
    norm: Tensor
    head: Matrix

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Each tensor with its path, such as `layers.3.mlp.router`; a packed matrix has several of one path."""
        yield "embed", self.embed
        for index, layer in enumerate(self.layers):
            for part in fields(layer):
                value = getattr(layer, part.name)
                if isinstance(value, Dense | Sparse):
                    for inner in fields(value):
                        for tensor in tensors_of(getattr(value, inner.name)):
                            yield f"layers.{index}.mlp.{inner.name}", tensor
                elif isinstance(value, Apart):
                    names = (f"layers.{index}.{inner.name}" for inner in fields(value))
                    yield from zip(names, value.tensors(), strict=True)
                else:
                    whole = value.rows if isinstance(value, Together) else value
                    yield from ((f"layers.{index}.{part.name}", tensor) for tensor in tensors_of(whole))
        yield "norm", self.norm
        yield from (("head", tensor) for tensor in tensors_of(self.head))

    def resident(self) -> int:
        """Bytes of memory."""
        return sum(tensor.numel() * tensor.element_size() for _, tensor in self.named())


def joined(weights: Weights) -> Weights:
    """The same weights to run: each layer's `inputs` together. Nothing is copied where they lie one after another."""
    layers: list[Layer] = []
    for layer in weights.layers:
        inputs = layer.inputs
        if isinstance(inputs, Apart):
            parts = inputs.tensors()
            sizes = (len(parts[0]), len(parts[1]), len(parts[2]), len(parts[3]))
            base = parts[0]._base  # pyright: ignore[reportPrivateUsage]
            beside = base is not None and base.shape == (sum(sizes), parts[0].shape[1])
            starts = [part.data_ptr() for part in parts]
            step = parts[0].element_size() * parts[0].shape[1]
            beside = beside and starts == [starts[0] + step * sum(sizes[:index]) for index in range(4)]
            inputs = Together(base if beside and base is not None else torch.cat(parts), sizes)
        layers.append(replace(layer, inputs=inputs))
    return replace(weights, layers=layers)
