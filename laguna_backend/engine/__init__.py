"""Tokens in, tokens out, on one thread.

    request                                     what is asked and answered, and what may take part in it; no torch
    worker ─► relay                             the thread that torch runs on, and the way back from it
    engine ─► generation ─► sampler  stopping   the cache and the model; one answer: drawn, forced, held back, ended

A step can be stopped between any two chunks and any two tokens. The n-th token of a request with a seed depends on the
seed, n and the model's distribution alone. A `Constraint` masks or forces what comes next; forced tokens are run
through the model together.
"""
