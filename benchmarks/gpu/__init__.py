"""Checks and measurements on one GPU, see benchmarks/gpu.sh."""
