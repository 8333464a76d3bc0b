"""The network itself: a configuration, weights as plain tensors, and one forward pass.

    config                                      the shape, from any spelling of `config.json`; no torch
    forward ─► attention  moe ─► linear         the forward pass, top to bottom; matrices as they lie in memory
      ├► rope                                   positions
      └► cache                                  keys and values, full and sliding, in bf16 or FP8
    device                                      where it runs and in which number format

It knows tensors, neither files nor words.
"""
