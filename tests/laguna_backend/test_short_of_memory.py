"""Where memory ends: with real limits on real processes, and by what the system says of control groups and limits."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_checkpoint import write_checkpoint

from acp_server.model import ModelError
from laguna_backend.bench.slice import shape_config
from laguna_backend.checkpoint import free, memory
from laguna_backend.checkpoint.free import UNLIMITED, cgroup_room, free_memory
from laguna_backend.checkpoint.memory import NoRoom, check_room, weight_bytes
from laguna_backend.loading import load
from laguna_backend.model.config import LagunaConfig

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits on addresses hold on Linux")

XS2 = LagunaConfig.from_dict(shape_config("xs2", 40))
CPU, MIB, GIB = torch.device("cpu"), 1 << 20, 1 << 30

LIMIT = """
import resource, sys, torch
from pathlib import Path

torch.set_num_threads(1)

def leave(size):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, resource.RLIM_INFINITY))
"""
ALLOCATE = """
from laguna_backend.model.device import roomy
roomy(8 << 20, dtype=torch.uint8)
leave(64 << 20)
for size in (128 << 20, 1 << 62):
    try:
        roomy(size, dtype=torch.uint8)
    except RuntimeError as error:
        print(type(error).__name__, "allocate memory" in str(error))
print(roomy(16 << 20, dtype=torch.uint8).numel())
"""
SHARE = """
from functools import partial
from laguna_backend.loading import load
from laguna_backend.engine.request import CacheFull, Finish, Request

engine = load(Path(sys.argv[1]), storage="float32").engine
LONG = 500_000

def take(token):
    return engine.spared(partial(engine.pasts.take, [token] * LONG, None, LONG))

def says():
    return [type(step).__name__ for step in engine.generate(Request(prompt=(5,) * 20, max_tokens=2))]

print(says())
idle = take(6)
engine.pasts.release(idle)
leave(idle.cache.bytes_used() // 2)
del idle
second = take(7)
print(len(engine.pasts.all), second.busy)
try:
    take(8)
except CacheFull as error:
    print(error)
print([past is second for past in engine.pasts.all])
print(says())
"""
LOAD = """
from laguna_backend.__main__ import main
leave(int(sys.argv[2]) << 20)
sys.exit(main(["generate", sys.argv[1], "hi", "--max-tokens", "2", *sys.argv[3:]]))
"""
LOAD_BLINDLY = """
from laguna_backend.checkpoint import memory
memory.most_on = lambda device: 0  # a system that does not say what is free
""" + LOAD  # fmt: skip


def limited(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMIT + script, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_an_allocation_that_the_system_refuses_fails_as_torchs_own_do() -> None:
    done = limited(ALLOCATE)
    assert done.stdout.splitlines() == ["RuntimeError True"] * 2 + [str(16 << 20)], done.stderr


def test_a_process_at_its_limit_gives_up_idle_pasts_and_refuses_what_is_too_much(tmp_path: Path) -> None:
    done = limited(SHARE, write_checkpoint(tmp_path, max_position_embeddings=600_000))
    answered = str(["Step", "Step", "Finish"])
    refused = "there is not enough memory to go on; shorter prompts, or fewer at a time, need less"
    assert done.stdout.splitlines() == [answered, "1 True", refused, "[True]", answered], done.stderr


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 128 MiB."""
    return write_checkpoint(tmp_path_factory.mktemp("large"), hidden_size=128, vocab_size=128 << 10)


@pytest.mark.parametrize("options", [(), ("--weights", "int8")])
def test_a_checkpoint_that_the_process_may_not_hold_is_refused_before_it_is_read(
    large: Path, options: tuple[str, ...]
) -> None:
    done = limited(LOAD, large, 40, *options)
    assert done.returncode == 1
    assert done.stderr.startswith(f"laguna: not enough memory for {large.name}: weights of ")
    assert "MiB free" in done.stderr
    assert not list(large.glob("packed-*"))


def test_memory_that_ends_while_a_checkpoint_is_loaded_is_said_in_a_line(large: Path) -> None:
    done = limited(LOAD_BLINDLY, large, 80)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"laguna: not enough memory for {large.name}: [enforce fail at")
    assert "Traceback" not in done.stderr


def test_what_fits_is_loaded(large: Path) -> None:
    done = limited(LOAD, large, 1024)
    assert (done.returncode, "max_tokens: " in done.stderr) == (0, True), done.stderr


# What the system says ------------------------------------------------------------------------------------


def machine(place: Path, monkeypatch: pytest.MonkeyPatch, available: int, swap: int = 0, groups: str = "") -> None:
    """One with so many MiB, whose processes are in these control groups."""
    meminfo, own = place / "meminfo", place / "own"
    meminfo.write_text(f"MemTotal: 99 kB\nMemAvailable:   {available << 10} kB\nSwapFree: {swap << 10} kB\n")
    own.write_text(groups)
    for name, path in (("MEMINFO", meminfo), ("OWN_CGROUPS", own), ("CGROUPS", place / "cgroup")):
        monkeypatch.setattr(free, name, path)


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_a_process_has_no_more_than_its_control_groups_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, monkeypatch, 8000, 100, "0::/pod/box\n")
    assert free_memory() == 8000 * MIB
    assert free_memory(swap=True) == 8100 * MIB
    root = tmp_path / "cgroup"
    stat = f"anon 1\ninactive_file {200 * MIB}\nactive_file {100 * MIB}"
    group(root / "pod/box", memory__max="max", memory__current=0)
    group(root / "pod", memory__max=3000 * MIB, memory__current=1000 * MIB, memory__stat=stat)
    assert free_memory() == 2300 * MIB  # what it keeps of files can be had
    assert free_memory(swap=True) == 2400 * MIB
    group(root / "pod", memory__swap__max=0)
    assert free_memory(swap=True) == 2300 * MIB
    group(root / "pod", memory__current=4000 * MIB)
    assert free_memory() == 0


def test_the_first_version_of_control_groups_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, monkeypatch, 8000, groups="5:cpu:/\n4:memory:/docker/abc\n0::/\n")
    here = tmp_path / "cgroup" / "memory"  # as a container has it mounted: its own group is the root
    group(here, memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=5)
    assert cgroup_room() == UNLIMITED
    stat = f"inactive_file 1\ntotal_inactive_file {MIB}\ntotal_active_file {MIB}"
    group(here, memory__limit_in_bytes=500 * MIB, memory__usage_in_bytes=100 * MIB, memory__stat=stat)
    assert free_memory() == 402 * MIB


def test_only_what_plainly_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = weight_bytes(XS2, "bf16")

    def told(available: int, swap: int = 0) -> str | None:
        monkeypatch.setattr(memory, "free_on", lambda _: available)
        monkeypatch.setattr(memory, "most_on", lambda _: available + swap)
        return check_room(XS2, "bf16", 32, CPU, torch.bfloat16)

    assert told(needed) is None
    assert told(0) is None  # a system that does not say
    assert told(needed - GIB, GIB) == "weights of 63,787 MiB, and cpu has 62,763 MiB free"
    assert told(int(needed / 1.09)) is not None
    with pytest.raises(NoRoom, match="cpu has 20,480 MiB free; packed to INT4 they would fit"):
        told(20 * GIB)
    with pytest.raises(NoRoom, match=r"1,024 MiB free$"):
        told(GIB)


def test_weights_that_may_not_fit_are_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path)
    monkeypatch.setattr(memory, "free_on", lambda _: 1)
    with caplog.at_level(logging.WARNING, "laguna"):
        load(tmp_path)
    assert "may not fit: weights of 0 MiB, and cpu has 0 MiB free" in caplog.text
    monkeypatch.setattr(memory, "most_on", lambda _: 1)
    with pytest.raises(ModelError, match=r"not enough memory for .*: weights of 0 MiB"):
        load(tmp_path)
