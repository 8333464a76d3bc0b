"""Documents packed end to end, and where the next ones come from.

A document is a conversation as token ids, each with whether the model is to learn to say it. A pack is one row of whole
documents: none sees another (`network`), positions start anew with each, and there is no padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

OPEN_PACKS = 16  # that a document may still go into


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids [n] int32, and for each whether the model is to say it [n] bool. `where` is its place in a file."""

    ids: Tensor
    learn: Tensor
    where: str = ""

    @classmethod
    def of(cls, ids: Sequence[int], learn: Sequence[bool], where: str = "") -> Document:
        return cls(torch.tensor(ids, dtype=torch.int32), torch.tensor(learn, dtype=torch.bool), where)

    @property
    def inputs(self) -> int:
        """Tokens that go through the model: all but the last, which nothing follows."""
        return len(self.ids) - 1


@dataclass(frozen=True, slots=True)
class Pack:
    """What goes through the model at once: T tokens, of documents of these lengths."""

    tokens: Tensor  # [T] int64
    targets: Tensor  # [T] int64: the token that follows each in its document
    weights: Tensor  # [T] float32: how much the loss of predicting it counts
    lengths: tuple[int, ...]

    @property
    def weight(self) -> float:
        return float(self.weights.double().sum())

    def silent(self) -> Pack:
        """The same, of which nothing is learnt."""
        return replace(self, weights=torch.zeros_like(self.weights))

    def to(self, device: torch.device) -> Pack:
        return replace(
            self, tokens=self.tokens.to(device), targets=self.targets.to(device), weights=self.weights.to(device)
        )


def pack(documents: Sequence[Document], *, rest: float = 0.0) -> Pack:
    """Documents in one row. `rest` is the weight of tokens that the model is not to say; of those that it is, 1."""
    learn = torch.cat([document.learn[1:] for document in documents]).float()
    return Pack(
        tokens=torch.cat([document.ids[:-1] for document in documents]).long(),
        targets=torch.cat([document.ids[1:] for document in documents]).long(),
        weights=learn + rest * (1 - learn),
        lengths=tuple(document.inputs for document in documents),
    )


def groups(documents: Iterable[Document], length: int) -> Iterator[list[Document]]:
    """The documents in groups of at most `length` inputs, each put where it fits first; fuller groups come first."""
    begun: list[tuple[int, list[Document]]] = []
    for document in documents:
        if document.inputs > length:
            raise ValueError(f"{document.where}: {document.inputs} tokens are more than a pack of {length}")
        place = next((at for at, (used, _) in enumerate(begun) if used + document.inputs <= length), len(begun))
        if place == OPEN_PACKS:
            fullest = max(range(OPEN_PACKS), key=lambda at: begun[at][0])
            yield begun.pop(fullest)[1]
            place = len(begun)
        if place == len(begun):
            begun.append((0, []))
        used, members = begun[place]
        members.append(document)
        begun[place] = used + document.inputs, members
    yield from (members for _, members in begun)


class Source(Protocol):
    """Where a run's packs come from. The same state gives the same packs, in every process."""

    def step(self, progress: float) -> list[Pack]:
        """The packs of the next step, `progress` (0 to 1) into the run; none when there are no more."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Where it stands, as JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None: ...


class Epochs:
    """Documents over and over, in another order each time; a step is `batch` packs of at most `length` tokens."""

    def __init__(self, documents: Sequence[Document], *, length: int, batch: int, seed: int) -> None:
        if not documents:
            raise ValueError("there is nothing to learn from: no document")
        self.documents, self.length, self.batch, self.seed = documents, length, batch, seed
        self.epoch = self.done = 0
        self.packed = self.order(0)

    def order(self, epoch: int) -> list[list[Document]]:
        """An epoch's groups: shuffled before packing, which mixes them anew, and after, for the longest come first."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        shuffled = [self.documents[at] for at in torch.randperm(len(self.documents), generator=generator).tolist()]
        packed = list(groups(shuffled, self.length))
        return [packed[at] for at in torch.randperm(len(packed), generator=generator).tolist()]

    def steps(self, epochs: float) -> int:
        """Steps that go through the documents this many times, by the packs of the first."""
        return max(1, round(len(self.packed) * epochs / self.batch))

    def step(self, progress: float) -> list[Pack]:
        taken: list[Pack] = []
        while len(taken) < self.batch:
            if self.done == len(self.packed):
                self.epoch, self.done = self.epoch + 1, 0
                self.packed = self.order(self.epoch)
            taken.append(pack(self.packed[self.done]))
            self.done += 1
        return taken

    def state(self) -> Mapping[str, Any]:
        return {"epoch": self.epoch, "done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.done = int(state["epoch"]), int(state["done"])
        self.packed = self.order(self.epoch)
