"""The processes of a run: one, or those that `torchrun` started, the parameters sharded over them (FSDP2).

Every process reads the same data and takes its share of each step's packs; sums over processes make losses, gradients
and the experts' loads those of the whole step. So one process and many make the same run, within rounding.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from .network import Network
from .packing import Pack

PATIENCE = timedelta(minutes=10)  # with a process that does not come; loading and saving are the longest it may take


class World:
    """This process among those of the run. `mesh` None: it is alone."""

    def __init__(self, device: torch.device, mesh: DeviceMesh | None = None) -> None:
        self.device, self.mesh = device, mesh
        self.rank, self.size = (mesh.get_rank(), mesh.size()) if mesh else (0, 1)

    def __repr__(self) -> str:
        return f"<World {self.rank} of {self.size} on {self.device}>"

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and talks."""
        return self.rank == 0

    def sharded(self, network: Network) -> Network:
        """The network, its parameters over all processes; each layer is gathered while it is at work."""
        if self.mesh is None:
            return network.to(self.device)
        rounding = MixedPrecisionPolicy(param_dtype=network.dtype, reduce_dtype=torch.float32)
        for module in (*network.layers, network):
            fully_shard(module, mesh=self.mesh, mp_policy=rounding)
            # Losses are shares of one sum, so gradients are summed and not averaged; gloo knows no other way.
            sharded = cast(FSDPModule, module)
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)
        return network

    def share(self, packs: Sequence[Pack]) -> list[Pack]:
        """This process's packs of a step. All get as many, for they gather the layers together: some are silent."""
        filled = [*packs, *(packs[0].silent() for _ in range(-len(packs) % self.size))]
        return filled[self.rank :: self.size]

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.mesh:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, where any process has it up."""
        if not self.mesh:
            return flags
        found = self.total(torch.tensor(flags, dtype=torch.int32, device=self.device))
        return tuple(bool(flag) for flag in found.tolist())

    def meet(self) -> None:
        """Wait for every process."""
        if self.mesh:
            dist.barrier()


@contextmanager
def opened(device: torch.device) -> Generator[World]:
    """The world that `torchrun` describes in the environment, or this process alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World(device)
        return
    more: dict[str, Any] = {}
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        more["device_id"] = device
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE, **more)
    try:
        yield World(device, init_device_mesh(device.type, (dist.get_world_size(),)))
    finally:
        dist.destroy_process_group()
