"""What a Mac's GPU would be asked to do, watched on the CPU: no hardware has run it yet.

The code that MPS takes is chosen here as it is there, and every operator that torch runs is written down: no type that
MPS lacks, and, while decoding, nothing for which the host waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laguna_backend.bench.slice import pooled_weights, shape_config
from laguna_backend.formats import e4m3
from laguna_backend.model import moe
from laguna_backend.model.cache import KVCache, Storage
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, joined

torch.set_num_threads(1)

CONFIG = LagunaConfig.from_dict(shape_config("tiny", 5))
LACKING = {torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex128}
WAITING = {"nonzero", "masked_select", "_unique2", "bincount", "_local_scalar_dense"}  # among torch's operators
ASKING = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "numpy", "cpu"}  # among a tensor's methods


class Asked(TorchFunctionMode):
    """Writes down the methods of tensors that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.methods: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.methods.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


class Watched(TorchDispatchMode):
    """Writes down each operator and the types that go in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: set[str] = set()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operators.add(str(func.name()).split(".")[0].removeprefix("aten::"))
        self.types |= {leaf.dtype for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)}
        return out


@pytest.fixture
def as_on_mps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def switch() -> None:
        monkeypatch.setattr(e4m3, "has_type", lambda device: False)  # pyright: ignore[reportUnknownLambdaType]
        monkeypatch.setattr(moe, "far", lambda x: True)  # pyright: ignore[reportUnknownLambdaType]

    e4m3.table(torch.device("cpu"))  # made on the CPU there, too
    return switch


@torch.no_grad()
def run(storage: Storage, watch: Watched, asked: Asked) -> torch.Tensor:
    """A prompt, then a few tokens one by one under watch; the last logits."""
    laguna = Laguna(CONFIG, joined(pooled_weights(CONFIG)))
    laguna.compiled = None
    cache = KVCache(CONFIG, storage=storage)
    laguna.forward(torch.arange(50)[None], cache)
    with asked, watch:
        for token in torch.arange(5).view(5, 1, 1):
            logits = laguna.forward(token, cache, last_only=True)
    return logits  # pyright: ignore[reportPossiblyUnboundVariable]


@pytest.mark.parametrize("storage", ["bfloat16", "fp8"])
def test_decoding_as_on_mps_waits_for_nothing_and_needs_no_type_that_is_not_there(
    storage: Storage, as_on_mps: Callable[[], None]
) -> None:
    plain = Asked()
    expected = run(storage, Watched(), plain)
    assert "tolist" in plain.methods  # on a CPU it costs nothing
    as_on_mps()
    watched, asked = Watched(), Asked()
    found = run(storage, watched, asked)
    assert not watched.operators & WAITING
    assert not asked.methods & ASKING
    assert not watched.types & LACKING
    assert float((found - expected).float().norm() / expected.float().norm()) < 0.05


@pytest.mark.parametrize("storage", ["bfloat16", "fp8"])
def test_a_prompt_as_on_mps_needs_no_type_that_is_not_there(storage: Storage, as_on_mps: Callable[[], None]) -> None:
    def read() -> tuple[torch.Tensor, Watched]:
        laguna, watched = Laguna(CONFIG, joined(pooled_weights(CONFIG))), Watched()
        laguna.compiled = None
        cache = KVCache(CONFIG, storage=storage)
        with torch.no_grad(), watched:
            for chunk in torch.arange(90)[None].split(50, dim=1):  # the second one goes round every ring
                logits = laguna.forward(chunk, cache, last_only=True)
        return logits, watched  # pyright: ignore[reportPossiblyUnboundVariable]

    expected, _ = read()
    as_on_mps()
    found, watched = read()
    assert torch.bfloat16 in watched.types
    assert not watched.types & LACKING
    assert float((found - expected).float().norm() / expected.float().norm()) < 0.05
