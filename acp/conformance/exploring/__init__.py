"""Conversations and lines that nobody wrote, drawn from the schema or made from good ones."""
