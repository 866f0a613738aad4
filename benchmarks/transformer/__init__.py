"""Figures of the transformer: quality, media, peers, the demo."""
