"""Checks of agents and clients against the protocol, and the means to make them.

It knows the protocol from `spec/` alone, neither from the generated models nor from the dialects, so that it is a
second opinion on both.
"""
