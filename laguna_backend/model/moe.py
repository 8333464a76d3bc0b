"""The sparse feed-forward: a router picks a few experts for each token, and a shared expert sees them all.

`mix_plain` is the definition, a loop over experts. `mix` is what runs: one token goes straight through its experts'
own weights without a copy; more tokens are sorted by expert first, so that each expert works on one block of rows; on
CUDA all experts are one grouped product, torch's where it has one and else ours (`kernels.triton.experts`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import triton
from .linear import Matrix, each, linear
from .narrow import Fp8, Narrow, Nibbles

GATHERED = 8  # rows up to which gathering weights costs less than waiting


def swiglu(x: Tensor, gate_up: Matrix, down: Matrix) -> Tensor:
    """down(silu(gate x) * up x). x [.., H], gate_up [2I, H] with the gate's rows first, down [H, I] -> [.., H]."""
    gate, up = linear(x, gate_up).chunk(2, dim=-1)
    return linear(F.silu(gate) * up, down)


def route(
    x: Tensor, router: Tensor, bias: Tensor, top_k: int, *, score: str = "sigmoid", softcap: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Weights [T, top_k] and experts [T, top_k] of each row of x [T, H].

    The bias takes part in the choice only, never in the weight (auxiliary-loss-free balancing, arXiv 2408.15664).
    """
    logits = F.linear(x, router).float()  # rounded in the model's dtype first, as the reference does
    if softcap > 0:
        logits = torch.tanh(logits / softcap) * softcap
    scores = logits.sigmoid() if score == "sigmoid" else F.softplus(logits).sqrt()
    chosen = (scores + bias.to(scores.dtype)).topk(top_k, dim=-1).indices
    weights = scores.gather(-1, chosen)
    return (weights / weights.sum(dim=-1, keepdim=True)).to(x.dtype), chosen


def mix_plain(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Matrix, down: Matrix) -> Tensor:
    """Sum of weight * expert(x) over each token's experts. gate_up [E, 2I, H], down [E, H, I]; x [T, H] -> [T, H]."""
    out = torch.zeros_like(x)
    for expert in range(gate_up.shape[0]):
        rows, slot = torch.where(chosen == expert)
        if rows.numel():
            y = swiglu(x[rows], gate_up[expert], down[expert]) * weights[rows, slot, None]
            out = out.index_add(0, rows, y)
    return out


def mix(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Matrix, down: Matrix) -> Tensor:
    """The same as `mix_plain`, the way that suits the device and the number of rows."""
    if isinstance(gate_up, Tensor | Fp8 | Nibbles) and isinstance(down, Tensor | Fp8 | Nibbles):
        few, learning = x.shape[0] <= GATHERED, torch.is_grad_enabled()
        if few and not learning and x.is_cuda and triton.available():
            from ..kernels.triton.experts import mix_few

            return mix_few(x, weights, chosen, gate_up, down)
        if isinstance(gate_up, Tensor) and isinstance(down, Tensor) and has_grouped_kernel(gate_up, down):
            return mix_grouped(x, weights, chosen, gate_up, down)
        if few and far(x):
            return mix_gathered(x, weights, chosen, gate_up, down)
        if not learning and x.is_cuda and triton.available():
            from ..kernels.triton.experts import mix_many

            return mix_many(x, weights, chosen, gate_up, down)
    if x.shape[0] == 1:
        return mix_one(x, weights, chosen, gate_up, down)
    return mix_sorted(x, weights, chosen, gate_up, down)


def mix_one(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Matrix, down: Matrix) -> Tensor:
    """One row, through views of its experts' weights: nothing is copied. All but the products is done for all at
    once."""
    experts = chosen[0].tolist()
    gate, up = torch.cat([linear(x, gate_up[expert]) for expert in experts]).chunk(2, dim=-1)  # [top_k, I] each
    inner = F.silu(gate) * up
    out = torch.cat([linear(row[None], down[expert]) for row, expert in zip(inner, experts, strict=True)])
    return (out * weights[0, :, None]).sum(dim=0, keepdim=True)


def mix_gathered(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor | Narrow, down: Tensor | Narrow) -> Tensor:
    """Few rows, the chosen experts' weights gathered by the device: the host never waits to learn who was chosen."""
    count, top_k = chosen.shape
    picked = chosen.reshape(-1)  # [T * top_k]
    rows = x[:, None, :, None].expand(count, top_k, x.shape[1], 1).reshape(count * top_k, x.shape[1], 1)
    gate, up = torch.bmm(several(gate_up, picked, x), rows).squeeze(-1).chunk(2, dim=-1)
    out = torch.bmm(several(down, picked, x), (F.silu(gate) * up)[..., None])  # [T * top_k, H, 1]
    return (out.view(count, top_k, -1) * weights[..., None]).sum(dim=1)


def several(stack: Tensor | Narrow, picked: Tensor, like: Tensor) -> Tensor:
    """Some matrices of a stack, plain."""
    found = stack[picked]
    return found if isinstance(found, Tensor) else found.widened().to(like.dtype)


def far(x: Tensor) -> bool:
    """Whether the host waits when it wants to know a number of this tensor."""
    return x.device.type != "cpu"


def mix_sorted(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Matrix, down: Matrix) -> Tensor:
    """Rows sorted by expert, one product for each expert that was chosen. Differentiable."""
    experts = chosen.reshape(-1)  # [T * top_k]
    order = experts.argsort()
    rows = order // chosen.shape[1]
    counts = torch.bincount(experts, minlength=gate_up.shape[0])
    blocks = zip(x[rows].split(counts.tolist()), each(gate_up), each(down), strict=True)
    mixed = torch.cat([swiglu(block, into, out) for block, into, out in blocks if block.shape[0]])
    mixed = mixed * weights.reshape(-1)[order, None]
    return torch.zeros_like(x).index_add(0, rows, mixed)


def mix_grouped(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """Rows sorted by expert, one product for all experts. The host never waits to learn who was chosen."""
    ordered, order = chosen.reshape(-1).sort()  # [T * top_k]
    rows = order // chosen.shape[1]
    every = torch.arange(gate_up.shape[0], device=x.device)
    ends = torch.searchsorted(ordered, every, right=True).to(torch.int32)  # where each expert's rows end
    gate, up = F.grouped_mm(x[rows], gate_up.transpose(1, 2), offs=ends).chunk(2, dim=-1)
    mixed = F.grouped_mm(F.silu(gate) * up, down.transpose(1, 2), offs=ends)
    mixed = mixed * weights.reshape(-1)[order, None]
    return torch.zeros_like(x).index_add(0, rows, mixed)


def has_grouped_kernel(gate_up: Tensor, down: Tensor) -> bool:
    """Whether `mix_grouped` is one kernel here: bfloat16 on CUDA from Ampere on, rows of whole 16 bytes.

    On a CPU torch loops over the experts inside, which gains 5 to 12 % over `mix_sorted` on large experts and loses
    as much on small ones.
    """
    return (
        gate_up.is_cuda
        and gate_up.dtype == torch.bfloat16
        and gate_up.shape[-1] % 8 == 0
        and down.shape[-1] % 8 == 0
        and hasattr(F, "grouped_mm")
        and torch.cuda.get_device_capability(gate_up.device) >= (8, 0)
    )
