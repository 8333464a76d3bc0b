"""What `laguna info` says of memory, against what a loaded model holds and what laguna.md's arithmetic gives."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
import quantised_checkpoint as q
import torch
from test_formats import CACHE, FORMATS
from test_gguf import convert
from tiny_checkpoint import write_checkpoint

from laguna_backend.__main__ import main
from laguna_backend.bench.slice import shape_config
from laguna_backend.checkpoint import memory
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.memory import longest, weight_bytes
from laguna_backend.checkpoint.weights import load_weights
from laguna_backend.inspection import facts
from laguna_backend.model.cache import KVCache, cache_bytes
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.device import PAGE, roomy
from laguna_backend.model.linear import ON_ACCELERATOR, ON_CPU, Packer, Precision

MIB = 1 << 20
XS2 = LagunaConfig.from_dict(shape_config("xs2", 40))


@pytest.mark.parametrize(
    ("precision", "narrow"), [*((name, False) for name in ON_CPU), *((name, True) for name in ON_ACCELERATOR)]
)
@pytest.mark.parametrize("gating", ["per-head", "per-element"])
def test_the_weights_take_what_is_said(tmp_path: Path, precision: Precision, narrow: bool, gating: str) -> None:
    config = read_config(write_checkpoint(tmp_path, hidden_size=40, gating=gating))
    loaded = load_weights(tmp_path, config, dtype=torch.bfloat16, packer=Packer(precision, 64, narrow=narrow))
    assert loaded.weights.resident() == weight_bytes(config, precision, 64, narrow=narrow)


def test_xs2_takes_what_its_arithmetic_says() -> None:
    assert weight_bytes(XS2, "bf16") == 2 * 33_442_617_088
    assert cache_bytes(XS2, 131_072, "fp8") / MIB == pytest.approx(2_590, rel=0.001)
    assert cache_bytes(XS2, 131_072, "bfloat16") / MIB == pytest.approx(5_180, rel=0.001)
    assert weight_bytes(XS2, "int8") / 1e9 == pytest.approx(33.7, abs=0.2)
    assert weight_bytes(XS2, "int4") / 1e9 == pytest.approx(19.5, abs=0.1)
    assert weight_bytes(XS2, "fp8", narrow=True) / 1e9 == pytest.approx(33.7, abs=0.2)
    assert weight_bytes(XS2, "int4", narrow=True) / 1e9 == pytest.approx(21.3, abs=0.1)


@pytest.mark.parametrize("storage", ["bfloat16", "fp8"])
@pytest.mark.parametrize("tokens", [1, 300, 512, 100_000])
def test_the_longest_context_fits_and_the_next_one_does_not(storage: memory.Storage, tokens: int) -> None:
    found = longest(XS2, cache_bytes(XS2, tokens, storage), storage)
    assert found == tokens
    assert longest(XS2, 0, storage) == 0
    assert longest(XS2, 1 << 60, storage) == XS2.max_context


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with 27 GiB free, as a Mac of 36 GB has."""
    place = memory.Place("cpu", 27 << 30, ON_CPU)
    monkeypatch.setattr("laguna_backend.inspection.places", lambda: [place])


@pytest.mark.usefixtures("machine")
def test_what_fits_a_small_machine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(shape_config("xs2", 40)))
    rows = facts(tmp_path)
    told = "  131,072 tokens: 10,360.0 MiB float32, 5,180.0 MiB bfloat16, 2,590.0 MiB fp8, and 80.9 MiB for its scales"
    assert ("cache", told) in rows
    [fits] = [value for name, value in rows if name == "would fit"]
    assert fits.startswith("cpu, 27,648 MiB free: bf16 does not fit; int8 does not fit; int4 with ")
    assert fits.endswith("131,072 tokens (bf16 cache), 131,072 tokens (FP8 cache)")
    assert dict(rows)["weights"].startswith("cannot be read")


def test_the_scales_of_an_fp8_cache_count_where_the_checkpoint_has_none() -> None:
    caches = [KVCache(XS2, storage="fp8", scales=scales) for scales in ({}, own_scales(XS2))]
    for cache, scaled in zip(caches, (True, False), strict=True):
        cache.reserve(2048)
        rings = 2 * XS2.kv_heads * sum(spec.window or 0 for spec in XS2.layers)
        ring_rows = sum(store.capacity for store in cache.rings()) * XS2.kv_heads
        each = XS2.head_dim + 4 * scaled
        assert cache.bytes_used() - ring_rows * each == cache_bytes(XS2, 2048, "fp8", scaled=scaled) - rings * each
    room = cache_bytes(XS2, 100_000, "fp8", scaled=True)
    assert longest(XS2, room, "fp8", scaled=True) == 100_000 < longest(XS2, room, "fp8")


def own_scales(config: LagunaConfig) -> dict[tuple[int, str], float]:
    return {(layer, part): 1.0 for layer in range(len(config.layers)) for part in "kv"}


def test_the_format_of_a_quantised_checkpoint_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules, config = FORMATS["nvfp4"]
    source = write_checkpoint(tmp_path / "source", hidden_size=48, moe_intermediate_size=24)
    both = q.quantise(source, rules, config | {"kv_cache_scheme": CACHE}, tmp_path)
    assert main(["info", str(both / "quantised")]) == 0
    said = capsys.readouterr().out
    assert "compressed-tensors: NVFP4, groups of 16; " in said
    assert "bits a parameter, FP8 cache with scales" in said
    assert main(["info", str(both / "plain")]) == 0
    assert "safetensors, float32; 3" in capsys.readouterr().out


def test_the_format_of_a_gguf_file_is_told(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", hidden_size=64, head_dim=32, num_hidden_layers=3)
    path, _ = convert(source, tmp_path / "gguf", gguf.GGMLQuantizationType.BF16)
    said = dict(facts(path.parent))
    assert said["format"].startswith("GGUF: ")
    assert "BF16" in said["format"]
    assert said["weights"].endswith("bytes in 1 file(s)")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells")
def test_what_is_read_whole_lies_in_memory_of_its_own_that_asks_for_large_pages() -> None:
    whole = roomy(4, PAGE, dtype=torch.bfloat16)
    where, inside = list[str](), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):  # the next mapping: its addresses, what may be done with it
            begin, end = (int(number, 16) for number in first.split("-"))
            inside = begin <= whole.data_ptr() < end
            where += [rest.split()[0]] * inside
        elif inside and first == "VmFlags:":
            where += rest.split()
    assert where[0] == "rw-p"  # shared memory has large pages only where the system was told so
    assert "hg" in where
