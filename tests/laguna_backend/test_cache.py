"""The cache against a plain list of everything that was ever written, and its FP8 numbers against torch's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoint import FULL, SLIDING, tiny_config
from torch import Tensor

from laguna_backend.engine.engine import Engine
from laguna_backend.engine.request import Request
from laguna_backend.formats import e4m3
from laguna_backend.model.cache import KVCache, Snapshot, Storage, Store, cache_bytes
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, Sparse, random_weights

torch.set_num_threads(1)

HEADS, DIM, CONTEXT = 2, 4, 400


def shape(window: int, **changed: Any) -> LagunaConfig:
    """A full layer and a sliding one."""
    return LagunaConfig.from_dict(
        tiny_config(
            num_hidden_layers=2,
            layer_types=[FULL, SLIDING],
            num_attention_heads_per_layer=[2, 4],
            mlp_layer_types=["dense", "sparse"],
            num_key_value_heads=HEADS,
            head_dim=DIM,
            sliding_window=window,
            max_position_embeddings=CONTEXT,
        )
        | changed
    )


def tokens(start: int, count: int, generation: int = 0) -> tuple[Tensor, Tensor]:
    """k and v [1, HEADS, count, DIM] that tell position, part and generation."""
    generator = torch.Generator().manual_seed(1000 * generation + start)
    return torch.randn(1, HEADS, count, DIM, generator=generator), torch.randn(
        1, HEADS, count, DIM, generator=generator
    )


def step(cache: KVCache, k: Tensor, v: Tensor) -> list[tuple[Tensor, Tensor]]:
    seen = [cache.extend(layer, k, v) for layer in range(2)]
    cache.advance(k.shape[2])
    return seen


def ring_order(length: int, window: int) -> list[int]:
    """The positions that a ring holds after `length` tokens, slot by slot."""
    if length <= window:
        return list(range(length))
    oldest = length - window
    return [oldest + (slot - oldest) % window for slot in range(window)]


moves = st.lists(st.tuples(st.integers(1, 12), st.none() | st.integers(0, 12)), min_size=1, max_size=12)


@given(st.integers(1, 9), moves)
@settings(max_examples=150, deadline=None)
def test_queries_see_what_was_written_in_order_whatever_the_chunks_and_rewinds(
    window: int, moves: list[tuple[int, int | None]]
) -> None:
    cache = KVCache(shape(window), storage="float32")
    past_k, past_v = torch.empty(1, HEADS, 0, DIM), torch.empty(1, HEADS, 0, DIM)
    for generation, (count, back) in enumerate(moves):
        if back is not None:
            to = max(cache.length - back, 0)
            if cache.can_rewind(to):
                cache.rewind(to)
                past_k, past_v = past_k[:, :, :to], past_v[:, :, :to]
            else:
                with pytest.raises(ValueError, match="the window has moved on"):
                    cache.rewind(to)
        k, v = tokens(cache.length, count, generation)
        past_k, past_v = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
        full, sliding = step(cache, k, v)
        assert torch.equal(full[0], past_k)
        assert torch.equal(full[1], past_v)
        needed = min(past_k.shape[2], window - 1 + count)  # what the first query of the chunk may see, and the chunk
        assert sliding[0].shape[2] >= needed
        if count == 1:  # it sees the ring as it lies
            assert sliding[0].shape[2] == needed
            order = ring_order(cache.length, window)
            past_k, past_v, whole = past_k[:, :, order], past_v[:, :, order], (past_k, past_v)
        assert torch.equal(sliding[0][:, :, -needed:], past_k[:, :, -needed:])
        assert torch.equal(sliding[1][:, :, -needed:], past_v[:, :, -needed:])
        assert sliding[0].shape[2] <= window - 1 + count
        if count == 1:
            past_k, past_v = whole  # pyright: ignore[reportPossiblyUnboundVariable]


# Going back ----------------------------------------------------------------------------------------------


class Tale:
    """A cache and everything it should hold, told in steps; `unique` makes every token different."""

    def __init__(self, window: int, storage: Storage, numbers: Iterator[int]) -> None:
        self.numbers, self.window = numbers, window
        self.storage: Storage = storage
        self.cache = KVCache(shape(window), storage=storage)
        self.k = self.v = torch.empty(1, HEADS, 0, DIM)
        self.snapshots: list[Snapshot] = []

    def new(self, count: int) -> tuple[Tensor, Tensor]:
        return tokens(0, count, next(self.numbers))

    def add(self, count: int) -> None:
        """Every new token sees what it should."""
        k, v = self.new(count)
        seen = step(self.cache, k, v)
        self.k, self.v = torch.cat((self.k, k), dim=2), torch.cat((self.v, v), dim=2)
        for (found_k, found_v), needed in zip(seen, (self.k.shape[2], self.window - 1 + count), strict=True):
            needed = min(self.k.shape[2], needed)
            for found, past in ((found_k, self.k), (found_v, self.v)):
                expected = past[:, :, -needed:]
                if count == 1 and needed == self.window:
                    expected = past[:, :, ring_order(past.shape[2], self.window)]
                assert same(found[:, :, -needed:], expected, self.storage)

    def break_off(self, count: int) -> bool:
        """A pass that goes through the layers and does not end."""
        k, v = self.new(count)
        self.cache.extend(0, k, v)
        self.cache.extend(1, k, v)
        return self.cache.break_off()

    def cut(self, length: int) -> None:
        self.k, self.v = self.k[:, :, :length], self.v[:, :, :length]
        self.snapshots = [one for one in self.snapshots if one.length <= length]

    def back_to(self, number: int) -> None:
        snapshot = self.snapshots[number % len(self.snapshots)]
        self.cache.restore(snapshot)
        self.cut(snapshot.length)

    def fork(self, number: int) -> Tale:
        other = Tale(self.window, self.storage, self.numbers)
        other.snapshots = list(self.snapshots)
        other.cache = self.cache.fork(self.snapshots[number % len(self.snapshots)], 0)
        other.k, other.v = self.k, self.v
        other.cut(other.cache.length)
        return other


def same(found: Tensor, expected: Tensor, storage: Storage) -> bool:
    if storage == "float32":
        return torch.equal(found, expected)
    return torch.allclose(found, expected, rtol=0.07, atol=0.02)


acts = st.lists(
    st.tuples(
        st.sampled_from(("add", "add", "snapshot", "back", "fork", "guess", "break", "marked break", "rewind")),
        st.integers(1, 12),
        st.integers(0, 12),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=14,
)


@given(st.integers(1, 9), st.sampled_from(("float32", "fp8")), acts)
@settings(max_examples=200, deadline=None)
def test_a_cache_goes_back_forks_and_survives_broken_passes_as_if_only_the_rest_had_been(
    window: int, storage: Any, acts: list[tuple[str, int, int, int]]
) -> None:
    numbers = itertools.count()
    tales = [Tale(window, storage, numbers)]
    for act, count, other, who in acts:
        tale = tales[who % len(tales)]
        length = tale.cache.length
        match act:
            case "add":
                tale.add(count)
            case "snapshot":
                tale.snapshots.append(tale.cache.snapshot())
            case "back" if tale.snapshots:
                tale.back_to(other)
            case "fork" if tale.snapshots:
                tales.append(tale.fork(other))
            case "guess" if count <= window:
                tale.cache.mark(count)
                tale.add(count)
                if other % 3 == 0:
                    tale.snapshots.append(tale.cache.snapshot())
                    tales.append(tale.fork(-1))
                tale.cache.rewind(length + other % (count + 1))
                tale.cut(tale.cache.length)
            case "break":
                before = tale.cache.snapshot()
                if not tale.break_off(count):
                    assert count > 1
                    tale.cache.restore(before)
            case "marked break" if count <= window:
                tale.cache.mark(count)
                assert tale.break_off(count)
            case "rewind":
                to = max(length - other, 0)
                if tale.cache.can_rewind(to):
                    tale.cache.rewind(to)
                    tale.cut(to)
                else:
                    with pytest.raises(ValueError, match="the window has moved on"):
                        tale.cache.rewind(to)
            case _:
                pass
        assert tale.cache.length == tale.k.shape[2]
    for tale in tales:
        tale.add(1)
        tale.add(3)


def test_a_snapshot_costs_no_memory_until_the_ring_is_written() -> None:
    cache = KVCache(shape(8), storage="float32")
    step(cache, *tokens(0, 20))
    snapshot = cache.snapshot()
    assert snapshot.bytes_used() == 2 * HEADS * DIM * 4 * 8
    ring = cache.stores[1][0]
    assert ring.rows.data_ptr() == snapshot.rings[0][0].data_ptr()
    kept = snapshot.rings[0][0].clone()
    step(cache, *tokens(20, 1))
    assert ring.rows.data_ptr() != snapshot.rings[0][0].data_ptr()
    assert torch.equal(snapshot.rings[0][0], kept)


def test_a_snapshot_of_an_earlier_length_is_to_be_had_while_no_ring_has_forgotten_anything() -> None:
    cache = KVCache(shape(8), storage="float32")
    k, v = tokens(0, 9)
    step(cache, k[:, :, :6], v[:, :, :6])
    other = cache.fork(cache.snapshot(4), 0)
    assert other.length == 4
    assert torch.equal(step(other, k[:, :, 4:], v[:, :, 4:])[1][0], k)
    step(cache, k[:, :, 6:], v[:, :, 6:])
    with pytest.raises(ValueError, match="nothing is known"):
        cache.snapshot(4)


def test_more_tokens_than_the_window_cannot_be_marked() -> None:
    with pytest.raises(ValueError, match="window of 8"):
        KVCache(shape(8), storage="float32").mark(9)


def test_room_is_made_at_once_and_forks_get_their_own() -> None:
    cache = KVCache(shape(8), storage="float32")
    cache.reserve(300)
    step(cache, *tokens(0, 20))
    assert cache.stores[0][0].capacity == 300
    assert cache.fork(cache.snapshot(), 77).stores[0][0].capacity == 77
    cache.reserve(10_000)
    assert cache.stores[0][0].capacity == CONTEXT


@pytest.mark.parametrize("length", [6, 7, 8, 9, 15])
def test_the_ring_is_right_at_each_side_of_its_edge(length: int) -> None:
    cache = KVCache(shape(8), storage="float32")
    k, v = tokens(0, length)
    for at in range(length):
        sliding = step(cache, k[:, :, at : at + 1], v[:, :, at : at + 1])[1]
    assert torch.equal(sliding[0], k[:, :, ring_order(length, 8)])  # pyright: ignore[reportPossiblyUnboundVariable]
    assert cache.can_rewind(length - 1) is (length < 8)


def test_a_full_layer_grows_by_a_quarter_and_never_past_the_context() -> None:
    cache = KVCache(shape(8), storage="bfloat16")
    sizes: list[int] = []
    for at in range(0, CONTEXT, 50):
        step(cache, *tokens(at, 50))
        sizes.append(cache.stores[0][0].capacity)
    assert sorted(set(sizes)) == [256, 320, CONTEXT]
    with pytest.raises(ValueError, match="more than the context of 400"):
        cache.extend(0, *tokens(CONTEXT, 1))


@pytest.mark.parametrize(("storage", "size"), [("float32", 4), ("bfloat16", 2), ("fp8", 1)])
def test_the_bytes_of_a_context_are_those_of_its_numbers(storage: Storage, size: int) -> None:
    given_scales = {(layer, part): 1.0 for layer in range(2) for part in "kv"}
    cache = KVCache(shape(8), storage=storage, scales=given_scales)
    step(cache, *tokens(0, 256))
    row = 2 * HEADS * DIM * size
    assert cache.bytes_used() == row * (256 + 8)
    assert cache_bytes(shape(8), 256, storage) == row * (256 + 8)


@pytest.mark.parametrize("scale", [None, 0.25])
def test_fp8_is_within_half_a_step_of_what_was_written(scale: float | None) -> None:
    store = Store(HEADS, DIM, "fp8", torch.device("cpu"), scale)
    store.reserve(50, 0)
    x = 20 * tokens(0, 50)[0][0]
    store.write(0, x)
    unit = scale or x.abs().amax(dim=-1, keepdim=True) / e4m3.LARGEST
    error = (store.read(0, 50, torch.float32) - x).abs()
    assert bool((error <= torch.maximum(x.abs() / 16, e4m3.STEP / 2 * torch.as_tensor(unit)) * 1.001).all())


def test_scales_of_a_token_do_not_depend_on_its_neighbours() -> None:
    k, v = tokens(0, 20)
    k[:, :, 3] *= 1000
    together = step(KVCache(shape(8), storage="fp8"), k, v)[0][0]
    alone = KVCache(shape(8), storage="fp8")
    for at in range(20):
        found = step(alone, k[:, :, at : at + 1], v[:, :, at : at + 1])[0][0]
    assert torch.equal(found, together)  # pyright: ignore[reportPossiblyUnboundVariable]


def test_after_a_forward_pass_that_failed_half_way_the_next_answer_is_right() -> None:
    # A layer above the sliding one, and less than a window of new tokens: what the ring lost would be seen.
    config = LagunaConfig.from_dict(tiny_config(sliding_window=8))
    laguna = Laguna(config, random_weights(config))
    prompt, more = list(range(70, 90)), list(range(100, 104))
    request = Request(prompt=(*prompt, *more), max_tokens=8)
    expected = list(Engine(laguna, storage="float32").generate(request))[:-1]
    engine = Engine(laguna, storage="float32")
    list(engine.generate(Request(prompt=tuple(prompt), max_tokens=1)))
    sliding = laguna.weights.layers[1].mlp  # of the sliding layer, whose ring is written before it fails
    assert isinstance(sliding, Sparse)
    router, sliding.router = sliding.router, torch.empty(1, 1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(engine.generate(request))
    sliding.router = router
    assert list(engine.generate(request))[:-1] == expected


def test_layers_out_of_order_are_refused() -> None:
    cache = KVCache(shape(8), storage="float32")
    cache.extend(0, *tokens(0, 3))
    with pytest.raises(ValueError, match="layer 0 came where layer 1 was due"):
        cache.extend(0, *tokens(0, 3))
    with pytest.raises(ValueError, match="broke off"):
        cache.rewind(0)


# FP8 numbers -----------------------------------------------------------------------------------------------

BYTES = torch.arange(256, dtype=torch.uint8)
NUMBERS = BYTES[(BYTES & 0x7F) != 0x7F]  # all but the two that are no numbers


def test_every_e4m3_number_comes_back_as_it_is_on_both_ways() -> None:
    values = NUMBERS.view(torch.float8_e4m3fn).float()
    for decode in (e4m3.decode, e4m3.decode_by_table):
        assert torch.equal(decode(NUMBERS), values)
    for encode in (e4m3.encode, e4m3.encode_by_arithmetic):
        assert torch.equal(encode(values), NUMBERS)


def test_ties_and_their_neighbours_round_as_torch_rounds_them() -> None:
    values = NUMBERS.view(torch.float8_e4m3fn).float().unique()
    ties = (values[1:] + values[:-1]) / 2
    up, down = torch.full_like(ties, float("inf")), torch.full_like(ties, float("-inf"))
    near = torch.cat((ties, ties.nextafter(up), ties.nextafter(down)))
    expected = near.to(torch.float8_e4m3fn).float()
    assert torch.equal(e4m3.decode(e4m3.encode_by_arithmetic(near)), expected)


@given(st.lists(st.floats(-448, 448, width=32), min_size=1, max_size=50))
@settings(max_examples=200, deadline=None)
def test_any_number_rounds_as_torch_rounds_it(numbers: list[float]) -> None:
    x = torch.tensor(numbers, dtype=torch.float32)
    assert torch.equal(e4m3.decode(e4m3.encode_by_arithmetic(x)), x.to(torch.float8_e4m3fn).float())


def test_numbers_beyond_the_largest_are_clamped_not_lost() -> None:
    beyond = torch.tensor([1e9, -1e9, 449.0, float("inf")])
    assert e4m3.decode(e4m3.encode(beyond)).tolist() == [448.0, -448.0, 448.0, 448.0]
