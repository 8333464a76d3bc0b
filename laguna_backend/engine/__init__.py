"""Tokens in, tokens out, on one thread.

    worker ─► relay                             the thread that torch runs on, and the way back from it
    engine ─► sampler                           prefill in chunks, then a token at a time; the next token from logits

A step can be stopped between any two chunks and any two tokens.
"""
