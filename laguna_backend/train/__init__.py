"""Training: a checkpoint, or an adapter of it, taught by conversations, on one process or many.

    command ─► conversations ─► packing         a file's lines as documents, documents as packs
       └─────► trainer ─► network ─► lora       steps over packs; the model as modules, an adapter's parts beside it
                  ├─────► optimizer             AdamW, or Muon for matrices
                  ├─────► saving  figures       states to go on from; the log and what is counted in it
                  └─────► world                 the processes, and the parameters sharded over them (FSDP2)
    export  evaluation                          the result as a checkpoint (`laguna merge`); its loss (`laguna eval`)

The arithmetic is `model.forward`'s, the same that generates. What is learnt stands in the very tokens that the runtime
would show and hear (`chat.said`); documents of a pack do not see each other, and positions start anew with each.

Promises: gradients are transformers' (float32, 1e-4 relative, every tensor); a run that was stopped or killed goes on
with bit-equal losses on the same machine and number of processes, within rounding on another number; a saved state is
whole or is not there; frozen weights stay as they are, bit for bit; bad data is an error with file and line, before the
first step.
"""
