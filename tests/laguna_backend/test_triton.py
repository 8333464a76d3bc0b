"""The kernels of a CUDA device beside their plain twins, on the CPU in Triton's interpreter: what they compute, not how
fast. No hardware has run them yet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: its kernels are not run")


from laguna_backend.bench.slice import filled_cache, packed, shape_config
from laguna_backend.formats import e4m3
from laguna_backend.kernels.triton import attention, experts, flash, heads, narrow, norms, numbers, router
from laguna_backend.model import moe
from laguna_backend.model.attention import attend_one, attend_plain
from laguna_backend.model.cache import KVCache, Storage
from laguna_backend.model.captured import Captured
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, joined, random_weights
from laguna_backend.model.layer import norm
from laguna_backend.model.linear import Packer, Stack
from laguna_backend.model.narrow import times_plain, to_fp8, to_nibbles
from laguna_backend.model.rope import rotate

torch.set_num_threads(1)

TYPES = [torch.float32, torch.bfloat16]
STORAGES: list[Storage] = ["float32", "bfloat16", "fp8"]


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def near(found: Tensor, expected: Tensor) -> bool:
    """Within rounding of the dtype, relative to the whole. The interpreter cuts bfloat16 off where devices round."""
    limit = 2e-5 if expected.dtype == torch.float32 else 4e-2
    return float((found.float() - expected.float()).norm()) <= limit * float(expected.float().norm())


def test_fp8_numbers_are_those_of_the_plain_twin_ties_included() -> None:
    every = e4m3.decode(torch.arange(256, dtype=torch.uint8))
    every = every[every.isfinite()].sort().values
    between = (every[1:] + every[:-1]) / 2
    near_ties = torch.cat((between * (1 + 1e-6), between * (1 - 1e-6)))
    x = torch.cat((every, between, near_ties, torch.tensor([500.0, -1e9, 1e-12, 0.0, -0.0])))
    x = F.pad(x, (0, 2048 - len(x)))
    codes, back = torch.zeros(2048, dtype=torch.uint8), torch.zeros(2048)
    numbers.both_ways(x, codes, back)
    assert torch.equal(codes, e4m3.encode(x))
    assert torch.equal(back, e4m3.decode(codes))


@pytest.mark.parametrize("dtype", TYPES)
def test_the_sum_and_its_norm(dtype: torch.dtype) -> None:
    h, more, weight = (drawn(*shape, dtype=dtype, seed=n) for n, shape in enumerate([(3, 100), (3, 100), (100,)]))
    expected = h + more
    found = norms.add_and_norm(h, more, weight, 1e-6)
    assert near(h, expected)
    assert near(found, norm(expected, weight, 1e-6))
    before = h.clone()
    assert near(norms.add_and_norm(h, None, weight, 1e-6), norm(h, weight, 1e-6))
    assert torch.equal(h, before)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("layer", "length"), [(0, 70), (1, 31), (1, 70)])
@pytest.mark.parametrize("scales", [{}, {(layer, part): 0.03 for layer in (0, 1) for part in "kv"}])
@pytest.mark.parametrize("wide", [False, True])
def test_heads_are_turned_and_stored_and_see_the_cache(
    storage: Storage, layer: int, length: int, scales: dict[tuple[int, str], float], wide: bool
) -> None:
    config = LagunaConfig.from_dict(shape_config("tiny", 2))
    dtype = torch.bfloat16 if storage == "bfloat16" else torch.float32
    spec, dim, kv = config.layers[layer], config.head_dim, config.kv_heads
    caches = [KVCache(config, storage=storage, scales=scales) for _ in range(2)]
    past = drawn(2, 1, kv, length, dim, dtype=dtype)
    for cache in caches:
        cache.reached = layer
        cache.extend(layer, past[0], past[1])
        cache.length, cache.reached = length, layer
    ours, plain = caches
    gates = spec.heads * (dim if wide else 1)
    products = drawn((spec.heads + 2 * kv) * dim + gates, dtype=dtype, seed=1)
    weights = drawn(dim, dtype=dtype, seed=2), drawn(dim, dtype=dtype, seed=3)
    turn = drawn(128, spec.rope.rotary_dim, dtype=dtype, seed=4), drawn(128, spec.rope.rotary_dim, dtype=dtype, seed=5)
    q, k, v, gate = products.split((spec.heads * dim, kv * dim, kv * dim, gates))
    here = tuple(half[length : length + 1] for half in turn)
    q = rotate(norm(q.view(1, -1, 1, dim), weights[0], 1e-6), *here)
    k = rotate(norm(k.view(1, -1, 1, dim), weights[1], 1e-6), *here)
    expected = attend_one(q, *plain.extend(layer, k, v.view(1, -1, 1, dim)))[0, :, 0]
    expected = (expected * F.softplus(gate.float()).to(dtype).view(spec.heads, -1)).flatten()

    at = torch.tensor([length])
    ours.begin(layer, 1)
    queries = heads.turn_and_store(products, spec.heads, weights, turn, at, ours.stores[layer], 1e-6)
    assert near(queries, q[0, :, 0])
    for mine, other in zip(ours.stores[layer], plain.stores[layer], strict=True):
        held = min(length + 1, mine.capacity)
        assert near(mine.read(0, held, dtype), other.read(0, held, dtype))
    assert near(attention.attend_gated(queries, ours.stores[layer], at, gate), expected)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_experts_of_few_rows(dtype: torch.dtype, rows: int) -> None:
    given = mixture(rows, dtype)
    assert near(experts.mix_few(*given), moe.mix_plain(*given))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "favoured"), [(1, False), (9, False), (70, False), (70, True)])
def test_experts_of_many_rows(dtype: torch.dtype, rows: int, favoured: bool) -> None:
    x, weights, chosen, gate_up, down = mixture(rows, dtype)
    if favoured:  # two experts have it all, several tiles each, and the others nothing
        chosen = torch.tensor([[4, 1]]).expand(rows, 2).contiguous()
    found = experts.mix_many(x, weights, chosen, gate_up, down)
    assert near(found, moe.mix_plain(x, weights, chosen, gate_up, down))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 100), (300, 260)])
def test_few_rows_times_a_narrow_matrix(dtype: torch.dtype, rows: int, columns: int) -> None:
    x, w = drawn(3, columns, dtype=dtype), drawn(rows, columns, seed=1)
    for matrix, _ in (to_fp8(w), to_nibbles(w, 32), to_nibbles(w, 128)):
        assert near(narrow.times_few(x, matrix), times_plain(x, matrix))
    assert near(narrow.times_few(x, w.to(dtype)), F.linear(x, w.to(dtype)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("precision", ["fp8", "int4"])
@pytest.mark.parametrize(("rows", "mix"), [(1, experts.mix_few), (8, experts.mix_few), (70, experts.mix_many)])
def test_narrow_experts(dtype: torch.dtype, precision: Any, rows: int, mix: Any) -> None:
    x, weights, chosen, gate_up, down = mixture(rows, dtype)
    packer, stacks = Packer(precision, narrow=True), (Stack(5), Stack(5))
    for stack, whole in zip(stacks, (gate_up, down), strict=True):
        for matrix in whole:
            stack.add(packer(matrix))
    packed = stacks[0].whole(), stacks[1].whole()
    assert near(mix(x, weights, chosen, *packed), moe.mix_plain(x, weights, chosen, *packed))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("precision", ["bf16", "fp8", "int4"])
def test_experts_of_few_rows_beside_the_one_that_sees_all(dtype: torch.dtype, precision: Any) -> None:
    x, weights, chosen, gate_up, down = mixture(3, dtype)
    own = drawn(2 * 56, 72, dtype=dtype, seed=3) / 8, drawn(72, 56, dtype=dtype, seed=4) / 7
    if precision != "bf16":
        packer = Packer(precision, narrow=True)
        own = packer(own[0]), packer(own[1])
    expected = moe.mix_plain(x, weights, chosen, gate_up, down) * 2.5 + moe.swiglu(x, *own)
    assert near(experts.mix_few(x, weights, chosen, gate_up, down, own, 2.5), expected)
    assert near(experts.swiglu_few(x, *own), moe.swiglu(x, *own))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("score", ["sigmoid", "sqrtsoftplus"])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
@pytest.mark.parametrize(("many", "top_k"), [(256, 8), (40, 3), (5, 5)])
def test_a_router_chooses(dtype: torch.dtype, score: str, softcap: float, many: int, top_k: int) -> None:
    x, matrix, bias = drawn(4, 24), drawn(many, 24, seed=1), drawn(many, dtype=dtype, seed=2) / 4
    logits = F.linear(x, matrix).to(dtype)
    # The plain twin's own product of these: an input that picks each logit out.
    expected, those = moe.route(logits, torch.eye(many, dtype=dtype), bias, top_k, score=score, softcap=softcap)
    weights, chosen = router.choose(logits, bias, top_k, score, softcap)
    for row in range(4):
        assert set(chosen[row].tolist()) == set(those[row].tolist())
    order = chosen.argsort(dim=-1)
    assert near(weights.gather(1, order), expected.gather(1, those.argsort(dim=-1)))


def test_a_router_of_nonsense_chooses_experts_that_there_are() -> None:
    logits = torch.full((2, 5), float("nan"))
    assert int(router.choose(logits, torch.zeros(5), 3, "sigmoid", 0.0)[1].max()) < 5


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("window", [None, 32, 100])
@pytest.mark.parametrize(("queries", "keys"), [(2, 2), (3, 200), (130, 130), (70, 333), (300, 300)])
def test_a_chunk_sees_what_it_may(dtype: torch.dtype, window: int | None, queries: int, keys: int) -> None:
    q = drawn(1, queries, 6, 32, dtype=dtype).transpose(1, 2)
    k, v = (drawn(1, 2, keys + 5, 32, dtype=dtype, seed=seed)[:, :, 5:] for seed in (1, 2))
    assert flash.takes(q, k, v)
    assert near(flash.attend_many(q, k, v, window), attend_plain(q, k, v, window))


def mixture(rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sizes that fill no tile."""
    chosen = torch.rand(rows, 5, generator=torch.Generator().manual_seed(6)).topk(2).indices
    weights = drawn(rows, 2, seed=7).softmax(-1).to(dtype)
    gate_up, down = drawn(5, 2 * 40, 72, dtype=dtype, seed=8) / 8, drawn(5, 72, 40, dtype=dtype, seed=9) / 6
    return drawn(rows, 72, dtype=dtype), weights, chosen, gate_up, down


@torch.no_grad()
@pytest.mark.parametrize("storage", ["float32", "fp8"])
@pytest.mark.parametrize("precision", ["bf16", "fp8", "int4"])
def test_a_step_is_that_of_the_plain_pass(storage: Storage, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SPLITS", 4)  # each costs the interpreter milliseconds
    raw = shape_config("tiny", 5) | {"max_position_embeddings": 256}
    config = LagunaConfig.from_dict(raw)
    weights = random_weights(config)
    laguna = Laguna(config, joined(weights) if precision == "bf16" else packed(weights, Packer(precision, narrow=True)))
    laguna.compiled = None
    ours, plain = (filled_cache(config, storage, 40) for _ in range(2))
    step = Captured(config, laguna.weights, capture=False)
    for token in torch.tensor([[[5]], [[9]], [[400]]]):
        assert step.takes(token)
        found, expected = step.forward(token, ours), laguna.forward(token, plain, last_only=True)
        assert found.shape == expected.shape
        assert float((found - expected).float().norm() / expected.float().norm()) < 1e-2
    assert ours.length == plain.length == 43
