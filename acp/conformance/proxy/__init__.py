"""Judging a proxy: the checker is the conductor that it runs under, and with it both its client and its agent."""
