"""The shared workflow library of the Infernet inference, training and proof services."""

__version__ = "0.1.0"
