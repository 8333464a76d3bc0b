"""Laguna, poolside's sparse mixture-of-experts model, in plain PyTorch.

    backend ─► worker ─► speaker ─► chat: template sandbox guard tokenizer
               (relay)          ├─► engine: model cache sampler
                                └─► parser: toolcall coercion

`backend` is what the agent sees: a `ModelBackend` (acp_server.model). `worker` is the one thread that all else runs on,
and `relay` the way back from it. `loading` makes a checkpoint directory into a `speaker`: `config` reads its
configuration, `weights` its tensors (from the `shards` that `source` finds, unpacked by `formats`), `template` and
`tokenizer` its way of writing. `chat` turns a conversation into tokens, and `guard` sees to it that no text in it
forges one; `engine` turns those into more tokens, by `model.forward`, which is the whole forward pass; `parser` turns
tokens into thoughts, text and tool uses.

`inspection` tells what a checkpoint needs before it is loaded, `memory` what this machine has, and `bench` how fast
it goes beside others.

Promises: logits equal transformers' (float32, 1e-5 relative); no text of a conversation can become a control token; a
step stops within one decode step or one prefill chunk of being cancelled; importing this package does not import torch.
"""

from .backend import LagunaBackend, open_backend

__all__ = ["LagunaBackend", "open_backend"]
