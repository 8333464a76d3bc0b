"""The kernels beside their plain twins, for every vector unit that this machine bears, and how they are built."""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from laguna_backend.bench.slice import packed, pooled_weights, shape_config
from laguna_backend.kernels import build, native
from laguna_backend.kernels.build import BuildError
from laguna_backend.kernels.native import Library
from laguna_backend.model.cache import KVCache
from laguna_backend.model.compiled import Compiled
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, joined
from laguna_backend.model.linear import (
    FEW,
    Int4,
    Int8,
    LowRank,
    Matrix,
    Packer,
    linear,
    native_matrix,
    tensors_of,
    to_int4,
    to_int8,
)
from laguna_backend.model.parameters import Weights

torch.set_num_threads(1)

# Each sort of processor that the sources know, by the flags that stand for it and one that it has.
UNITS: dict[str, tuple[tuple[str, ...], str]] = {
    "AVX-512 with VNNI and BF16": (("-march=cooperlake",), "avx512_bf16"),
    "AVX-512 with VNNI": (("-march=cascadelake",), "avx512_vnni"),
    "AVX-512": (("-march=skylake-avx512",), "avx512bw"),
    "AVX2 with VNNI": (("-march=x86-64-v3", "-mavxvnni"), "avx_vnni"),
    "AVX2": (("-march=x86-64-v3",), "avx2"),
    "no vector unit": ((), ""),
}


def flags() -> set[str]:
    """What /proc/cpuinfo says of this processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return set(next((line.split(":")[1] for line in lines if line.startswith("flags")), "").split())


@functools.cache
def compiled(unit: str) -> Library:
    target, needed = UNITS[unit]
    if needed and needed not in flags():
        pytest.skip(f"this machine has no {unit}")
    try:
        return Library(build.build(target))
    except BuildError as error:
        pytest.skip(str(error))


@pytest.fixture(params=list(UNITS))
def kernels(request: pytest.FixtureRequest) -> Library:
    found = compiled(request.param)
    assert found.unit == request.param or not flags()  # another architecture has units of its own
    return found


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def as_codes(x: Tensor) -> Tensor:
    """x [T, K] as the kernels round it for packed matrices: 255 steps from the largest to its negative, by 32."""
    parts = F.pad(x.float(), (0, -x.shape[1] % 32)).view(len(x), -1, 32)
    largest = parts.abs().amax(dim=-1, keepdim=True)
    codes = (parts * (torch.tensor(127.0) / largest)).nan_to_num(0).round()
    return (codes * (largest / 127)).flatten(1)[:, : x.shape[1]]


def meaning(w: Matrix) -> Tensor:
    assert not isinstance(w, LowRank)
    return w.float() if isinstance(w, Tensor) else w.widened(0, w.shape[-2])


def product(
    kernels: Library, w: Matrix, x: Tensor, residual: Tensor | None = None, norm: Tensor | None = None
) -> Tensor:
    out, matrix = x.new_empty(len(x), w.shape[0]), native_matrix(w)
    kernels.product(
        native.address(matrix), x.data_ptr(), x.shape[1], len(x), native.TYPES[x.dtype],
        None if norm is None else norm.data_ptr(), 1e-6, None if residual is None else residual.data_ptr(),
        out.data_ptr(), 2,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8", "int4, 32", "int4, 64", "int4, 128"])
def test_a_product_is_exact_but_for_the_rounding_of_its_input(kernels: Library, kind: str) -> None:
    for rows, columns in ((1, 1), (16, 32), (37, 200), (130, 129), (64, 512), (23, 2048 + 9)):
        wide = drawn(rows, columns)
        w: Matrix = wide.float() if kind == "float32" else wide
        if kind.startswith("int"):
            w = to_int8(wide)[0] if kind == "int8" else to_int4(wide, int(kind[6:]))[0]
        for count in (*range(1, FEW + 1), 9, 14, 29):  # few rows, and those that go by tiles, whole and cut short
            x = drawn(count, columns, seed=count, dtype=torch.float32)
            taken = x if isinstance(w, Tensor) else as_codes(x)
            if kind == "bfloat16" and "BF16" in kernels.unit:
                taken = x.bfloat16().float()
            expected = taken.double() @ meaning(w).double().T
            error = (product(kernels, w, x) - expected).abs().max() / expected.abs().max()
            assert float(error) < 3e-6, (rows, columns, count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_row_of_many_gives_does_not_depend_on_those_beside_it(kernels: Library, dtype: torch.dtype) -> None:
    w = drawn(32, 2048 + 33, dtype=dtype)  # two stretches of columns and a rest
    x = drawn(19, w.shape[1], seed=1, dtype=torch.float32)
    together = product(kernels, w, x)
    assert torch.equal(product(kernels, w, x[5:14].contiguous()), together[5:14])


def test_the_norm_before_and_the_sum_after_a_product_round_as_torch_rounds(kernels: Library) -> None:
    w, x, residual, weight = drawn(48, 96), drawn(3, 96), drawn(3, 48, seed=2), drawn(96, seed=3)
    wide = x.float() * torch.rsqrt(x.float().square().mean(dim=-1, keepdim=True) + 1e-6)
    expected = F.linear((weight * wide.bfloat16()).double(), w.double()) + residual
    assert torch.equal(product(kernels, w, x, residual, weight), expected.bfloat16())


def test_what_is_no_number_stays_none(kernels: Library) -> None:
    x = drawn(1, 64)
    x[0, 3] = float("nan")
    for w in (drawn(16, 64), to_int8(drawn(16, 64))[0], to_int4(drawn(16, 64), 32)[0]):
        assert product(kernels, w, x).isnan().all()


def test_input_of_noughts_and_of_huge_numbers_is_borne(kernels: Library) -> None:
    w = to_int4(drawn(16, 64), 32)[0]
    assert not product(kernels, w, torch.zeros(1, 64)).any()
    found = product(kernels, w, torch.full((1, 64), 1e30))
    assert torch.allclose(found, 1e30 * meaning(w).sum(dim=1), rtol=1e-4, atol=1e27)


# Whole models ------------------------------------------------------------------------------------------------

RAW = shape_config("tiny", 5)
CASES: dict[str, dict[str, Any]] = {
    "xs": {},
    "softcap, another score, one expert": {
        "moe_router_logit_softcapping": 5.0, "moe_router_score_func": "sqrtsoftplus", "num_experts_per_tok": 1,
    },
    "window of 3, groups of 9": {"sliding_window": 3, "num_attention_heads_per_layer": [18] * 5},
    "all full, a gate an element": {"layer_types": ["full_attention"] * 5, "gating": "per-element"},
    "ragged": {"hidden_size": 100, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
}  # fmt: skip


def exact(value: Any) -> Any:
    """Weights in float32, with a router's bias that is not zero."""
    if isinstance(value, Int8 | Int4):
        return value
    if isinstance(value, Tensor):
        return value.float()
    if isinstance(value, list):
        return [exact(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if dataclasses.is_dataclass(value):
        value = copy.copy(value)
        for field in dataclasses.fields(value):
            setattr(value, field.name, exact(getattr(value, field.name)))
        if hasattr(value, "bias"):
            value.bias = drawn(len(value.bias), seed=4, dtype=torch.float32) * 0.3
    return value


def gated(config: LagunaConfig, weights: Weights) -> Weights:
    """With the gate that the configuration asks for: `pooled_weights` knows one a head."""
    if config.per_element_gate:
        for spec, layer in zip(config.layers, weights.layers, strict=True):
            inputs: Any = layer.inputs
            inputs.gate = drawn(spec.heads * config.head_dim, config.hidden_size, seed=5) * config.hidden_size**-0.5
    return weights


def pair(kernels: Library, config: LagunaConfig, weights: Weights) -> tuple[Laguna, Laguna]:
    """The same model by the kernels and by torch."""
    fast, plain = Laguna(config, weights), Laguna(config, weights)
    fast.compiled, plain.compiled = Compiled(config, weights, kernels), None
    return fast, plain


@torch.no_grad()
def relative(fast: Laguna, plain: Laguna, storage: Any, chunks: list[int]) -> list[float]:
    """How far apart the logits of each chunk are, after a prompt that wraps every ring."""
    caches = KVCache(fast.config, storage=storage), KVCache(fast.config, storage=storage)
    prompt = torch.arange(3, 43)[None]
    for model, cache in zip((fast, plain), caches, strict=True):
        model.forward(prompt, cache)
    errors: list[float] = []
    for chunk in chunks:
        tokens = (torch.arange(chunk) * 7 + caches[0].length)[None] % 500
        ours, theirs = (m.forward(tokens, c).float() for m, c in zip((fast, plain), caches, strict=True))
        errors.append(float((ours - theirs).norm() / theirs.norm()))
        assert caches[0].length == caches[1].length
    return errors


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("storage", ["float32", "bfloat16", "fp8"])
def test_a_model_by_the_kernels_is_that_of_torch(kernels: Library, case: str, storage: str) -> None:
    config = LagunaConfig.from_dict(RAW | CASES[case])
    weights = joined(exact(gated(config, pooled_weights(config))))
    errors = relative(*pair(kernels, config, weights), storage, [1, 8, 1, 3, 2, 1, 1])
    # A number of the cache on the edge between two may round otherwise, and be seen from then on.
    assert max(errors) < {"float32": 1e-5, "bfloat16": 0.005, "fp8": 0.05}[storage], errors


@torch.no_grad()
@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_a_model_that_is_rounded_is_as_near_to_the_exact_one_as_by_torch(kernels: Library, precision: Any) -> None:
    config = LagunaConfig.from_dict(RAW)
    held = pooled_weights(config)
    fast, plain = pair(kernels, config, joined(packed(held, Packer(precision)) if precision != "bf16" else held))
    truth = Laguna(config, joined(exact_of(fast.weights)))
    truth.compiled = None
    tokens = torch.arange(3, 11)[None]
    logits = [model.forward(tokens, KVCache(config, storage="float32")).float() for model in (fast, plain, truth)]
    ours, theirs = ((found - logits[2]).flatten(1).abs().median() for found in logits[:2])
    assert float(ours) < (1.2 if precision == "bf16" else 2.0) * float(theirs)


def exact_of(value: Any) -> Any:
    """What rounded or packed weights mean, in float32."""
    if isinstance(value, Int8 | Int4):
        if len(value.shape) == 2:
            return value.widened(0, value.rows)
        return torch.stack([value[index].widened(0, value.rows) for index in range(value.shape[0])])
    if isinstance(value, Tensor):
        return value.float()
    if isinstance(value, list):
        return [exact_of(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if dataclasses.is_dataclass(value):
        value = copy.copy(value)
        for field in dataclasses.fields(value):
            setattr(value, field.name, exact_of(getattr(value, field.name)))
    return value


def test_more_threads_than_heads_give_the_same(kernels: Library) -> None:
    config = LagunaConfig.from_dict(RAW)
    fast, plain = pair(kernels, config, joined(exact(pooled_weights(config))))
    cache, other = KVCache(config, storage="float32"), KVCache(config, storage="float32")
    prompt = torch.arange(1400)[None] % 500
    with torch.no_grad():
        for model, held in ((fast, cache), (plain, other)):
            model.forward(prompt, held)
        expected = plain.forward(torch.tensor([[7, 8]]), other)
        torch.set_num_threads(5)
        try:
            found = fast.forward(torch.tensor([[7, 8]]), cache)
        finally:
            torch.set_num_threads(1)
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_gradients_and_what_the_kernels_do_not_know_go_by_torch(kernels: Library) -> None:
    config = LagunaConfig.from_dict(RAW)
    weights = joined(pooled_weights(config))
    plain = Compiled(config, weights, kernels)
    small = Compiled(config, joined(packed(weights, Packer("int8"))), kernels)
    with torch.no_grad():
        assert plain.takes(torch.zeros(1, FEW))
        assert plain.takes(torch.zeros(1, FEW + 1)) == (
            kernels.unit.startswith("AVX2") or kernels.unit.endswith("BF16")  # where oneDNN is slower
        )
        assert small.takes(torch.zeros(1, FEW + 1))
    assert not small.takes(torch.zeros(1, 1))
    assert Compiled.of(config, pooled_weights(config)) is None  # inputs apart: these are for training
    narrow = LagunaConfig.from_dict(RAW | {"head_dim": 8})
    assert Compiled.of(narrow, joined(pooled_weights(narrow))) is None


@torch.no_grad()
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_logits_of_a_packed_model_do_not_depend_on_how_a_prompt_is_cut(kernels: Library, precision: Any) -> None:
    config = LagunaConfig.from_dict(RAW)
    weights = joined(exact(packed(pooled_weights(config), Packer(precision))))
    model, _ = pair(kernels, config, weights)
    tokens, logits = torch.arange(3, 83)[None], list[Tensor]()
    for size in (80, 40, 8, 1):
        cache = KVCache(config, storage="float32")
        logits.append([model.forward(part, cache, last_only=True) for part in tokens.split(size, dim=1)][-1])
    for other in logits[1:]:
        assert float((other - logits[0]).norm() / logits[0].norm()) < 0.02


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_packing_by_the_kernels_is_that_of_torch(kernels: Library, precision: Any) -> None:
    for rows, columns, group in ((1, 1, 32), (37, 200, 64), (64, 512, 32), (40, 300, 128)):
        w = drawn(rows, columns)
        packer = Packer(precision, group)
        found, (expected, means) = (
            packer.pack(kernels, w, precision),
            to_int8(w) if precision == "int8" else to_int4(w, group),
        )
        mine, theirs = meaning(found), meaning(expected)
        step = (mine - theirs).abs() > 1e-6  # a number half-way between two steps may go either way
        assert float(step.float().mean()) < 0.002
        assert packer.error() == pytest.approx(float((means - w.float()).norm() / w.float().norm()), rel=2e-3, abs=1e-6)
        assert [t.shape for t in tensors_of(found)] == [t.shape for t in tensors_of(expected)]


# Building ----------------------------------------------------------------------------------------------------


@pytest.fixture
def anew() -> Any:
    build.library.cache_clear()
    yield
    build.library.cache_clear()


@pytest.mark.usefixtures("anew")
def test_without_a_compiler_torch_does_it_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    w, x = to_int8(drawn(20, 64))[0], drawn(2, 64)
    with caplog.at_level(logging.INFO, "laguna"):
        found = [linear(x, w) for _ in range(2)]
    assert torch.equal(found[0], F.linear(x, meaning(w).bfloat16()))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "there is no C++ compiler" in caplog.text


@pytest.mark.usefixtures("anew")
def test_kernels_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAGUNA_KERNELS", "off")
    assert build.library() is None


def compiler(folder: Path, script: str) -> Path:
    path = folder / "c++"
    path.write_text(f"#!{sys.executable}\nimport pathlib, sys, time\n{script}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = compiler(tmp_path, "sys.exit('--version' not in sys.argv and 'x.cpp:1: error: no room on the moon')")
    monkeypatch.setenv("CXX", str(path))
    with pytest.raises(BuildError, match="error: no room on the moon"):
        build.build(folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


TWICE = """
import sys
from pathlib import Path
from laguna_backend.kernels import build
print(build.build(folder=Path(sys.argv[1])))
"""


def test_two_processes_that_compile_at_once_both_get_the_whole_library(tmp_path: Path) -> None:
    script = "out = sys.argv[sys.argv.index('-o') + 1] if '-o' in sys.argv else None\n"
    script += "out and [pathlib.Path(out).open('ab').write(b'x' * 1000) for _ in range(50)]\n"
    env = os.environ | {"CXX": str(compiler(tmp_path, script))}
    command = [sys.executable, "-c", TWICE, str(tmp_path / "cache")]
    running = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [process.communicate(timeout=60)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert found[0] == found[1]
    assert [path.stat().st_size for path in (tmp_path / "cache").iterdir()] == [50_000]


def test_a_library_of_other_sources_is_refused(tmp_path: Path) -> None:
    found = next(iter(UNITS))
    try:
        path = build.build(UNITS["no vector unit"][0])
    except BuildError as error:
        pytest.skip(f"{found}: {error}")
    other = native.Shape
    try:
        native.Shape = native.Past  # type: ignore[misc]
        with pytest.raises(OSError, match="made of other sources"):
            Library(path)
    finally:
        native.Shape = other  # type: ignore[misc]


def test_the_name_of_a_library_tells_its_flags_and_its_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = compiler(tmp_path, "'-o' in sys.argv and pathlib.Path(sys.argv[sys.argv.index('-o') + 1]).write_text('')")
    monkeypatch.setenv("CXX", str(path))
    names = {build.build(target, folder=tmp_path / "cache").name for target in ((), ("-mone",), ("-mone", "-mtwo"))}
    assert len(names) == 3
