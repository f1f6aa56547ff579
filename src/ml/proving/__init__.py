"""Proofs of what a model answered, by ezkl: artifacts, the process that proves, its failures."""
