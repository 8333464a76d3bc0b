"""Matrices of eight and four bits for accelerators: what they mean, and the plain twins that use them. On the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_checkpoint import write_checkpoint
from torch import Tensor

from laguna_backend.checkpoint.weights import load_weights
from laguna_backend.formats import e4m3
from laguna_backend.loading import read_config
from laguna_backend.model import moe
from laguna_backend.model.forward import Laguna, joined
from laguna_backend.model.linear import Packer, Stack, linear
from laguna_backend.model.narrow import Narrow, to_fp8, to_nibbles

torch.set_num_threads(1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_number_of_fp8_and_every_tie_between_two_is_packed_as_numpy_rounds_it() -> None:
    numbers = np.array([float(e4m3.decode(torch.tensor([code], dtype=torch.uint8))) for code in range(0x7F)])
    ties = (numbers[1:] + numbers[:-1]) / 2
    w = np.concatenate([numbers, -numbers, ties, -ties])
    w = np.pad(w, (0, -len(w) % 127), constant_values=1.0).reshape(-1, 127)
    w = np.pad(w, ((0, 0), (0, 1)), constant_values=448.0).reshape(-1).astype(np.float32)  # each block's scale is 1
    places = np.abs(w[:, None].astype(np.float64) - np.concatenate([numbers, -numbers])[None, :])
    codes = np.concatenate([np.arange(0x7F), 0x80 + np.arange(0x7F)])
    packed, means = to_fp8(torch.from_numpy(np.repeat(w[None, :], 3, axis=0)))
    assert torch.equal(packed.scale, torch.ones(1, len(w) // 128))
    for value, row, code, mean in zip(w, places, packed.codes[0].tolist(), means[0].tolist(), strict=True):
        nearest = {int(c) for c in codes[row == row.min()]} if value else {0, 0x80}
        assert code in nearest
        if len(nearest) > 1 and value:
            assert code % 2 == 0  # of two as near the one with an even mantissa
        assert abs(mean - value) == row.min()


@pytest.mark.parametrize("group", [32, 64, 128])
def test_nibbles_are_those_of_numpy(group: int) -> None:
    w = drawn(5, 300).numpy()
    packed, means = to_nibbles(torch.from_numpy(w), group)
    filled = np.pad(w, ((0, 0), (0, -300 % group))).reshape(5, -1, group)
    scale, zero = (part.float().numpy()[..., None] for part in (packed.scale, packed.zero))
    exact = (filled.max(-1) - filled.min(-1)) / 15
    assert np.allclose(scale[..., 0], exact, rtol=2**-8)
    assert np.allclose(zero[..., 0], filled.min(-1) + 8 * scale[..., 0], atol=2**-8 * np.abs(filled).max() * 2)
    nibbles = np.clip(np.round((filled - zero) / scale) + 8, 0, 15)
    pairs = nibbles.reshape(5, -1, 2).astype(np.uint8)
    assert np.array_equal(packed.codes.numpy(), pairs[..., 0] | (pairs[..., 1] << 4))
    assert np.array_equal(means.numpy(), ((nibbles - 8) * scale + zero).reshape(5, -1)[:, :300])


KINDS: list[Any] = [to_fp8, lambda w: to_nibbles(w, 32)]


@pytest.mark.parametrize("pack", KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2050, 130), (300, 64)])
def test_a_product_is_that_with_what_the_matrix_means(pack: Any, rows: int, columns: int) -> None:
    w, x = drawn(rows, columns), drawn(3, columns, seed=1)
    packed, means = pack(w)
    assert packed.shape == w.shape
    assert torch.equal(packed.widened(), means)
    torch.testing.assert_close(linear(x, packed), x @ means.T)
    assert float((means - w).norm() / w.norm()) < 0.1


@pytest.mark.parametrize("precision", ["fp8", "int4"])
def test_a_mixture_gathers_its_experts_or_sorts_its_rows(precision: Any) -> None:
    packer, stacks = Packer(precision, narrow=True), (Stack(5), Stack(5))
    for stack, whole in zip(stacks, (drawn(5, 80, 72) / 8, drawn(5, 72, 40) / 6), strict=True):
        for matrix in whole:
            stack.add(packer(matrix))
    gate_up, down = stacks[0].whole(), stacks[1].whole()
    assert isinstance(gate_up, Narrow)
    assert isinstance(down, Narrow)
    assert gate_up[3].shape == (80, 72)
    x, weights = drawn(6, 72, seed=3), torch.full((6, 2), 0.5)
    chosen = torch.rand(6, 5, generator=torch.Generator().manual_seed(6)).topk(2).indices
    expected = moe.mix_plain(x, weights, chosen, gate_up, down)
    torch.testing.assert_close(moe.mix_gathered(x, weights, chosen, gate_up, down), expected)
    torch.testing.assert_close(moe.mix_sorted(x, weights, chosen, gate_up, down), expected)
    assert 0 < packer.error() < 0.1


@torch.no_grad()
@pytest.mark.parametrize(("precision", "most"), [("fp8", 0.2), ("int4", 0.4)])
def test_a_model_packed_for_an_accelerator_says_nearly_the_same(tmp_path: Path, precision: Any, most: float) -> None:
    config = read_config(write_checkpoint(tmp_path))
    tokens = torch.arange(40)[None] % config.vocab_size
    plain = Laguna(config, joined(load_weights(tmp_path, config, dtype=torch.float32).weights))
    packer = Packer(precision, narrow=True)
    narrow = Laguna(config, joined(load_weights(tmp_path, config, dtype=torch.float32, packer=packer).weights))
    expected, found = plain.forward(tokens), narrow.forward(tokens)
    assert 0 < float((found - expected).norm() / expected.norm()) < most


@pytest.mark.parametrize(("precision", "narrow"), [("int8", True), ("fp8", False)])
def test_a_precision_is_refused_where_it_is_not_for(precision: Any, narrow: bool) -> None:
    with pytest.raises(ValueError, match=precision):
        Packer(precision, narrow=narrow)
