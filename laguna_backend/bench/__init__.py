"""`laguna bench`: how fast a slice of the real width goes, and peers beside it on the same weights."""
