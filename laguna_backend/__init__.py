"""Laguna, poolside's sparse mixture-of-experts model, in plain PyTorch.

    backend   chat ─► worker ─► engine
      ─► model: attention moe cache weights

`config` reads a checkpoint's configuration, `weights` its tensors, `template` and `tokenizer` its way of writing.
`model.forward` is the whole forward pass; `cache` holds keys and values; `engine` turns a prompt into tokens;
`parser` turns tokens into thoughts, text and tool uses. `worker` is the one thread all of that runs on, and `backend`
is what the agent sees: a `ModelBackend` (acp_server.model).

Promises: logits equal transformers' (float32, 1e-5 relative); no text of a conversation can become a control token; a
step stops within one decode step or one prefill chunk of being cancelled; importing this package does not import torch.
"""

from .backend import LagunaBackend, open_backend

__all__ = ["LagunaBackend", "open_backend"]
