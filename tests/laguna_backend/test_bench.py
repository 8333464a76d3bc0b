"""`laguna bench` on a small shape: what it prints, and that the peers run on the very same weights."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import torch

from laguna_backend.__main__ import main
from laguna_backend.bench.peers import renamed
from laguna_backend.bench.slice import bytes_a_token, filled_cache, packed, pooled_weights, shape_config
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, joined
from laguna_backend.model.linear import Packer

torch.set_num_threads(1)

RAW = shape_config("tiny", 5)
CONFIG = LagunaConfig.from_dict(RAW)


@pytest.fixture(autouse=True)
def little_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laguna_backend.bench.slice.read_bandwidth", lambda _clock, _device: 30.0)


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
def test_a_run_ends_with_its_figures(weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--shape",
        "tiny",
        "--quick",
        "--context",
        "40",
        "--prompt",
        "20",
        "--threads",
        "1",
        "--clock",
        "processor",
    ]
    assert main(["bench", *options, "--weights", weights, "--json", "--kv", "fp8"]) == 0
    said = json.loads(capsys.readouterr().out)
    [ours] = said["figures"]
    assert ours["name"] == f"ours, {weights}"
    assert ours["prefill"] > 0
    assert 0 < ours["fastest"] <= ours["decode"] <= ours["slowest"]
    assert (said["weights_rms_error"] > 0) is (weights != "bf16")
    assert main(["bench", *options]) == 0
    table = capsys.readouterr().out
    assert "random weights" in table
    assert "| ours, bf16 |" in table


def test_a_peer_that_is_missing_fails_the_run_once_our_figures_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("laguna_backend.bench.peers.importlib.util.find_spec", lambda name: None)
    options = ["--shape", "tiny", "--quick", "--context", "8", "--prompt", "8", "--threads", "1"]
    assert main(["bench", *options, "--peers", "llama.cpp"]) == 1
    shown = capsys.readouterr()
    assert "| ours, bf16 |" in shown.out
    assert shown.err == "laguna: no figures of llama.cpp: llama-cpp-python is not installed\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--layers", "0"],
        ["--peers", "vllm"],
        ["--context", "9999999"],
        ["--clock", "processor", "--threads", "2"],
        ["--device", "abacus"],
    ],
)
def test_what_makes_no_sense_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *wrong])
    assert stopped.value.code == 2


@torch.no_grad()
def test_transformers_computes_the_same_from_the_same_memory() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import LagunaConfig as ReferenceConfig
        from transformers import LagunaForCausalLM
    weights = pooled_weights(CONFIG)
    fields = {name: value for name, value in RAW.items() if name not in ("model_type", "architectures")}
    reference: Any = LagunaForCausalLM(ReferenceConfig(**fields))
    reference = reference.to(torch.bfloat16)
    state = renamed(weights)
    missing = reference.load_state_dict(state, assign=True, strict=False)
    assert not missing.unexpected_keys
    assert set(reference.state_dict()) == set(state)
    assert reference.model.embed_tokens.weight.data_ptr() == weights.embed.data_ptr()
    tokens = torch.arange(60)[None]
    expected = reference(tokens).logits.float()
    error = (Laguna(CONFIG, joined(weights)).forward(tokens).float() - expected).abs().flatten(1).median()
    assert float(error) < 0.02 * float(expected.abs().max())


def test_what_a_token_reads_is_counted() -> None:
    weights = pooled_weights(CONFIG)
    cache = filled_cache(CONFIG, "bfloat16", 100)
    found = bytes_a_token(CONFIG, weights, cache, 100)
    whole = weights.resident() - 2 * CONFIG.vocab_size * CONFIG.hidden_size  # one row of the embedding
    idle = sum(
        2 * (CONFIG.experts - CONFIG.experts_per_token) * 3 * CONFIG.hidden_size * CONFIG.expert_size
        for spec in CONFIG.layers
        if spec.sparse
    )
    held = sum(100 if spec.window is None else spec.window for spec in CONFIG.layers)
    past = held * 2 * 2 * CONFIG.kv_heads * CONFIG.head_dim
    assert found == whole - idle + past + 2 * CONFIG.hidden_size


def test_packing_what_is_there_is_packing_while_loading() -> None:
    weights = pooled_weights(CONFIG)
    packer = Packer("int4")
    small = packed(weights, packer)
    assert small.resident() < weights.resident() / 1.5
    assert 0.05 < packer.error() < 0.1


def test_weights_are_made_on_the_device_that_is_asked_for() -> None:
    assert {tensor.device.type for _, tensor in pooled_weights(CONFIG, device="meta").named()} == {"meta"}
