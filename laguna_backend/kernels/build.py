"""The C++ sources made into one shared library, in the user's cache, by the system's own compiler.

The library's name tells everything that it depends on: sources, flags, compiler, processor. It is written beside its
place and moved there whole, so two processes that compile at once are only twice as busy.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..caches import cache_directory
from .native import Library

log = logging.getLogger("laguna")

SOURCES = Path(__file__).parent / "cpp"
SWITCH = "LAGUNA_KERNELS"
COMPILING_SECONDS = 600
COMMON = ("-std=c++17", "-O3", "-fno-math-errno", "-fPIC", "-shared", "-Wno-psabi")


class BuildError(RuntimeError):
    """The library could not be made. The message says why, in one line."""


@functools.cache
def library() -> Library | None:
    """The kernels, compiled if they never were; None, said once in the log, where that cannot be."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        log.info("kernels are switched off by %s: everything runs in torch", SWITCH)
        return None
    try:
        return Library(build())
    except (BuildError, OSError) as error:
        log.warning("no kernels, so everything runs in torch, more slowly: %s", error)
        return None


def build(target: Sequence[str] | None = None, folder: Path | None = None) -> Path:
    """The library's path, compiled for `target` (flags that name a processor; this one's if not given).

    Raises BuildError.
    """
    compiler = find_compiler()
    flags = [*COMMON, *(native() if target is None else target)]
    after: list[str] = []
    if sys.platform == "linux" and (runtime := openmp()):
        flags.append("-DLAGUNA_OPENMP")
        after.append(str(runtime))
    place = (folder or cache_directory("kernels")) / f"{name_of(compiler, flags)}.so"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        begun = time.perf_counter()
        compile_to(place, [*compiler, *flags], after)
        log.info("compiled the kernels for this processor in %.1f s", time.perf_counter() - begun)
    return place


def find_compiler() -> list[str]:
    """The command of a C++ compiler: `$CXX`, or the system's. Raises BuildError."""
    named = shlex.split(os.environ.get("CXX", ""))
    for command in (named, ["c++"], ["g++"], ["clang++"]):
        if command and shutil.which(command[0]):
            return command
    raise BuildError("there is no C++ compiler (c++, g++, clang++, $CXX)")


def native() -> list[str]:
    return ["-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"]


def openmp() -> Path | None:
    """The OpenMP runtime that torch has brought into the process."""
    return next(iter(sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))), None)


def name_of(compiler: Sequence[str], flags: Sequence[str]) -> str:
    """A name that changes with whatever the library depends on."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    for text in (*flags, identity(tuple(compiler)), processor()):
        digest.update(f"\0{text}".encode())
    return f"laguna-{digest.hexdigest()[:20]}"


@functools.cache
def identity(compiler: tuple[str, ...]) -> str:
    """What a compiler says of itself. Raises BuildError."""
    try:
        said = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{compiler[0]} does not run: {error}") from error
    return said.stdout


@functools.cache
def processor() -> str:
    """What sort of processor this is: a home directory may be shared by machines of many sorts."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        kinds = ("flags", "Features", "model name", "CPU part")
        lines = path.read_text(errors="replace").split("\n\n", 1)[0].splitlines()
        return "\n".join(line for line in lines if line.startswith(kinds))
    return f"{platform.machine()} {platform.processor()} {platform.release()}"


def compile_to(place: Path, command: Sequence[str], after: Sequence[str]) -> None:
    """Compile the sources to `place`, which is there whole or not at all. Raises BuildError."""
    # As one text: what they share is read once.
    text = "".join(f'#include "{path.name}"\n' for path in sorted(SOURCES.glob("*.cpp")))
    command = [*command, f"-I{SOURCES}", "-x", "c++", "-"]
    handle, partial = tempfile.mkstemp(prefix=f"{place.stem}-", suffix=".part", dir=place.parent)
    os.close(handle)
    try:
        done = subprocess.run(
            [*command, "-x", "none", "-o", partial, *after],
            input=text, capture_output=True, text=True, timeout=COMPILING_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or ["no reason given"]
            raise BuildError(f"{command[0]} failed: {lines[0]}")
        os.replace(partial, place)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took longer than {COMPILING_SECONDS} s") from error
    finally:
        Path(partial).unlink(missing_ok=True)
