"""GGUF files: every block type against a reference of its own, whole models, broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import gguf_checkpoint as g
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import FULL, SLIDING, write_checkpoint

from acp_server.model import Sampling, Stop, User
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.gguf_file import widened
from laguna_backend.checkpoint.weights import CheckpointError, load_weights
from laguna_backend.loading import load
from laguna_backend.model.config import ConfigError, LagunaConfig
from laguna_backend.model.forward import Laguna
from laguna_backend.speaker import alone

torch.set_num_threads(1)

KINDS = [g.Kind.Q8_0, g.Kind.Q4_0, g.Kind.Q4_K, g.Kind.Q6_K, g.Kind.BF16, g.Kind.F16, g.Kind.F32]
YARN = {
    "rope_type": "yarn",
    "rope_theta": 5e5,
    "factor": 4.0,
    "original_max_position_embeddings": 256,
    "beta_fast": 64.0,
    "beta_slow": 1.0,
    "attention_factor": 1.0,
    "partial_rotary_factor": 0.5,
}
CHANGED: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "moe_intermediate_size": 256,
    "shared_expert_intermediate_size": 256,
    "head_dim": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_attention_heads_per_layer": [4, 8, 8, 8, 4],
    "layer_types": [FULL, SLIDING, SLIDING, SLIDING, FULL],
    "mlp_layer_types": ["dense", *["sparse"] * 4],
    "rope_parameters": {FULL: YARN, SLIDING: {"rope_type": "default", "rope_theta": 1e4}},
}


@pytest.mark.parametrize("kind", list(g.BLOCKS))
def test_random_blocks_mean_what_the_reference_says(kind: g.Kind) -> None:
    raw = g.random_blocks(kind, 6, 512, seed=3)
    assert np.array_equal(widened(raw.tobytes(), int(kind), 6, "x").numpy(), g.meaning(kind, raw))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"), **CHANGED)


def quantised(array: np.ndarray, kind: g.Kind) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a matrix in a type, and what they mean."""
    flat = array.reshape(-1, array.shape[-1])
    if kind in (g.Kind.Q4_K, g.Kind.Q6_K):  # the package reads them, but cannot write them
        raw = g.random_blocks(kind, *flat.shape, seed=len(flat))
        values = g.meaning(kind, raw)
    else:
        raw = gguf.quants.quantize(flat, kind)
        values = gguf.quants.dequantize(raw, kind) if kind not in g.BLOCKS else g.meaning(kind, raw)
    return raw.reshape(*array.shape[:-1], -1), np.asarray(values, np.float32).reshape(array.shape)


def convert(source: Path, into: Path, kind: g.Kind, **more: Any) -> tuple[Path, dict[str, np.ndarray]]:
    """A GGUF file of a checkpoint with its experts and projections in `kind`, and the meaning of its tensors."""
    raw = json.loads((source / "config.json").read_text())
    into.mkdir(exist_ok=True)
    tensors: dict[str, tuple[np.ndarray, g.Kind]] = {}
    means: dict[str, np.ndarray] = {}
    for name, array in g.stacked(load_file(source / "model.safetensors")).items():
        if name.endswith(("norm.weight", "bias", "inp.weight")):
            tensors[name], means[name] = (array, g.Kind.F32), array
        else:
            stored, means[name] = quantised(array, kind)
            tensors[name] = (stored, kind)
    return g.write(into / "model.gguf", raw, tensors, **more), means


def plain(source: Path, into: Path, means: dict[str, np.ndarray]) -> Path:
    """The same checkpoint in safetensors, with the values of a GGUF file."""
    into.mkdir()
    (into / "config.json").write_text((source / "config.json").read_text())
    values: dict[str, torch.Tensor] = {}
    for name in load_file(source / "model.safetensors"):
        head, is_expert, rest = name.partition(".mlp.experts.")
        if is_expert and rest[0].isdigit():
            expert, which, _ = rest.split(".")
            stack = means[f"blk.{head.rsplit('.', 1)[1]}.ffn_{which.removesuffix('_proj')}_exps.weight"]
            values[name] = torch.from_numpy(stack[int(expert)].copy())
        else:
            values[name] = torch.from_numpy(means[g.renamed(name)].copy())
    save_file(values, into / "model.safetensors")
    return into


def logits(directory: Path) -> torch.Tensor:
    config = read_config(directory)
    weights = load_weights(directory, config, dtype=torch.float32).weights
    return Laguna(config, weights).forward(torch.arange(3, 30)[None])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_gguf_file_gives_the_logits_of_what_it_means(source: Path, tmp_path: Path, kind: g.Kind) -> None:
    path, means = convert(source, tmp_path / "gguf", kind)
    assert torch.equal(logits(path.parent), logits(plain(source, tmp_path / "plain", means)))


def test_the_file_describes_itself(source: Path, tmp_path: Path) -> None:
    path, _ = convert(source, tmp_path, g.Kind.BF16)
    found, expected = read_config(path.parent), read_config(source)
    for name in LagunaConfig.__dataclass_fields__:
        if name not in ("norm_eps", "dtype"):
            assert getattr(found, name) == getattr(expected, name), name
    assert found.norm_eps == pytest.approx(1e-6, rel=1e-6)  # it is stored as a float32


def test_a_lone_gguf_file_speaks(source: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    types = [1 if i not in added else 3 if added[i]["special"] or i == 24 else 4 for _, i in vocabulary]
    path, _ = convert(
        source,
        tmp_path / "lone",
        g.Kind.Q8_0,
        tokenizer__ggml__model="gpt2",
        tokenizer__ggml__pre="laguna",
        tokenizer__ggml__tokens=[token for token, _ in vocabulary],
        tokenizer__ggml__token_type=types,
        tokenizer__ggml__merges=[" ".join(pair) for pair in tokenizer["model"]["merges"]],
        tokenizer__chat_template=(source / "chat_template.jinja").read_text(),
    )
    assert [file.name for file in path.parent.iterdir()] == ["model.gguf"]
    speaker = load(path.parent, device="cpu")
    reference = load(source, device="cpu")
    text = "<assistant>read the path\r\n\n</assistant> 12 \tx〈|EOS|〉"
    mine, theirs = speaker.chat.tokenizer, reference.chat.tokenizer
    assert mine.encode(text).ids == theirs.encode(text).ids
    assert mine.decode([23, 24, 2, 80]) == theirs.decode([23, 24, 2, 80])
    parts = list(alone(speaker, speaker.say([User("hi")], [], Sampling(max_tokens=4))))
    assert isinstance(parts[-1], Stop)


def test_a_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "llama.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ConfigError, match=r"llama\.gguf is not of the architecture laguna"):
        read_config(tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 40, 2000, -300])
def test_a_file_that_is_cut_short_is_named(source: Path, tmp_path: Path, keep: int) -> None:
    path, _ = convert(source, tmp_path, g.Kind.Q8_0)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.gguf"):
        load_weights(tmp_path, read_config(source))


def test_files_that_are_no_parts_of_one_model_are_refused(source: Path, tmp_path: Path) -> None:
    path, _ = convert(source, tmp_path, g.Kind.Q8_0)
    (tmp_path / "other.gguf").write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match="2 GGUF files that are not the parts"):
        read_config(tmp_path)


def test_nan_in_a_block_is_named(source: Path, tmp_path: Path) -> None:
    raw = json.loads((source / "config.json").read_text())
    tensors = {n: (a, g.Kind.F32) for n, a in g.stacked(load_file(source / "model.safetensors")).items()}
    tensors["blk.2.ffn_up_exps.weight"][0][1, 5, 7] = np.nan
    g.write(tmp_path / "model.gguf", raw, tensors)
    with pytest.raises(CheckpointError, match=r"model\.gguf: blk\.2\.ffn_up_exps\.weight holds NaN"):
        load_weights(tmp_path, read_config(tmp_path))
