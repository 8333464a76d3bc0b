"""`laguna fidelity`: its arithmetic, and what it says of models that are rounded."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_checkpoint import write_checkpoint

from laguna_backend.__main__ import main
from laguna_backend.bench.fidelity import Comparison, kinds
from laguna_backend.bench.slice import shape_config
from laguna_backend.model.cache import KVCache
from laguna_backend.model.config import LagunaConfig

torch.set_num_threads(1)

TINY = ["--shape", "tiny", "--layers", "5", "--tokens", "150", "--json"]


def test_the_divergence_is_that_of_its_definition() -> None:
    comparison = Comparison()
    expected, found = (
        torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]),
        torch.tensor([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]]),
    )
    comparison.add(expected.log() + 3, found.log() - 1)  # logits are known up to a constant
    distance = comparison.distance("x")
    by_hand = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.5)
    assert distance.worst == pytest.approx(by_hand, rel=1e-6)
    assert distance.kl == pytest.approx(by_hand / 2, rel=1e-6)
    assert (distance.top1, distance.positions) == (0.5, 2)


def test_each_kind_of_layer_is_rounded_by_itself() -> None:
    config = LagunaConfig.from_dict(shape_config("tiny", 5))
    ways = kinds(config, "fp8")
    assert {name: sorted(layers) for name, layers in ways.items()} == {
        "full layers": [0, 4], "sliding layers": [1, 2, 3], "all layers": [0, 1, 2, 3, 4],
    }  # fmt: skip
    cache = KVCache(config, storage="bfloat16", layers=ways["sliding layers"])
    assert [k.storage for k, _ in cache.stores] == ["bfloat16", "fp8", "fp8", "fp8", "bfloat16"]


def test_a_rounded_cache_is_told_by_kind_of_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fidelity", *TINY]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["distances"]}
    fp8, noise = [f"FP8 cache in {kind} layers" for kind in ("full", "sliding", "all")], "the same in smaller chunks"
    assert list(rows) == [*fp8, "float32 cache", noise]
    assert all(row["positions"] == 150 and 0 <= row["kl"] <= row["worst"] for row in rows.values())
    assert all(rows[name]["kl"] > rows[noise]["kl"] for name in fp8)


def test_four_bits_change_more_than_eight(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[float] = []
    for weights in ("int8", "int4"):
        assert main(["fidelity", *TINY, "--weights", weights]) == 0
        [row] = json.loads(capsys.readouterr().out)["distances"]
        found.append(row["kl"])
    assert 0 < found[0] < found[1]


def test_a_checkpoint_reads_what_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_checkpoint(tmp_path / "tiny")
    (tmp_path / "text").write_text("read the path of the system " * 3)
    assert main(["fidelity", str(directory), "--text", str(tmp_path / "text"), "--tokens", "40"]) == 0
    assert capsys.readouterr().out.startswith("tiny, text, 40 positions\n| beside the bf16 model |")
    assert main(["fidelity", str(directory), "--text", str(tmp_path / "none")]) == 1
    assert "laguna: " in capsys.readouterr().err
