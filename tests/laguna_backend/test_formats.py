"""Released number formats: every code, ties, ragged blocks; and whole checkpoints in each format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantised_checkpoint as q
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_checkpoint import write_checkpoint

from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.weights import CheckpointError, load_weights
from laguna_backend.formats import e4m3, fp8, nvfp4, packed, read_quantization
from laguna_backend.formats.scales import FormatError, spread
from laguna_backend.model.config import ConfigError
from laguna_backend.model.forward import Laguna

torch.set_num_threads(1)


# Numbers ------------------------------------------------------------------------------------------------------


def test_every_e4m3_code_means_what_its_definition_says() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(16, 16)
    found = fp8.dequantise(codes, torch.ones(1), (0, 0)).numpy().reshape(-1)
    assert np.array_equal(found, q.E4M3.astype(np.float32), equal_nan=True)
    assert np.isnan(found).nonzero()[0].tolist() == [0x7F, 0xFF]


def test_every_e2m1_code_means_what_its_definition_says_in_either_nibble() -> None:
    """Nothing here writes such numbers: only the reference rounds to them, and its ties have a test of their own."""
    pairs = torch.arange(256, dtype=torch.uint8)[None]
    one = e4m3.encode(torch.ones(1, 32))
    found = nvfp4.dequantise(pairs, one, torch.ones(1), (1, 512)).numpy().reshape(256, 2)
    for code in range(256):
        assert found[code].tolist() == [q.E2M1[code & 15], q.E2M1[code >> 4]]
    assert sorted({abs(value) for value in q.E2M1}) == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def test_ties_between_e4m3_values_go_to_the_even_code() -> None:
    finite = q.E4M3[:127]
    ties = np.concatenate(((finite[1:] + finite[:-1]) / 2, -(finite[1:] + finite[:-1]) / 2))
    near = np.concatenate((np.nextafter(ties, 0, dtype=np.float32), np.nextafter(ties, 999, dtype=np.float32)))
    for values in (ties, near, np.concatenate((finite, -finite))):
        assert np.array_equal(e4m3.encode(torch.from_numpy(values.astype(np.float32))).numpy(), q.to_e4m3(values))
    assert all(code % 2 == 0 for code in q.to_e4m3(ties).tolist())


def test_the_references_own_ties_go_to_the_even_code() -> None:
    ties = {0.25: 0, 0.75: 1, 1.25: 1, 1.75: 2, 2.5: 2, 3.5: 4, 5: 4}
    assert {tie: float(q.E2M1[q.to_e2m1(np.array([tie]))[0]]) for tie in ties} == ties
    assert {tie: -float(q.E2M1[q.to_e2m1(np.array([-tie]))[0]]) for tie in ties} == ties


@pytest.mark.parametrize("bits", [4, 8])
def test_every_packed_number_comes_back(bits: int) -> None:
    half = 2 ** (bits - 1)
    numbers = torch.arange(-half, half, dtype=torch.int32).repeat(2)[None, : 2 * half - 3]
    words = q.pack(numbers.numpy().astype(np.int64), bits)
    assert torch.equal(packed.unpack(words, (1, 2 * half - 3), bits), numbers)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_shape_and_any_block_comes_out_as_the_reference_has_it(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    w = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).normal(size=(rows, columns))
    down, across = data.draw(st.integers(1, 48)), data.draw(st.integers(1, 48))
    stored, meaning = q.fp8(down, across)(w)
    codes, block = stored["weight"].view(torch.uint8), (min(down, rows), min(across, columns))
    assert np.array_equal(fp8.dequantise(codes, stored["weight_scale"], block).numpy(), meaning)
    bits, group = data.draw(st.sampled_from((4, 8))), data.draw(st.integers(0, 48))
    stored, meaning = q.packed(bits, group)(w)
    found = packed.dequantise(stored["weight_packed"], stored["weight_scale"], w.shape, bits, (1, group))
    assert np.array_equal(found.numpy(), meaning)
    if columns % 2 == 0:
        stored, meaning = q.nvfp4(w)
        scale = stored["weight_scale"].view(torch.uint8)
        found = nvfp4.dequantise(stored["weight_packed"], scale, stored["weight_global_scale"], w.shape)
        assert np.array_equal(found.numpy(), meaning)


def test_scales_that_do_not_number_the_blocks_are_refused() -> None:
    with pytest.raises(FormatError, match=r"scales are \[2, 2\], \[4, 40\] in such blocks has \[1, 2\]"):
        spread(torch.ones(4, 40), torch.ones(2, 2), (32, 32))
    with pytest.raises(FormatError, match="NaN"):
        spread(torch.ones(4, 4), torch.tensor(float("nan")), (0, 0))


# Checkpoints --------------------------------------------------------------------------------------------------

INT4: dict[str, Any] = {"num_bits": 4, "type": "int", "strategy": "group", "symmetric": True}
INT8: dict[str, Any] = INT4 | {"num_bits": 8}
FLOAT8: dict[str, Any] = {"num_bits": 8, "type": "float", "symmetric": True}
NVFP4: dict[str, Any] = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
EARLY, LATE = r"layers\.1\..*" + q.EXPERTS, r"layers\.2\..*" + q.EXPERTS
CACHE = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}

FORMATS: dict[str, tuple[list[tuple[str, q.Quantiser]], dict[str, Any]]] = {
    "fp8, blocks of 128": (
        [(r"(experts\.\d+|shared_expert)\.\w+_proj$", q.fp8(128, 128))],
        q.compressed("float-quantized", FLOAT8 | {"strategy": "block", "block_structure": [128, 128]}),
    ),
    "fp8, ragged blocks, weight_scale_inv": (
        [(r"mlp\..*_proj$|[qkvo]_proj$", q.fp8(20, 12, "weight_scale_inv"))],
        {"quant_method": "fp8", "weight_block_size": [20, 12], "modules_to_not_convert": ["lm_head"]},
    ),
    "fp8, one scale a row": (
        [(q.EXPERTS, q.fp8(1, 10**6))],
        q.compressed("float-quantized", FLOAT8 | {"strategy": "channel"}),
    ),
    "int4, groups of 32": (
        [(r"(gate|up|down)_proj$", q.packed(4, 32))],
        q.compressed(
            "pack-quantized",
            INT4 | {"group_size": 32, "targets": [r"re:.*layers\.\d+\..*(w[1-3]|(gate|up|down)_proj)$"]},
        ),
    ),
    "int4 in early layers, int8 in late ones, groups of 128": (
        [(EARLY, q.packed(4, 128)), (LATE, q.packed(8, 128))],
        q.compressed(
            "pack-quantized",
            INT8 | {"group_size": 128, "targets": ["re:.*" + LATE]},
            INT4 | {"group_size": 128, "targets": ["re:.*" + EARLY]},
        ),
    ),
    "nvfp4": ([(q.EXPERTS, q.nvfp4)], q.compressed("nvfp4-pack-quantized", NVFP4, kv_cache_scheme=CACHE)),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"), hidden_size=48, moe_intermediate_size=24)


@pytest.fixture(params=list(FORMATS))
def both(request: pytest.FixtureRequest, source: Path, tmp_path: Path) -> Path:
    rules, config = FORMATS[request.param]
    return q.quantise(source, rules, config, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantised_checkpoint_gives_the_logits_of_what_it_means(both: Path, dtype: torch.dtype) -> None:
    tokens = torch.arange(3, 40)[None]
    logits: list[torch.Tensor] = []
    for folder in ("quantised", "plain"):
        config = read_config(both / folder)
        logits.append(Laguna(config, load_weights(both / folder, config, dtype=dtype).weights).forward(tokens))
    assert torch.equal(*logits)
    assert sum(path.stat().st_size for path in (both / "quantised").glob("*.safetensors")) < sum(
        path.stat().st_size for path in (both / "plain").glob("*.safetensors")
    )


def quantised(source: Path, into: Path, name: str) -> Path:
    rules, config = FORMATS[name]
    return q.quantise(source, rules, config, into) / "quantised"


def load(directory: Path) -> None:
    load_weights(directory, read_config(directory))


def rewrite(directory: Path, change: dict[str, torch.Tensor | None]) -> None:
    tensors = load_file(directory / "model.safetensors")
    for name, tensor in change.items():
        tensors.pop(name)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, directory / "model.safetensors")


AT = "model.layers.1.mlp.experts.2.up_proj"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("nvfp4", {f"{AT}.weight_scale": None}, "weight_scale is missing"),
        ("nvfp4", {f"{AT}.weight_global_scale": None}, "weight_global_scale is missing"),
        ("nvfp4", {f"{AT}.weight_global_scale": torch.zeros(1)}, "global scale is"),
        ("nvfp4", {f"{AT}.weight_scale": torch.zeros(24, 2)}, "not e4m3"),
        ("nvfp4", {f"{AT}.weight_packed": torch.zeros(24, 23, dtype=torch.uint8)}, r"\[24, 23\], not uint8 \[24, 24\]"),
        ("int4, groups of 32", {f"{AT}.weight_scale": torch.ones(24, 3)}, r"scales are \[24, 3\]"),
        ("int4, groups of 32", {f"{AT}.weight_shape": torch.tensor([24, 47])}, r"is \[24, 47\], .* \[24, 48\]"),
        ("int4, groups of 32", {f"{AT}.weight_packed": torch.zeros(24, 6)}, "not int32"),
        ("fp8, one scale a row", {f"{AT}.weight_scale": torch.full((24, 1), float("inf"))}, "NaN or infinity"),
        ("fp8, one scale a row", {f"{AT}.weight": torch.zeros(24, 48, dtype=torch.int8)}, "would not be"),
        (
            "fp8, one scale a row",
            {f"{AT}.weight": torch.full((24, 48), 0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn)},
            "holds NaN",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_file(
    source: Path, tmp_path: Path, name: str, change: dict[str, torch.Tensor | None], message: str
) -> None:
    directory = quantised(source, tmp_path, name)
    rewrite(directory, change)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: .*experts\.2\.up_proj.*{message}"):
        load(directory)


def test_a_quantised_matrix_that_the_configuration_does_not_explain_is_refused(source: Path, tmp_path: Path) -> None:
    directory = quantised(source, tmp_path, "nvfp4")
    raw = json.loads((directory / "config.json").read_text())
    for change, message in (
        ({"quantization_config": None}, "no quantization_config"),
        ({"quantization_config": raw["quantization_config"] | {"ignore": ["re:.*experts.*"]}}, "in no group"),
    ):
        (directory / "config.json").write_text(json.dumps(raw | change))
        with pytest.raises(CheckpointError, match=message):
            load(directory)


def test_a_surplus_scale_has_no_place(source: Path, tmp_path: Path) -> None:
    directory = quantised(source, tmp_path, "nvfp4")
    save_file(
        load_file(directory / "model.safetensors") | {"lm_head.weight_scale": torch.ones(1)},
        directory / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"1 tensors have no place.*lm_head\.weight_scale"):
        load(directory)


@pytest.mark.parametrize("spelled", ["self_attn.k_scale", "self_attn.k_proj.output_scale", "self_attn.attn.k_scale"])
def test_scales_of_the_cache_are_found_in_every_spelling(source: Path, tmp_path: Path, spelled: str) -> None:
    directory = quantised(source, tmp_path, "nvfp4")
    tensors = load_file(directory / "model.safetensors")
    scales = {
        f"model.layers.{layer}.{spelled.replace('k_', part + '_')}": torch.tensor([0.25 + layer])
        for layer in range(3)
        for part in "kv"
    }
    save_file(tensors | scales, directory / "model.safetensors")
    config = read_config(directory)
    found = load_weights(directory, config).cache_scales
    assert found == {(layer, part): 0.25 + layer for layer in range(3) for part in "kv"}
    assert config.quantization
    assert config.quantization.cache_fp8


# Configuration ------------------------------------------------------------------------------------------------


def test_a_name_beats_a_pattern_and_a_pattern_the_class() -> None:
    found = read_quantization(
        {
            "quantization_config": q.compressed(
                "mixed-precision",
                INT8 | {"group_size": 1},
                INT8 | {"group_size": 2, "targets": ["re:.*experts"]},
                INT8 | {"group_size": 3, "targets": ["model.experts.0"]},
            )
        }
    )
    assert found
    groups = {name: found.scheme_of(name) for name in ("model.experts.0", "model.experts.1", "other", "lm_head")}
    assert [scheme.block[1] if scheme else None for scheme in groups.values()] == [3, 2, 1, None]


def test_a_plain_checkpoint_declares_nothing() -> None:
    assert read_quantization({}) is None
    assert read_quantization({"quantization_config": None}) is None


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"quant_method": "gptq"}, r"quantization_config.quant_method is 'gptq'"),
        ({"bits": 4}, "quant_method is None"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size"),
        (q.compressed("marlin-24", INT4), "format is 'marlin-24'"),
        (q.compressed("pack-quantized"), "config_groups names no groups"),
        (q.compressed("pack-quantized", INT4 | {"num_bits": 3}), r"group_0.weights.num_bits is 3"),
        (q.compressed("pack-quantized", INT4 | {"symmetric": False}), "zero points"),
        (q.compressed("pack-quantized", INT4 | {"group_size": -1}), "group_size"),
        (q.compressed("pack-quantized", INT4 | {"actorder": "group"}), "actorder"),
        (q.compressed("pack-quantized", INT4 | {"group_size": 32, "targets": []}), "targets is empty"),
        (q.compressed("pack-quantized", INT4 | {"group_size": 32, "targets": ["re:("]}), "no regular expression"),
        (q.compressed("nvfp4-pack-quantized", NVFP4 | {"group_size": 32}), "groups of 16"),
        (q.compressed("float-quantized", FLOAT8 | {"strategy": "block"}), "block_structure"),
        (q.compressed("float-quantized", FLOAT8 | {"strategy": "token"}), "strategy is 'token'"),
        (q.compressed("float-quantized", FLOAT8, kv_cache_scheme=CACHE | {"num_bits": 4}), "kv_cache_scheme"),
        (
            q.compressed(
                "pack-quantized",
                FLOAT8,
                transform_config={"config_groups": {"R3": {"apply": [{"location": "q_attn", "targets": []}]}}},
            ),
            "applies at 'q_attn'",
        ),
        (q.compressed("pack-quantized", FLOAT8, sparsity_config={"format": "sparse-24-bitmask"}), "sparse"),
    ],
)
def test_a_quantisation_we_do_not_know_is_refused_by_its_field(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_quantization({"quantization_config": declared})


def test_rotations_that_were_folded_into_the_weights_need_nothing() -> None:
    folded = {"config_groups": {"R1": {"apply": [{"location": "weight_output", "targets": ["embed_tokens"]}]}}}
    assert read_quantization({"quantization_config": q.compressed("float-quantized", FLOAT8, transform_config=folded)})
