"""Packed matrices: their error, their kernels against plain arithmetic, whole models in each precision."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoint import write_checkpoint

from acp_server.model import ModelError, Sampling, Stop, User
from laguna_backend.backend import open_backend
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.weights import load_weights, save_checkpoint
from laguna_backend.kernels import library
from laguna_backend.loading import load
from laguna_backend.model import linear as linear_module
from laguna_backend.model.cache import KVCache
from laguna_backend.model.forward import Laguna, joined, random_weights
from laguna_backend.model.linear import Int4, Int8, Packer, Precision, Stack, linear, one_row, to_int4, to_int8
from laguna_backend.speaker import alone

torch.set_num_threads(1)


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).bfloat16()


@given(st.integers(1, 150), st.integers(1, 200), st.sampled_from((32, 64, 128)), st.sampled_from((1, 3, 50)))
@settings(max_examples=40, deadline=None)
def test_a_product_is_that_of_what_the_packed_matrix_means(rows: int, columns: int, group: int, many: int) -> None:
    w, x = matrix(rows, columns), matrix(many, columns, seed=1)
    for packed, means in (to_int8(w), to_int4(w, group)):
        assert packed.shape == (rows, columns)
        expected = x.double() @ means.double().T
        assert torch.allclose(packed.widened(0, rows), means, rtol=1e-5, atol=1e-6)
        # bfloat16 keeps eight bits, and so does the input, in steps from its largest number to its negative.
        bound = 2**-7 * expected.abs() + 2**-8 * (x.double().abs() @ means.double().abs().T) + 1e-6
        bound += x.double().abs().amax(1, keepdim=True) * means.double().abs().sum(1) / 250
        assert ((linear(x, packed).double() - expected).abs() <= bound).all()


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_no_weight_moves_by_more_than_its_step(seed: int) -> None:
    w = matrix(70, 96, seed).float()
    _, means = to_int8(w)
    step = w.abs().amax(dim=1, keepdim=True) / 127
    assert ((means - w).abs() <= 0.501 * step).all()
    for group in (32, 96):
        _, means = to_int4(w, group)
        tiles = w.view(70, -1, group)
        step = (tiles.amax(-1, keepdim=True) - tiles.amin(-1, keepdim=True)) / 15
        # step and middle are rounded to eight bits of the row's largest
        largest = step.amax(dim=1, keepdim=True) + tiles.abs().amax(dim=(1, 2), keepdim=True) / 2
        assert ((means.view_as(tiles) - tiles).abs() <= 0.5 * step + largest / 64).all()


def test_what_can_be_told_exactly_is() -> None:
    whole = torch.arange(-127, 128).float().repeat(2, 1)
    assert torch.equal(to_int8(whole)[1], whole)
    nibbles = torch.arange(16).float().repeat(4, 2) - 8
    assert torch.allclose(to_int4(nibbles, 32)[1], nibbles, atol=1e-6)
    for nothing in (to_int8(torch.zeros(3, 40))[1], to_int4(torch.zeros(3, 40), 32)[1]):
        assert not nothing.abs().gt(1e-25).any()


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize(("precision", "least", "most"), [("int8", -127, 127), ("int4", -8, 7)])
def test_ties_between_steps_go_to_the_even_one(
    precision: Precision, least: int, most: int, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, against numpy's rounding; steps are of 1, as both ends of the range are there."""
    if not kernels:
        monkeypatch.setattr(linear_module, "library", lambda: None)
    elif library() is None:
        pytest.skip("no kernels here")
    halves = np.arange(least, most, dtype=np.float32) + np.float32(0.5)
    near = np.concatenate([np.nextafter(halves, np.float32(end)) for end in (-999, 999)])
    values = np.concatenate((halves, near))
    values = np.pad(values, (0, -len(values) % 30)).reshape(-1, 30)  # with the ends: one group
    w = np.concatenate((np.full((len(values), 1), least), np.full((len(values), 1), most), values), axis=1)
    found = Packer(precision)(torch.from_numpy(w.astype(np.float32)))
    assert isinstance(found, Int8 | Int4)
    assert np.array_equal(found.widened(0, len(w)).numpy(), np.rint(w))


@pytest.mark.parametrize(("precision", "low", "high"), [("int8", 0.002, 0.012), ("int4", 0.05, 0.10), ("bf16", 0, 0)])
def test_the_error_of_random_weights_is_what_such_bits_cost(precision: Precision, low: float, high: float) -> None:
    packer = Packer(precision)
    for seed in range(3):
        packer(matrix(256, 512, seed))
    assert low <= packer.error() <= high


def test_larger_groups_err_more() -> None:
    errors: list[float] = []
    for group in (32, 64, 128):
        packer = Packer("int4", group)
        packer(matrix(256, 512))
        errors.append(packer.error())
    assert errors == sorted(set(errors))


def test_a_stack_gives_back_each_matrix() -> None:
    for pack in (lambda w: w, lambda w: to_int8(w)[0], lambda w: to_int4(w, 64)[0]):
        stack = Stack(3)
        for seed in range(3):
            stack.add(pack(matrix(20, 64, seed)))
        x = matrix(2, 64)
        for seed in range(3):
            assert torch.equal(linear(x, stack.whole()[seed]), linear(x, pack(matrix(20, 64, seed))))


def test_one_row_leaves_the_switch_as_it_was() -> None:
    enabled = torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    seen: list[bool] = []
    with suppress(KeyError), one_row(torch.device("cpu")):
        seen.append(torch._C._get_mkldnn_enabled())
        raise KeyError
    assert seen == [False]
    assert torch._C._get_mkldnn_enabled() == enabled


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), hidden_size=64, moe_intermediate_size=40)


@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.03), ("int4", 0.35)])
@pytest.mark.parametrize("group", [32, 128])
def test_a_packed_model_stays_near_the_plain_one(
    tmp_path: Path, precision: Precision, bound: float, group: int
) -> None:
    raw = read_config(write_checkpoint(tmp_path, hidden_size=128, head_dim=32))
    save_checkpoint(random_weights(raw, seed=1), tmp_path)
    exact = Laguna(raw, load_weights(tmp_path, raw, dtype=torch.bfloat16).weights)
    loaded = load_weights(tmp_path, raw, packer=Packer(precision, group))
    packed = Laguna(raw, joined(loaded.weights))
    tokens = torch.arange(3, 60)[None]
    expected = exact.forward(tokens).float()
    cache = KVCache(raw, storage="bfloat16")
    parts = [packed.forward(part, cache).float() for part in (tokens[:, :50], *tokens[:, 50:].split(1, dim=1))]
    error = (torch.cat(parts, dim=1) - expected).norm() / expected.norm()
    assert float(error) < bound
    assert 0 < loaded.packing_error < bound
    assert loaded.weights.resident() < exact.weights.resident()
    assert isinstance(loaded.weights.head, Int8)  # in INT4 too: it decides each token


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_packed_checkpoint_speaks(directory: Path, precision: Precision, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "laguna"):
        speaker = load(directory, weights=precision)
    assert "rms error of the weights" in caplog.text
    parts = list(alone(speaker, speaker.say([User("hi")], [], Sampling(max_tokens=6))))
    assert isinstance(parts[-1], Stop)
    assert parts[-1].usage.output


def test_packed_weights_cannot_be_saved(directory: Path, tmp_path: Path) -> None:
    config = read_config(directory)
    with pytest.raises(TypeError, match="packed"):
        save_checkpoint(load_weights(directory, config, packer=Packer("int8")).weights, tmp_path)


def test_packing_is_for_a_cpu(directory: Path) -> None:
    with pytest.raises(ModelError, match=r"for a CPU|has no cuda"):
        load(directory, device="cuda", weights="int8")


@pytest.mark.parametrize(("name", "value"), [("weights", "int3"), ("group", "48"), ("kv", "fp4")])
def test_an_option_that_is_not_known_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is '{value}'; it is one of"):
        open_backend(**{name: value})
