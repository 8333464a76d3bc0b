"""Adapters: merged and attached are the same model, the files hold what was written, and PEFT reads them."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import tiny_config, write_checkpoint

from acp_server.model import ModelError, Sampling, Text, User
from laguna_backend.__main__ import main
from laguna_backend.checkpoint.adapter import (
    CONFIG,
    TENSORS,
    Adapter,
    Low,
    adapt,
    every_slot,
    read_adapter,
    save_adapter,
)
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.weights import CheckpointError, load_weights, save_checkpoint
from laguna_backend.loading import load
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, joined
from laguna_backend.model.linear import LowRank, Packer, linear, to_int4, to_int8
from laguna_backend.model.parameters import Weights
from laguna_backend.speaker import alone
from laguna_backend.train.lora import GROUPS, Lora

torch.set_num_threads(1)

TOKENS = torch.randint(70, 300, (1, 40), generator=torch.Generator().manual_seed(5))


def weights_of(directory: Path, precision: Any = "bf16") -> tuple[LagunaConfig, Weights]:
    config = read_config(directory)
    dtype = torch.float32 if precision == "bf16" else torch.bfloat16
    return config, load_weights(directory, config, dtype=dtype, packer=Packer(precision)).weights


def an_adapter(weights: Weights, targets: tuple[str, ...] = tuple(GROUPS)) -> Adapter:
    """One that does something everywhere."""
    lora = Lora(3, 4.5, targets=targets)
    parts = {
        name: part for index, layer in enumerate(weights.layers) for name, part in lora.parts(layer, index).items()
    }
    generator = torch.Generator().manual_seed(1)
    return Adapter(
        {name: Low(part.down, torch.randn(part.up.shape, generator=generator) * 0.2) for name, part in parts.items()},
        rank=3,
        alpha=4.5,
        base="tiny",
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny-laguna"))


@torch.no_grad()
@pytest.mark.parametrize("targets", [*((group,) for group in GROUPS), tuple(GROUPS), ("*.1.self_attn.[qg]_proj",)])
def test_merged_and_attached_are_one_model_and_another_than_before(checkpoint: Path, targets: tuple[str, ...]) -> None:
    config, plain = weights_of(checkpoint)
    adapter = an_adapter(plain, targets)
    before = Laguna(config, plain).forward(TOKENS)
    for slot in every_slot(plain):
        slot.attach(adapter.parts, adapter.scale)
    attached = Laguna(config, plain).forward(TOKENS)
    config, merged = weights_of(checkpoint)
    adapt(merged, adapter)
    found = Laguna(config, joined(merged)).forward(TOKENS)
    assert torch.allclose(found, attached, atol=1e-5)
    assert not torch.allclose(found, before, atol=1e-2)


@pytest.mark.parametrize("pack", [to_int8, lambda w: to_int4(w, 32)])
def test_an_adapter_beside_a_packed_matrix_adds_to_what_the_matrix_gives(pack: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    packed, _ = pack(torch.randn(48, 64, generator=generator))
    down, up = torch.randn(4, 64, generator=generator), torch.randn(48, 4, generator=generator)
    x = torch.randn(20, 64, generator=generator)
    found = linear(x, LowRank(packed, down, up, 0.5))
    assert torch.allclose(found, linear(x, packed) + 0.5 * x @ down.T @ up.T, atol=1e-3)


@pytest.mark.parametrize("pack", [to_int8, lambda w: to_int4(w, 32)])
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_a_packed_matrix_passes_gradients_on(pack: Callable[..., Any], rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    packed, means = pack(torch.randn(48, 64, generator=generator))
    x = torch.randn(rows, 64, generator=generator, requires_grad=True)
    gradient = torch.randn(rows, 48, generator=generator)
    torch.autograd.backward(linear(x, packed), gradient)
    assert x.grad is not None
    assert torch.allclose(x.grad, gradient @ means, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_packed_weights_keep_the_adapter_beside_them(checkpoint: Path, precision: str) -> None:
    config, packed = weights_of(checkpoint, precision)
    before = Laguna(config, joined(packed)).forward(TOKENS).float()
    adapter = an_adapter(packed)
    adapt(packed, adapter)
    assert any(isinstance(slot.matrix, LowRank) for slot in every_slot(packed))
    found = Laguna(config, joined(packed)).forward(TOKENS).float()
    config, merged = weights_of(checkpoint)
    adapt(merged, adapter)
    exact = Laguna(config, merged).forward(TOKENS)
    assert float((found - exact).abs().median()) < 0.5 * float((before - exact).abs().median())


# Files ---------------------------------------------------------------------------------------------------


def test_an_adapter_comes_back_from_its_files(checkpoint: Path, tmp_path: Path) -> None:
    adapter = an_adapter(weights_of(checkpoint)[1])
    save_adapter(adapter, tmp_path)
    found = read_adapter(tmp_path)
    assert (found.rank, found.alpha, found.base, found.scale) == (3, 4.5, "tiny", 1.5)
    assert found.parts.keys() == adapter.parts.keys()
    for name, part in adapter.parts.items():
        assert torch.equal(found.parts[name].down, part.down)
        assert torch.equal(found.parts[name].up, part.up)
    names = load_file(tmp_path / TENSORS).keys()
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
    assert "base_model.model.model.layers.2.mlp.experts.3.down_proj.lora_B.weight" in names
    assert "base_model.model.model.layers.1.mlp.shared_expert.up_proj.lora_A.weight" in names


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        tensors = load_file(directory / TENSORS)
        change(tensors)
        save_file(tensors, directory / TENSORS)

    return changed


def change_config(**changes: Any) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        path = directory / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return changed


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tensors": (lambda directory: (directory / TENSORS).unlink(), TENSORS),
    "no config": (lambda directory: (directory / CONFIG).unlink(), CONFIG),
    "cut short": (lambda directory: (directory / TENSORS).write_bytes(b"short"), "not a whole safetensors"),
    "another method": (change_config(peft_type="IA3"), "peft_type is 'IA3'"),
    "more than LoRA": (change_config(use_dora=True), "use_dora"),
    "scales of their own": (change_config(alpha_pattern={"q_proj": 1}), "alpha_pattern"),
    "another rank": (change_config(r=7), "has rank 3"),
    "half a part": (change_tensors(lambda t: t.pop(Q.format("A"))), "q_proj is not whole"),
    "no part": (change_tensors(lambda t: t.update({"model.norm.weight": torch.ones(1)})), "no part of an adapter"),
    "infinity": (change_tensors(lambda t: t[Q.format("B")].fill_(float("inf"))), "q_proj holds NaN or infinity"),
    "an expert missing": (
        change_tensors(lambda t: [t.pop(name) for name in list(t) if ".1.mlp.experts.2.up_proj." in name]),
        "up_proj is not whole",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_adapter_says_what_is_wrong(checkpoint: Path, tmp_path: Path, case: str) -> None:
    save_adapter(an_adapter(weights_of(checkpoint)[1]), tmp_path)
    change, expected = BROKEN[case]
    change(tmp_path)
    with pytest.raises(CheckpointError, match=expected):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({"num_hidden_layers": 1}, "has no model.layers.1"), ({"hidden_size": 64}, r"q_proj is \[24, 64\]")],
)
def test_an_adapter_of_another_model_is_refused_and_changes_nothing(
    checkpoint: Path, tmp_path: Path, changed: dict[str, int], expected: str
) -> None:
    adapter = an_adapter(weights_of(checkpoint)[1])
    fewer = {} if "hidden_size" in changed else {
        name: tiny_config()[name][:1] for name in ("num_attention_heads_per_layer", "layer_types", "mlp_layer_types")
    }  # fmt: skip
    _, other = weights_of(write_checkpoint(tmp_path, **changed, **fewer))
    before = [tensor.clone() for _, tensor in other.named()]
    with pytest.raises(CheckpointError, match=expected):
        adapt(other, adapter)
    assert all(torch.equal(a, b) for a, (_, b) in zip(before, other.named(), strict=True))


# In use --------------------------------------------------------------------------------------------------


def answer(*arguments: Any, **more: Any) -> str:
    speaker = load(*arguments, **more)
    parts = speaker.say([User("Hi")], [], Sampling(temperature=0.0, max_tokens=20, thinking=False))
    return "".join(part.text for part in alone(speaker, parts) if isinstance(part, Text))


def test_an_adapter_answers_at_run_time_as_it_does_merged(checkpoint: Path, tmp_path: Path) -> None:
    _, weights = weights_of(checkpoint)
    adapter = an_adapter(weights)
    save_adapter(adapter, tmp_path / "adapter")
    adapt(weights, adapter)
    save_checkpoint(weights, write_checkpoint(tmp_path / "merged"), dtype=torch.float32)
    adapted = answer(checkpoint, adapter=tmp_path / "adapter")
    assert adapted == answer(tmp_path / "merged")
    assert adapted != answer(checkpoint)
    assert load(checkpoint, adapter=tmp_path / "adapter").info.name.endswith(" with adapter")


def test_merge_writes_a_whole_checkpoint_in_the_released_layout(checkpoint: Path, tmp_path: Path) -> None:
    _, expected = weights_of(checkpoint)
    adapter = an_adapter(expected)
    save_adapter(adapter, tmp_path / "adapter")
    assert main(["merge", str(checkpoint), str(tmp_path / "adapter"), str(tmp_path / "out")]) == 0
    config, found = weights_of(tmp_path / "out")
    assert config == LagunaConfig.from_dict(tiny_config(dtype="bfloat16"))
    _, base = weights_of(checkpoint)
    for tensor in dict(base.named()).values():
        tensor.copy_(tensor.bfloat16())
    adapt(base, adapter)
    for (name, mine), (_, theirs) in zip(found.named(), base.named(), strict=True):
        assert torch.allclose(mine, theirs, rtol=2**-7, atol=2**-9), name
    assert answer(tmp_path / "out")


def test_merging_into_a_directory_in_use_or_with_no_adapter_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", str(checkpoint), str(tmp_path), str(checkpoint)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert main(["merge", str(checkpoint), str(tmp_path), str(tmp_path / "out")]) == 1
    assert CONFIG in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_adapter_says_so(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no adapter directory"):
        load(checkpoint, adapter=tmp_path / "nowhere")


@torch.no_grad()
def test_peft_puts_the_adapter_on_transformers_laguna(tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers: Any = importlib.import_module("transformers")
        directory = write_checkpoint(tmp_path / "base")
        config, ours = weights_of(directory)
        adapter = an_adapter(ours)
        save_adapter(adapter, tmp_path / "adapter")
        adapt(ours, adapter)
        reference = transformers.LagunaForCausalLM.from_pretrained(directory, dtype=torch.float32)
        adapted = peft.PeftModel.from_pretrained(reference, tmp_path / "adapter")
        assert torch.allclose(adapted(TOKENS).logits, Laguna(config, ours).forward(TOKENS), atol=1e-4)
