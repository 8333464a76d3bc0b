"""The network itself: a configuration, weights as plain tensors, and one forward pass.

    config                                      the shape, from any spelling of `config.json`; no torch
    parameters ─► linear ─► narrow              the weights; matrices as they lie in memory, packed ones too, for a CPU
                                                and for an accelerator
    forward ─► layer ─► attention  moe          the forward pass, top to bottom, in torch
      ├► compiled ─► kernels                    the same by our own kernels, on a CPU
      ├► captured ─► kernels/triton             one token on CUDA, as a graph
      ├► rope                                   positions
      └► batch ─► cache                         several sequences at once; keys and values, in bf16 or FP8
    device                                      where it runs and in which number format

It knows tensors, neither files nor words.

It is measured on CPUs. On MPS it runs plain torch, with operators that MPS has (`tests/laguna_backend`), and no such
device has run or timed it.

What an FP8 cache costs, as `laguna fidelity nano` tells it, is a matter of few positions. Half of them lose less than
1e-7 nats. Two thirds of the mean, and all that lose more than half a nat, come from routers: where the second and the
third expert are nearly even, the least change of what came before picks the other one (of 8,218 choices 60 changed,
whichever layers were rounded; with the choices of the bfloat16 cache kept, the worst position fell from 3.6 to 0.35
nats). The rest, 2.8e-3 nats in the sliding layers, is in their keys (2.1e-3; values 0.5e-3), by which nano copies what
it was told. It is no matter of scales: e4m3 has three bits of mantissa at any scale, and a scale for each part, token
and head already leaves nothing too large or too small; one more bit makes it 0.7e-3.
"""
