"""Figures of the graph models: quality, peers, follows, media."""
