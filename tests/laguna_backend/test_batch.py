"""Several sequences in one pass, against each of them alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoint import tiny_config
from torch import Tensor

from laguna_backend.model.batch import Batch
from laguna_backend.model.cache import KVCache
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, joined, random_weights
from laguna_backend.model.rope import Tables

torch.set_num_threads(1)

CONFIG = LagunaConfig.from_dict(tiny_config(sliding_window=8))
LAGUNA = Laguna(CONFIG, random_weights(CONFIG, seed=5))


def by_the_kernels() -> Laguna:
    """One whose few tokens go by the kernels, where there are any."""
    config = LagunaConfig.from_dict(tiny_config(sliding_window=8, head_dim=16))
    return Laguna(config, joined(random_weights(config, seed=5)))


KINDS = {"torch": LAGUNA, "kernels": by_the_kernels()}


def drawn(count: int, seed: int) -> Tensor:
    return torch.randint(70, 300, (1, count), generator=torch.Generator().manual_seed(seed))


def cache_of(past: int, seed: int, laguna: Laguna = LAGUNA) -> KVCache:
    cache = KVCache(laguna.config, storage="float32")
    if past:
        laguna.forward(drawn(past, seed), cache)
    return cache


members = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", list(KINDS))
@given(members)
@settings(max_examples=40, deadline=None)
def test_a_batch_gives_each_sequence_what_it_gets_alone(kind: str, members: list[tuple[int, int]]) -> None:
    laguna = KINDS[kind]
    pasts = [cache_of(past, seed, laguna) for seed, (past, _) in enumerate(members)]
    new = [drawn(count, 100 + seed) for seed, (_, count) in enumerate(members)]
    expected = [laguna.forward(part, cache_of(members[seed][0], seed, laguna)) for seed, part in enumerate(new)]
    for last_only in (True, False):
        batch = Batch([cache.fork(cache.snapshot(), 0) for cache in pasts], [count for _, count in members])
        found = laguna.forward(torch.cat(new, dim=1), batch, last_only=last_only)
        wanted = torch.cat([part[:, -1:] if last_only else part for part in expected], dim=1)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        assert [cache.length for cache in batch.caches] == [past + count for past, count in members]


@torch.inference_mode()
def test_a_batch_of_one_is_that_one_to_the_last_bit() -> None:
    for count in (1, 5):
        alone = LAGUNA.forward(drawn(count, 9), cache_of(20, 1))
        assert torch.equal(LAGUNA.forward(drawn(count, 9), Batch([cache_of(20, 1)], [count])), alone)


@torch.inference_mode()
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_a_pass_can_be_broken_off_in_any_layer(layers: int) -> None:
    cache = cache_of(20, 1)
    before = cache.snapshot()
    calls = 0

    def pause() -> None:
        nonlocal calls
        calls += 1
        if calls > layers:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        LAGUNA.forward(drawn(12, 9), Batch([cache], [12], pause))
    assert (cache.length, calls) == (20, layers + 1)
    cache.restore(before)
    expected = LAGUNA.forward(drawn(12, 9), cache_of(20, 1))
    assert torch.equal(LAGUNA.forward(drawn(12, 9), cache), expected)


def test_cos_and_sin_are_those_of_their_positions_whoever_asked_before() -> None:
    rope = CONFIG.layers[0].rope
    tables = Tables(rope, torch.device("cpu"))
    fresh = Tables(rope, torch.device("cpu")).at(0, 256 * 70, torch.float32)
    for start, count in ((0, 1), (255, 3), (17_000, 1), (250, 600), (3, 4), (16_900, 900)):
        for part, whole in zip(tables.at(start, count, torch.float32), fresh, strict=True):
            assert torch.equal(part, whole[start : start + count])
    assert len(tables.blocks) <= Tables.KEPT
