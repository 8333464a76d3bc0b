"""Judging a client: the checker is the agent that the client starts, byte for byte."""
