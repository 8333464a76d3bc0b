"""Judging an agent: the checker is its client, in one fresh conversation for each check."""
