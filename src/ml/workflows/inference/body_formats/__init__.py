"""Tensors as bytes, for bodies that say so by their content type: the same input as in JSON."""
