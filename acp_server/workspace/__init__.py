"""A session's files and commands: what they may touch, and that they leave nothing behind.

    workspace ─► files ─► jail ─► protected     root directories; whole files; which file is meant, decided by the file
      └► encoding  overlay_v1                   bytes and text; what the editor has open and not saved
    process ─► output  supervisor               a command, its output, and the program that ends all it started

No path is trusted by its name, no file is half written, and no command outlives the turn that ran it, or in the
background its session. Most of it blocks: call it in a thread.
"""
