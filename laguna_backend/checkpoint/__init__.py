"""Checkpoints on disk: every released format read straight into place, and written again.

    configuration                               `config.json`, or what stands in its place
    weights ─► source ─► shards                 tensors under their released names, unpacked by `formats`
    adapter                                     what LoRA adds to a checkpoint: files, merging, attaching
    kept ─► weights                             packed weights, kept on disk for the next time
    gguf_file  gguf_writer                      llama.cpp's files
    hub                                         checkpoints of the Hugging Face hub, by name
    memory ─► free                              what a model takes in each precision, and what of it fits

Every parameter is assigned and every tensor consumed, or it is an error by name.
"""
