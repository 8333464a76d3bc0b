"""Laguna's inner loops in C++, compiled once for the processor at hand, each beside a plain twin in torch.

    build                                       sources to a shared library in the user's cache, once
    native                                      the library's functions and structs, as Python calls them
    cpp/                                        product, feed-forward with experts, attention; lanes.h is the processor,
                                                tile.h many rows of input at a time
    triton/                                     those of a CUDA device, a chapter of its own

Torch decides a product's speed by calls and by kernels made for many rows. One new token is another matter: each weight
is read once, so what counts is how well memory is read and how little is done between. A layer is four calls here.

`library()` is None where there is no compiler; everything then runs in torch, more slowly, with the same results within
rounding. `LAGUNA_KERNELS=off` says so by hand.
"""

from .build import library

__all__ = ["library"]
