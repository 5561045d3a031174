"""Syncs that read only the blocks which the source's WAL summaries name."""
