"""The network itself: a configuration, weights as plain tensors, and one forward pass.

    config                                      the shape, from any spelling of `config.json`; no torch
    parameters ─► linear                        the weights; matrices as they lie in memory, packed ones too
    forward ─► layer ─► attention  moe          the forward pass, top to bottom, in torch
      ├► compiled ─► kernels                    the same by our own kernels, on a CPU
      ├► captured ─► kernels/triton             one token on CUDA, as a graph
      ├► rope                                   positions
      └► batch ─► cache                         several sequences at once; keys and values, in bf16 or FP8
    device                                      where it runs and in which number format

It knows tensors, neither files nor words.
"""
