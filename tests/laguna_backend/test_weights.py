"""Checkpoints: written, read, and refused when something is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from laguna_backend.checkpoint.weights import CheckpointError, load_weights, save_checkpoint
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import random_weights

torch.set_num_threads(1)

CONFIG = LagunaConfig.from_dict(
    {
        "model_type": "laguna",
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
        "sliding_window": 4,
        "max_position_embeddings": 64,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    }
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_checkpoint(random_weights(CONFIG, seed=3), tmp_path, dtype=torch.float32)
    return tmp_path


def rewrite(directory: Path, change: dict[str, Tensor | None]) -> None:
    tensors = load_file(directory / "model.safetensors")
    for name, tensor in change.items():
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    save_file(tensors, directory / "model.safetensors")


def load(directory: Path) -> dict[str, Tensor]:
    return dict(load_weights(directory, CONFIG, dtype=torch.float32).weights.named())


def test_what_is_written_is_read_back(directory: Path) -> None:
    for name, tensor in random_weights(CONFIG, seed=3).named():
        assert torch.equal(load(directory)[name], tensor), name


def test_each_expert_has_tensors_of_its_own_under_the_released_names(directory: Path) -> None:
    names = set(load_file(directory / "model.safetensors"))
    assert "model.layers.1.mlp.experts.3.down_proj.weight" in names
    assert "model.layers.1.mlp.shared_expert.gate_proj.weight" in names
    assert "model.layers.1.mlp.experts.e_score_correction_bias" in names
    assert "model.layers.0.mlp.gate_proj.weight" in names


def test_other_spellings_are_understood(directory: Path) -> None:
    expected = load(directory)
    tensors = load_file(directory / "model.safetensors")
    renamed = {
        "language_model."
        + name.replace(".shared_expert.", ".shared_experts.").replace(
            ".experts.e_score_correction_bias", ".gate.e_score_correction_bias"
        ): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, directory / "model.safetensors")
    for name, tensor in load(directory).items():
        assert torch.equal(tensor, expected[name])


def test_experts_fused_as_transformers_holds_them_are_understood(directory: Path) -> None:
    expected = load(directory)
    change: dict[str, Tensor | None] = {}
    for layer in (1, 2):
        at = f"model.layers.{layer}.mlp.experts"
        change |= {f"{at}.{e}.{part}_proj.weight": None for e in range(4) for part in ("gate", "up", "down")}
        change[f"{at}.gate_up_proj"] = expected[f"layers.{layer}.mlp.gate_up"].clone()
        change[f"{at}.down_proj"] = expected[f"layers.{layer}.mlp.down"].clone()
    rewrite(directory, change)
    for name, tensor in load(directory).items():
        assert torch.equal(tensor, expected[name]), name


def test_fused_experts_beside_single_ones_are_left_over(directory: Path) -> None:
    fused = load(directory)
    at = "model.layers.1.mlp.experts"
    twice = {f"{at}.gate_up_proj": fused["layers.1.mlp.gate_up"], f"{at}.down_proj": fused["layers.1.mlp.down"]}
    rewrite(directory, dict(twice))
    with pytest.raises(CheckpointError, match="12 tensors have no place"):
        load(directory)


def test_a_checkpoint_may_be_read_by_whoever_may_read_its_folder(directory: Path) -> None:
    directory.chmod(0o755)
    path = save_checkpoint(random_weights(CONFIG), directory)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("scale", [torch.tensor(0.0), torch.tensor(float("nan")), torch.ones(2), -torch.ones(1)])
def test_a_cache_scale_that_is_none_is_named(directory: Path, scale: Tensor) -> None:
    rewrite(directory, {"model.layers.1.self_attn.v_scale": scale})
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.v_scale"):
        load(directory)


def test_shards_are_found_through_the_index(directory: Path) -> None:
    expected = load(directory)
    shard(directory)
    for name, tensor in load(directory).items():
        assert torch.equal(tensor, expected[name])


def shard(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    files = {name: f"model-0000{index % 2 + 1}-of-00002.safetensors" for index, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def test_a_missing_shard_is_named(directory: Path) -> None:
    shard(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        load(directory)


def test_a_truncated_shard_is_named(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a whole"):
        load(directory)


def test_an_index_cannot_lead_out_of_its_folder(directory: Path) -> None:
    shutil.copy(directory / "model.safetensors", directory.parent / "elsewhere.safetensors")
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../elsewhere.safetensors"}}')
    with pytest.raises(CheckpointError, match="missing"):
        load(directory)


NO_INDEX = "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"a": 5, "b": "c"}}'


@pytest.mark.parametrize("index", [*NO_INDEX, '{"weight_map": {"a": ["c"]}}', '{"weight_map": {"a": null}}'])
def test_a_broken_index_is_named(directory: Path, index: str) -> None:
    (directory / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match="index"):
        load(directory)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds neither"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.norm.weight": None}, "no tensor model.norm.weight"),
        ({"model.layers.1.mlp.experts.2.up_proj.weight": None}, "no tensor"),
        ({"surplus.weight": torch.zeros(2)}, "1 tensors have no place.*surplus"),
        ({"model.norm.weight": torch.zeros(17)}, r"model.norm.weight is \[17\]"),
        ({"model.norm.weight": torch.full((16,), float("nan"))}, "NaN"),
        ({"lm_head.weight": torch.zeros(40, 16, dtype=torch.int8)}, "quantised"),
        ({"model.layers.0.self_attn.g_proj.weight": torch.zeros(3, 16)}, "g_proj"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(directory: Path, change: dict[str, Tensor | None], message: str) -> None:
    rewrite(directory, change)
    with pytest.raises(CheckpointError, match=message):
        load(directory)


def test_the_shape_of_the_gate_decides_not_the_configuration(directory: Path) -> None:
    save_checkpoint(random_weights(CONFIG, per_element_gate=True), directory)
    assert load(directory)["layers.0.gate"].shape == (16, 16)


def test_scales_of_the_cache_are_read(directory: Path) -> None:
    scales = {f"model.layers.{i}.self_attn.{part}_scale": torch.tensor(0.5 + i) for i in range(3) for part in "kv"}
    rewrite(directory, dict(scales))
    found = load_weights(directory, CONFIG).cache_scales
    assert found == {(i, part): 0.5 + i for i in range(3) for part in "kv"}


def test_progress_counts_every_tensor(directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_weights(directory, CONFIG, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(load_file(directory / "model.safetensors"))
