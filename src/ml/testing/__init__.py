"""Shipped stand-ins for what cannot run everywhere: tests use them, and people without a GPU."""
