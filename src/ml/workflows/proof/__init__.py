"""Workflows that prove their answers."""
