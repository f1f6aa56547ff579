"""A model of eight layers of 1024, whose batches cost little more than single runs."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import nn

__all__ = ["save_heavy_model"]


def save_heavy_model(file: Path) -> None:
    """Write it as `torch.save` does; it takes 69 values and returns 2."""
    torch.manual_seed(0)
    widths = [69, *[1024] * 8]
    layers: list[nn.Module] = []
    for width, next_width in itertools.pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    torch.save(nn.Sequential(*layers, nn.Linear(1024, 2)), file)
