"""Packed weights on disk: read back as they were, made anew when anything changed, never half there."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_checkpoint import write_checkpoint

from acp_server.model import Sampling, User
from laguna_backend.checkpoint import kept
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.kept import load_packed
from laguna_backend.checkpoint.weights import CheckpointError, Loaded
from laguna_backend.loading import load
from laguna_backend.model.linear import Packer, Precision
from laguna_backend.speaker import alone

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model")


def packed(directory: Path, precision: Precision = "int4", group: int = 32) -> Loaded:
    packer = Packer(precision, group, narrow=precision == "fp8")
    return load_packed(directory, read_config(directory), packer, dtype=torch.bfloat16)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("packed-*"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Each time that weights are packed."""
    seen: list[Path] = []
    original = kept.load_weights

    def count(directory: Path, *args: Any, **more: Any) -> Loaded:
        seen.append(directory)
        return original(directory, *args, **more)

    monkeypatch.setattr(kept, "load_weights", count)
    return seen


def same(one: Loaded, other: Loaded) -> None:
    for (name, mine), (named, theirs) in zip(one.weights.named(), other.weights.named(), strict=True):
        assert name == named
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs), name
    assert (one.cache_scales, one.packing_error) == (other.cache_scales, other.packing_error)


@pytest.mark.parametrize("precision", ["int8", "int4", "fp8"])
def test_what_was_packed_once_is_read_from_then_on(directory: Path, precision: Precision, counted: list[Path]) -> None:
    tensors = load_file(directory / "model.safetensors")
    tensors |= {"model.layers.1.self_attn.k_scale": torch.tensor(0.5)}
    save_file(tensors, directory / "model.safetensors")
    first, second = packed(directory, precision), packed(directory, precision)
    same(first, second)
    assert first.cache_scales == {(1, "k"): 0.5}
    assert len(counted) == len(files(directory)) == 1


def test_the_file_is_one_that_others_can_read(directory: Path) -> None:
    loaded = packed(directory)
    with safe_open(directory / files(directory)[0], "pt") as opened:
        assert len(list(opened.keys())) == len(list(loaded.weights.named()))
        assert torch.equal(opened.get_tensor("embed"), loaded.weights.embed)


def test_another_precision_is_another_file_and_another_checkpoint_takes_the_place_of_the_old_one(
    directory: Path, counted: list[Path]
) -> None:
    packed(directory)
    packed(directory, group=64)
    packed(directory, "int8")
    before = files(directory)
    assert len(before) == 3
    write_checkpoint(directory, seed=5)
    changed = packed(directory)
    after = files(directory)
    assert len(after) == 3
    assert len(set(before) & set(after)) == 2
    assert len(counted) == 4
    same(changed, packed(directory))


def test_the_time_and_the_configuration_of_a_checkpoint_count(directory: Path, counted: list[Path]) -> None:
    packed(directory)
    os.utime(directory / "model.safetensors", ns=(1, 1))
    packed(directory)
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | {"rms_norm_eps": 1e-5}))
    packed(directory)
    assert len(counted) == 3
    assert len(files(directory)) == 1


@pytest.mark.parametrize("damage", [b"", b"\xff" * 8, None])
def test_a_damaged_file_is_made_anew(
    directory: Path, damage: bytes | None, counted: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    whole = packed(directory)
    path = directory / files(directory)[0]
    path.write_bytes(path.read_bytes()[:-10] if damage is None else damage)
    with caplog.at_level(logging.WARNING, "laguna"):
        same(packed(directory), whole)
    assert "is packed anew" in caplog.text
    same(packed(directory), whole)
    assert len(counted) == 2


@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 0.7, 1.0, b"[24, 8, 8, 3]", b'"error": "0.00'])
def test_bytes_that_a_disk_has_changed_are_never_run(
    directory: Path, place: float | bytes, counted: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    whole = packed(directory, "int8")
    path = directory / files(directory)[0]
    raw = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(raw[:8], "little")
    in_header = isinstance(place, bytes)  # where it can be read all the same
    raw[raw.index(place) + len(place) - 2 if in_header else begin + int(place * (len(raw) - begin - 1))] ^= 1
    path.write_bytes(raw)
    with caplog.at_level(logging.WARNING, "laguna"):
        same(packed(directory, "int8"), whole)
    assert "is packed anew" in caplog.text
    same(packed(directory, "int8"), whole)
    assert len(counted) == 2


def test_where_the_checkpoint_cannot_be_written_the_users_cache_is_taken(
    directory: Path, home: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = kept.tempfile.mkstemp

    def refused(*, dir: Path, **more: Any) -> tuple[int, str]:  # root may write anywhere, so the call is refused
        if dir == directory:
            raise PermissionError(13, "Permission denied")
        return make(dir=dir, **more)

    monkeypatch.setattr(kept.tempfile, "mkstemp", refused)
    first = packed(directory)
    assert not files(directory)
    [folder] = (home / "acp-laguna" / "packed").iterdir()
    assert len(files(folder)) == 1
    same(first, packed(directory))
    assert len(counted) == 1


def test_a_full_disk_costs_only_the_keeping(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = kept.shutil.disk_usage(directory)
    monkeypatch.setattr(kept.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with caplog.at_level(logging.INFO, "laguna"):
        packed(directory)
    assert "would fill the disk" in caplog.text
    assert not files(directory)


def test_a_checkpoint_that_is_broken_is_named_as_before(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        packed(directory)


TWO = """
import sys, torch
from pathlib import Path
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.kept import load_packed
from laguna_backend.model.linear import Packer
torch.set_num_threads(1)
folder = Path(sys.argv[1])
for _ in range(5):
    loaded = load_packed(folder, read_config(folder), Packer("int4"), dtype=torch.bfloat16)
    print(sum(float(tensor.double().sum()) for _, tensor in loaded.weights.named()))
    for path in folder.glob("packed-*"):
        path.unlink(missing_ok=True)
"""


def test_two_processes_on_one_folder_do_not_disturb_one_another(directory: Path) -> None:
    command = [sys.executable, "-c", TWO, str(directory)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert len({line for out, _ in said for line in out.split()}) == 1


def test_a_model_that_was_kept_speaks_as_before(directory: Path) -> None:
    def say() -> list[object]:
        speaker = load(directory, weights="int8")
        return [str(part) for part in alone(speaker, speaker.say([User("hi")], [], Sampling(max_tokens=6)))]

    assert say()[:-1] == say()[:-1]
    assert len(files(directory)) == 1
