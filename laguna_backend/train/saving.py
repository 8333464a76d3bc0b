"""The saved states of a run, each a folder of its own, from which it goes on as if it had never stopped.

A state is written beside its final name by torch's distributed checkpoint, every process its own part, is brought to
the disk, and only then gets its name: a run that is killed at any moment leaves whole states. It can be read by any
number of processes. One that is damaged all the same is passed over for the one before it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from .errors import NoState
from .world import World

log = logging.getLogger("laguna")

NAME = re.compile(r"step-(\d{8,})")
FACTS = "state.json"


class Saves:
    """The states in a folder, of which the last `keep` stay."""

    def __init__(self, folder: Path, world: World, *, keep: int = 2) -> None:
        self.folder, self.world, self.keep = folder, world, keep

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Write a state: the tensors, which may be sharded, and facts as JSON. Every process calls it."""
        final = self.folder / f"step-{step:08}"
        partial = self.folder / f"{final.name}.part"
        if self.world.first:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.world.meet()
        with quiet():
            save(dict(tensors), checkpoint_id=partial, no_dist=self.world.mesh is None)
        if self.world.first:
            sizes = {path.name: path.stat().st_size for path in partial.iterdir()}
            path = partial / FACTS
            path.write_text(json.dumps({"files": sizes, "facts": facts}), encoding="utf-8")
            for place in (path, partial):
                to_disk(place)
            shutil.rmtree(final, ignore_errors=True)  # of a run that was taken back to before this step
            partial.replace(final)
            to_disk(self.folder)
            for old in self.whole()[self.keep :]:
                shutil.rmtree(old, ignore_errors=True)
        self.world.meet()
        return final

    def whole(self) -> list[Path]:
        """The folders of whole states, the latest first."""
        found = sorted(
            ((int(match[1]), path) for path in self.folder.glob("step-*") if (match := NAME.fullmatch(path.name))),
            reverse=True,
        )
        return [path for _, path in found if is_whole(path)]

    def load(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Read the latest whole state into the tensors; gives back its facts. Raises NoState."""
        states = self.whole()
        if not states:
            raise NoState(f"there is no saved state in {self.folder}")
        with torch.no_grad(), quiet():
            load(dict(tensors), checkpoint_id=states[0], no_dist=self.world.mesh is None)
        return read_facts(states[0])


@contextmanager
def quiet() -> Generator[None]:
    """Without torch's warning that a process which is alone saves alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def read_facts(state: Path) -> Mapping[str, Any]:
    """The facts of a whole state."""
    return json.loads((state / FACTS).read_text(encoding="utf-8"))["facts"]


def is_whole(state: Path) -> bool:
    """Whether a state's files are all there in their full size."""
    try:
        sizes = json.loads((state / FACTS).read_text(encoding="utf-8"))["files"]
        damaged = [name for name, size in sizes.items() if (state / name).stat().st_size != size]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("%s is not whole and is passed over: %s", state, error)
        return False
    if damaged:
        log.warning("%s is not whole and is passed over: %s", state, ", ".join(damaged))
    return not damaged


def to_disk(path: Path) -> None:
    """Have the system write a file's or a folder's contents out."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
