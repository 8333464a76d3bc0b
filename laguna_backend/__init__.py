"""Laguna, poolside's sparse mixture-of-experts model, in plain PyTorch.

    backend ─► engine/worker ─► speaker ─► chat/ encoding      a conversation as token ids
                                  ├──────► engine/ ─► model/   more ids: the whole forward pass
                                  └──────► chat/ parser        ids as thoughts, text and tool uses
    loading ─► checkpoint/ ─► formats/                         a directory made into a speaker
    serve/ ─► backend                                          the same for programs that speak OpenAI's /v1

`backend` is what the agent sees: a `ModelBackend` (acp_server.model). `engine.worker` is the one thread that all else
runs on. `loading` makes a checkpoint directory into a `speaker`, which takes a conversation in and gives parts out.
Each package has a chapter of its own. `inspection` tells what a checkpoint needs before it is loaded, `bench` how fast
it goes beside others, `train` teaches one, and `nano` is the small Laguna that ships here and all that made it.

Promises: logits equal transformers' (float32, 1e-5 relative); no text of a conversation can become a control token; a
step stops within one decode step or one prefill chunk of being cancelled; importing this package does not import torch.
"""

from .backend import LagunaBackend, open_backend

__all__ = ["LagunaBackend", "open_backend"]
