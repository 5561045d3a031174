"""Statements of other sessions, stepped against syncs: after each sync the target is the source as of one snapshot."""
