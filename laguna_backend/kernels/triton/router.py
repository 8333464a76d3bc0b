# type: ignore - Triton's own language, which no type checker knows
"""Which experts see a row, and with what weight, in one launch. `model.moe.route` is the plain twin, of one product
more: the logits are given."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def scored(logit, softcap, SIGMOID: tl.constexpr, CAPPED: tl.constexpr):
    x = logit.to(tl.float32)
    if CAPPED:
        x = softcap * (2.0 / (1.0 + tl.exp(-2.0 * (x / softcap))) - 1.0)  # tanh
    if SIGMOID:
        return 1.0 / (1.0 + tl.exp(-x))
    else:  # noqa: RET505, Triton compiles what comes after a return too
        return tl.sqrt(tl.where(x > 20.0, x, tl.log(1.0 + tl.exp(tl.minimum(x, 20.0)))))


@triton.jit
def choose_kernel(
    logits, bias, weights, chosen, E, softcap, TOP: tl.constexpr, PLACES: tl.constexpr, BLOCK: tl.constexpr,
    SIGMOID: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    e, place = tl.arange(0, BLOCK), tl.arange(0, PLACES)
    score = scored(tl.load(logits + row * E + e, mask=e < E, other=0.0), softcap, SIGMOID, CAPPED)
    rank = tl.where(e < E, score + tl.load(bias + e, mask=e < E, other=0.0).to(tl.float32), float("-inf"))
    who = tl.zeros([PLACES], tl.int32)
    for index in range(TOP):
        best = tl.minimum(tl.argmax(rank, axis=0), E - 1)  # whatever the numbers are, an expert that there is
        who = tl.where(place == index, best, who)
        rank = tl.where(e == best, float("-inf"), rank)
    there = place < TOP
    score = scored(tl.load(logits + row * E + who, mask=there, other=0.0), softcap, SIGMOID, CAPPED)
    weight = score / tl.sum(tl.where(there, score, 0.0))
    tl.store(weights + row * TOP + place, weight.to(weights.dtype.element_ty), mask=there)
    tl.store(chosen + row * TOP + place, who, mask=there)


def choose(logits: Tensor, bias: Tensor, top_k: int, score: str, softcap: float) -> tuple[Tensor, Tensor]:
    """Weights [T, top_k] in the dtype of the logits [T, E], and experts [T, top_k] in int32."""
    rows, experts = logits.shape
    weights = logits.new_empty(rows, top_k)
    chosen = torch.empty(rows, top_k, dtype=torch.int32, device=logits.device)
    sizes = triton.next_power_of_2(top_k), triton.next_power_of_2(experts)
    # One warp: what it looks for goes from lane to lane, and never through memory.
    choose_kernel[(rows,)](
        logits, bias, weights, chosen, experts, softcap, top_k, *sizes, score == "sigmoid", softcap > 0, num_warps=1
    )
    return weights, chosen
