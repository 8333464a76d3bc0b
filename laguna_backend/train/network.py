"""A Laguna as torch's training runtime wants it: modules whose parameters can be sharded, frozen and cast.

The arithmetic is `model.forward.block`, the same that generates. A module here holds a layer's tensors as parameters
under the names that `Weights` has for them, puts the dataclasses together from them at each pass, in the dtype that it
computes in, with what is trained of an adapter beside them, and decides what tokens see: those of their own document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from ..checkpoint.adapter import Low, slots
from ..model.attention import attend
from ..model.config import LagunaConfig, LayerConfig
from ..model.forward import block, norm
from ..model.linear import Matrix, linear
from ..model.parameters import Apart, Dense, Layer, Sparse, Together, Weights
from ..model.rope import Tables
from .lora import Lora
from .packing import Pack

LOGITS = 1 << 24  # of one piece of the loss: 64 MiB in float32


@dataclass(slots=True)
class Top:
    """What turns the last hidden states into logits: norm [H] and head [V, H]."""

    norm: Tensor
    head: Matrix


@dataclass(frozen=True)
class Losses:
    """Of one pack: the weighted sum of its tokens' losses, how many of those to be said were the first choice, and for
    each sparse layer how many tokens each expert got [experts]."""

    total: Tensor
    right: Tensor
    loads: list[Tensor]


def judge(h: Tensor, head: Matrix, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted sum of the losses of predicting targets [N] from h [N, H], and how many first choices are right."""
    logits = linear(h, head).float()
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses * weights).sum(), ((logits.argmax(-1) == targets) & (weights >= 1)).sum()


class Held(nn.Module):
    """The tensors of a dataclass of weights, and of those within it, as parameters and buffers of the same names.

    What is no number to learn (packed codes) or learns in another way (a router's bias) is a buffer.
    """

    def __init__(self, value: Any, trainable: bool) -> None:
        super().__init__()
        self.kind = type(value)
        self.rest: dict[str, Any] = {}
        for part in fields(value):
            inner = getattr(value, part.name)
            if isinstance(inner, Tensor) and inner.is_floating_point() and is_learnt(value, part.name):
                self.register_parameter(part.name, nn.Parameter(inner, requires_grad=trainable))
            elif isinstance(inner, Tensor):
                self.register_buffer(part.name, inner)
            elif is_dataclass(inner):
                self.add_module(part.name, Held(inner, trainable))
            else:
                self.rest[part.name] = inner

    def assembled(self, cast_to: Callable[[Tensor], Tensor]) -> Any:
        """The dataclass again; each parameter goes through `cast_to`."""
        parameters = {name: cast_to(p) for name, p in self.named_parameters(recurse=False)}
        inner = {name: cast(Held, child).assembled(cast_to) for name, child in self.named_children()}
        return self.kind(**self.rest, **dict(self.named_buffers(recurse=False)), **parameters, **inner)


def is_learnt(owner: Any, name: str) -> bool:
    """Packed matrices are not among these, and nothing within one can be learnt."""
    plain = isinstance(owner, Layer | Apart | Together | Dense | Sparse | Top)
    return plain and not (isinstance(owner, Sparse) and name == "bias")


def gathered(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded over the processes."""
    whole = tensor.detach()
    return whole.full_tensor() if isinstance(whole, DTensor) else whole


class Part(nn.Module):
    """What is trained of an adapter for one module: down [.., r, K] and up [.., N, r], which begins as nothing."""

    def __init__(self, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)


class Block(nn.Module):
    """One layer. Its forward gives the hidden states and how often each expert was chosen (none in a dense layer)."""

    def __init__(
        self, config: LagunaConfig, index: int, layer: Layer, lora: Lora | None, *, dtype: torch.dtype, recompute: bool
    ) -> None:
        super().__init__()
        self.config, self.spec, self.index = config, config.layers[index], index
        self.dtype, self.recompute, self.lora = dtype, recompute, lora
        parts = lora.parts(layer, index) if lora else {}
        self.parts = nn.ModuleDict({name.replace(".", "/"): Part(part.down, part.up) for name, part in parts.items()})
        self.weights = Held(layer, trainable=lora is None)

    def layer(self, cast_to: Callable[[Tensor], Tensor]) -> Layer:
        return self.weights.assembled(cast_to)

    def adapter_parts(self, cast_to: Callable[[Tensor], Tensor]) -> dict[str, Low]:
        return {
            name.replace("/", "."): Low(cast_to(cast(Part, part).down), cast_to(cast(Part, part).up))
            for name, part in self.parts.items()
        }

    def forward(self, h: Tensor, cos: Tensor, sin: Tensor, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if self.recompute and torch.is_grad_enabled():
            return cast("tuple[Tensor, Tensor]", checkpoint(self.run, h, cos, sin, lengths, use_reentrant=False))
        return self.run(h, cos, sin, lengths)

    def run(self, h: Tensor, cos: Tensor, sin: Tensor, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        layer = self.layer(self.cast)
        if self.lora:
            parts = self.adapter_parts(self.cast)
            for slot in slots(layer, self.index):
                slot.attach(parts, self.lora.scale, self.lora.dropout if self.training else 0.0)
        loads = torch.zeros(self.config.experts if self.spec.sparse else 0, dtype=torch.int64, device=h.device)

        def chosen(experts: Tensor) -> None:
            loads.add_(torch.bincount(experts.flatten(), minlength=len(loads)))

        return block(self.config, self.spec, layer, h, (cos, sin), sight(self.spec, lengths), chosen), loads

    def cast(self, parameter: Tensor) -> Tensor:
        return parameter.to(self.dtype)


def sight(spec: LayerConfig, lengths: tuple[int, ...]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Each document of a pack by itself: what is not seen is not computed either."""

    def see(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        documents = zip(q.split(lengths, dim=2), k.split(lengths, dim=2), v.split(lengths, dim=2), strict=True)
        return torch.cat([attend(*document, spec.window) for document in documents], dim=2)

    return see


class Network(nn.Module):
    """A Laguna to train: all of it, or an adapter of it alone.

    Parameters are as the weights come: in float32 what is trained. Each pass rounds them to `dtype` first, so that
    small steps add up in them while products are quick. `recompute` keeps no more of a layer than what goes into it.
    """

    def __init__(
        self,
        config: LagunaConfig,
        weights: Weights,
        *,
        lora: Lora | None = None,
        dtype: torch.dtype = torch.float32,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if lora:
            lora.check(weights)
        self.config, self.lora, self.dtype = config, lora, dtype
        ropes = {layer.rope for layer in config.layers}
        self.ropes = {rope: Tables(rope, weights.embed.device) for rope in ropes}
        self.embed = nn.Parameter(weights.embed, requires_grad=lora is None)
        self.layers = nn.ModuleList(
            Block(config, index, layer, lora, dtype=dtype, recompute=recompute)
            for index, layer in enumerate(weights.layers)
        )
        self.top = Held(Top(weights.norm, weights.head), trainable=lora is None)

    @property
    def blocks(self) -> list[Block]:
        return [cast(Block, layer) for layer in self.layers]

    def forward(self, pack: Pack) -> Losses:
        """The losses of a pack's tokens, with gradients."""
        h = F.embedding(pack.tokens[None], self.embed).to(self.dtype)  # [1, T, H]
        places = torch.cat([torch.arange(length, device=h.device) for length in pack.lengths])
        longest = max(pack.lengths)
        turns = {rope: made.at(0, longest, h.dtype) for rope, made in self.ropes.items()}
        turns = {rope: (cos[places], sin[places]) for rope, (cos, sin) in turns.items()}
        loads: list[Tensor] = []
        for layer in self.blocks:
            cos, sin = turns[layer.spec.rope]
            h, load = layer(h, cos, sin, pack.lengths)
            loads.append(load)
        top = self.last(lambda parameter: parameter.to(self.dtype))
        learnt = pack.weights.nonzero().flatten()
        if not len(learnt):  # other processes wait for the gradient of every parameter: one token, of weight 0
            learnt = torch.zeros(1, dtype=torch.int64, device=h.device)
        h = norm(h[0, learnt], top.norm, self.config.norm_eps)
        targets, weights = pack.targets[learnt], pack.weights[learnt]
        total = torch.zeros((), device=h.device)
        right = torch.zeros((), dtype=torch.int64, device=h.device)
        step = max(1, LOGITS // self.config.vocab_size)
        for start in range(0, len(learnt), step):
            piece = slice(start, start + step)
            more = len(learnt) > step and torch.is_grad_enabled()
            arguments = (h[piece], top.head, targets[piece], weights[piece])
            # Logits of a large vocabulary are most of the memory there is: made again for their gradients.
            loss, hits = checkpoint(judge, *arguments, use_reentrant=False) if more else judge(*arguments)
            total, right = total + loss, right + hits
        return Losses(total, right, [load for load in loads if len(load)])

    def last(self, cast_to: Callable[[Tensor], Tensor]) -> Top:
        return self.top.assembled(cast_to)

    def whole(self) -> Iterator[tuple[int, Layer]]:
        """Each layer's weights, gathered from all processes, which must all ask for it at the same time."""
        yield from ((block.index, block.layer(gathered)) for block in self.blocks)

    def weights(self) -> Weights:
        """All weights, as they are held; gathered from all processes."""
        top = self.last(gathered)
        return Weights(gathered(self.embed), [layer for _, layer in self.whole()], top.norm, top.head)

    def adapter(self) -> Mapping[str, Low]:
        """The parts of the adapter that is trained; gathered from all processes."""
        return {name: part for block in self.blocks for name, part in block.adapter_parts(gathered).items()}
