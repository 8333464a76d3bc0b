"""The fast ways beside the plain ones: attention, experts, placement."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from laguna_backend.model.attention import attend, attend_plain
from laguna_backend.model.config import ConfigError
from laguna_backend.model.device import place
from laguna_backend.model.moe import mix, mix_gathered, mix_grouped, mix_one, mix_plain, mix_sorted, route

torch.set_num_threads(1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [None, 1, 3, 8, 64])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 20), (5, 5), (5, 20), (20, 20)])
@pytest.mark.parametrize(("heads", "kv"), [(6, 1), (8, 2), (9, 3), (2, 2)])
def test_attend_agrees_with_the_arithmetic(window: int | None, queries: int, keys: int, heads: int, kv: int) -> None:
    q, k, v = drawn(1, heads, queries, 8), drawn(1, kv, keys, 8, seed=1), drawn(1, kv, keys, 8, seed=2)
    torch.testing.assert_close(attend(q, k, v, window), attend_plain(q, k, v, window), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 100, 128, 129, 700])
@pytest.mark.parametrize(("queries", "keys"), [(129, 129), (300, 300), (300, 700), (513, 600)])
def test_attention_in_blocks_agrees_with_the_arithmetic(window: int | None, queries: int, keys: int) -> None:
    q, k, v = drawn(1, 3, queries, 8), drawn(1, 1, keys, 8, seed=1), drawn(1, 1, keys, 8, seed=2)
    torch.testing.assert_close(attend(q, k, v, window), attend_plain(q, k, v, window), rtol=1e-5, atol=1e-5)


def test_gradients_of_attention_in_blocks_are_those_of_the_arithmetic() -> None:
    found: list[list[Tensor]] = []
    for way in (attend, attend_plain):
        leaves = [drawn(2, heads, 300, 8, seed=heads).double().requires_grad_() for heads in (6, 2, 1)]
        q, k, v = leaves[0], leaves[1], leaves[2].expand(2, 2, 300, 8)
        way(q, k, v, 50).square().sum().backward()
        found.append([leaf.grad for leaf in leaves if leaf.grad is not None])
    assert len(found[0]) == 3
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def routed(rows: int, score: str = "sigmoid", dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Everything that `mix` takes, for five experts of which each row gets two."""
    x = drawn(rows, 16).to(dtype)
    weights, chosen = route(x, drawn(5, 16, seed=1).to(dtype), drawn(5, seed=2), 2, score=score)
    return x, weights, chosen, drawn(5, 16, 16, seed=3).to(dtype), drawn(5, 16, 8, seed=4).to(dtype)


@pytest.mark.parametrize("rows", [1, 2, 7, 40])
@pytest.mark.parametrize("score", ["sigmoid", "sqrtsoftplus"])
@pytest.mark.parametrize("way", [mix, mix_sorted, mix_grouped])
def test_every_way_to_mix_agrees_with_the_loop_over_experts(rows: int, score: str, way: Callable[..., Tensor]) -> None:
    torch.testing.assert_close(way(*routed(rows, score)), mix_plain(*routed(rows, score)))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_weights_gathered_for_a_few_rows_agree_with_the_loop_over_experts(rows: int) -> None:
    torch.testing.assert_close(mix_gathered(*routed(rows)), mix_plain(*routed(rows)))


def test_one_row_through_views_agrees_with_the_loop_over_experts() -> None:
    torch.testing.assert_close(mix_one(*routed(1)), mix_plain(*routed(1)))


@pytest.mark.parametrize("rows", [1, 40])
def test_bfloat16_experts_agree_within_rounding(rows: int) -> None:
    expected = mix_plain(*routed(rows, dtype=torch.bfloat16))
    for way in (mix, mix_sorted, mix_grouped, mix_gathered):
        torch.testing.assert_close(way(*routed(rows, dtype=torch.bfloat16)), expected, rtol=0.02, atol=0.05)


def test_gradients_of_the_sorted_way_are_those_of_the_loop() -> None:
    found: list[list[Tensor]] = []
    for way in (mix_sorted, mix_plain):
        x, weights, chosen, gate_up, down = routed(40, dtype=torch.float64)
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weights, gate_up, down)]
        way(leaves[0], leaves[1], chosen, leaves[2], leaves[3]).square().sum().backward()
        found.append([leaf.grad for leaf in leaves if leaf.grad is not None])
    assert len(found[0]) == 4
    torch.testing.assert_close(found[0], found[1])


def test_the_bias_chooses_experts_and_does_not_weigh_them() -> None:
    x, router = drawn(4, 16), drawn(5, 16, seed=1)
    bias = torch.tensor([100.0, 100.0, 0, 0, 0])
    weights, chosen = route(x, router, bias, 2)
    assert set(chosen.flatten().tolist()) == {0, 1}
    scores = (x @ router.T).sigmoid().gather(-1, chosen)
    torch.testing.assert_close(weights, scores / scores.sum(-1, keepdim=True))


def test_a_device_that_is_not_there_and_float16_are_refused() -> None:
    with pytest.raises(ConfigError, match="abacus"):
        place("abacus")
    with pytest.raises(ConfigError, match="float16"):
        place("cpu", "float16")
    for wrong in ("cpu:x", "cpu:1", "cpu:", "cuda:-1"):
        with pytest.raises(ConfigError, match=wrong):
            place(wrong)
    with pytest.raises(ConfigError, match="FP8 for an accelerator, not for cpu"):
        place("cpu", weights="fp8")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda"):
            place("cuda")


def test_the_cpu_takes_float32_for_a_small_model_and_bfloat16_for_a_large_one() -> None:
    assert place("cpu", parameters=10**6).dtype == torch.float32
    assert place("cpu", parameters=10**10).dtype == torch.bfloat16
