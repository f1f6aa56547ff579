"""Makes the built-in models: `python -m ml.models.built_in.train [folder]`.

Both train in double precision from fixed seeds, so that another machine gets the same models but
for rounding. README.md beside this file describes the data and states the accuracy.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ml.models.built_in import built_in_path

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Data", "accuracy", "classifier_69_data", "iris_data", "main", "train"]

_SEED = 69

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Rows to learn from and rows that are held out: float64 `(n, width)` and int64 `(n,)`."""

    train_x: Floats
    train_y: Labels
    test_x: Floats
    test_y: Labels


def classifier_69_data() -> Data:
    """Return 69 made-up features of two classes: each class is four overlapping clouds.

    A cloud and its mirror image are of one class, so no straight line parts the classes. The
    features have different scales and centres. 4000 rows to learn from, 2000 held out.
    """
    generator = np.random.default_rng(_SEED)
    halves = generator.normal(scale=0.55, size=(4, 69))
    centres = np.concatenate((halves, -halves))
    clouds = generator.integers(8, size=6000)
    rows = centres[clouds] + generator.normal(size=(6000, 69))
    scales = generator.uniform(0.2, 1.0, size=69)
    shifts = generator.normal(scale=0.3, size=69)
    return _split(rows * scales + shifts, clouds % 2, test_rows=2000)


def iris_data() -> Data:
    """Return the iris flowers of scikit-learn, shuffled: 105 to learn from, 45 held out."""
    from sklearn.datasets import load_iris  # type: ignore[import-untyped]

    rows, labels = load_iris(return_X_y=True)
    order = np.random.default_rng(_SEED).permutation(len(rows))
    return _split(rows[order], labels[order].astype(np.int64), test_rows=45)


def train(data: Data, *, hidden: int, steps: int) -> nn.Sequential:
    """Return a classifier that takes rows as they are and answers class probabilities, double."""
    import torch
    from torch import nn

    mean, scale = data.train_x.mean(axis=0), data.train_x.std(axis=0)
    x = torch.from_numpy((data.train_x - mean) / scale)
    y = torch.from_numpy(data.train_y)
    classes = int(data.train_y.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        first = nn.Linear(x.shape[1], hidden, dtype=torch.float64)
        layers = nn.Sequential(first, nn.ReLU(), nn.Linear(hidden, classes, dtype=torch.float64))
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(layers(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _absorb_scaling(first, torch.from_numpy(mean), torch.from_numpy(scale))
    return nn.Sequential(*layers, nn.Softmax(dim=-1)).eval().requires_grad_(requires_grad=False)


def accuracy(model: nn.Module, data: Data) -> float:
    """Return the share of held-out rows that a model puts into their class."""
    import torch

    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        found = model(torch.from_numpy(data.test_x).to(dtype)).argmax(dim=-1).numpy()
    return float((found == data.test_y).mean())


def main(folder: Path | None = None) -> None:
    """Train both models, write them, and say how good they are."""
    import torch

    classifier = train(classifier_69_data(), hidden=64, steps=100)
    iris = train(iris_data(), hidden=16, steps=200).float()
    for name, model, data in (
        ("classifier_69", classifier, classifier_69_data()),
        ("iris", iris, iris_data()),
    ):
        path = folder / f"{name}.torch" if folder else built_in_path(name)
        torch.save(model, path)
        sys.stdout.write(f"{path.name}: accuracy {accuracy(model, data):.3f} on held-out rows\n")


def _split(rows: Floats, labels: Labels, *, test_rows: int) -> Data:
    return Data(rows[test_rows:], labels[test_rows:], rows[:test_rows], labels[:test_rows])


def _absorb_scaling(layer: Any, mean: Any, scale: Any) -> None:
    """Let a linear layer take raw features: `W((x - mean) / scale) + b`."""
    layer.weight.data /= scale
    layer.bias.data -= layer.weight.data @ mean


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m ml.models.built_in.train")
    parser.add_argument("folder", type=Path, nargs="?", help="instead of the package's own")
    main(parser.parse_args().folder)
