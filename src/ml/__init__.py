"""The shared workflow library of the Infernet inference, training and proof services."""
