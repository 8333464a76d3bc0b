"""Calls of tools that a model spelled out in its text, as Laguna does by training and others by mistake.

    call ─► coercion                            name and arguments; what a text is under a tool's schema

Shared by the embedded model, which writes no other way, and by endpoints that pass on what they did not understand.
"""
