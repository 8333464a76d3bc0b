"""Tokens in, tokens out: many requests on one model, on one thread.

    request                                     what is asked and answered, and what may take part in it; no torch
    worker ─► relay                             the thread that torch runs on, and the way back from it
    engine ─► generation ─► sampler  stopping   whose turn it is; one answer: drawn, forced, held back, ended
      ├► past                                   what was computed before, and which of it a prompt begins with
      └► guess ─► ngrams                        what may come next, as it came before, and whether to try pays

What it promises. A request gets the tokens that it would get alone: with float32 logits within 1e-5, and a seed's n-th
draw depends on seed and n alone. A prompt is cut at multiples of the chunk, at its marks and at its end, whatever else
runs, so reading it again, from a snapshot or from nothing, gives the same bits; of tokens that were generated the bits
are those of the passes that they came in, alone, beside others' or several at a time. Guesses are run for who has the
model to himself; they change when tokens come and never which. By the usual cost of a pass they may lose one pass and
2 % of the time after it, which the clock of a real model has not confirmed yet. A request that is cancelled ends within
a layer of a chunk or a token; one that fails, or finds no memory, harms no other, and what it computed can still be
gone on with. All that queues is bounded, and says so (`Limits`, `Busy`, `CacheFull`).

What it does not do: read, while a tool runs, what the template will write before the result. Those are a few tokens, so
one pass is cut in two for a gain of 1 % at best, and other cuts give other bits than reading the whole from nothing.
"""
