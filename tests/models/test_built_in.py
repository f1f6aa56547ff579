"""The models that come with the package."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ml.models.built_in import BUILT_IN_MODELS, built_in_path, train
from ml.models.torch_file import TorchFile

DATA: dict[str, Callable[[], train.Data]] = {
    "classifier_69": train.classifier_69_data,
    "iris": train.iris_data,
}


def load(path: Path) -> nn.Module:
    return TorchFile().load(path, torch.device("cpu"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train.main(folder)
    return folder


@pytest.mark.parametrize("name", BUILT_IN_MODELS)
def test_the_committed_file_is_what_training_makes(name: str, fresh: Path) -> None:
    data = DATA[name]()
    committed, trained = load(built_in_path(name)), load(fresh / f"{name}.torch")
    x = torch.from_numpy(data.test_x).to(next(committed.parameters()).dtype)
    torch.testing.assert_close(committed(x), trained(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BUILT_IN_MODELS)
def test_the_accuracy_is_the_one_that_the_readme_states(name: str) -> None:
    readme = built_in_path(name).with_name("README.md").read_text()
    row = re.search(rf"\| `{name}` .*\| ([\d.]+) of (\d+) \|", readme)
    assert row
    data = DATA[name]()
    assert len(data.test_y) == int(row[2])
    # Within one row of it: another processor may round a borderline row to the other side.
    stated = train.accuracy(load(built_in_path(name)), data)
    assert stated == pytest.approx(float(row[1]), abs=1 / len(data.test_y))


@pytest.mark.parametrize("name", BUILT_IN_MODELS)
def test_the_file_is_small_enough_to_commit(name: str) -> None:
    assert built_in_path(name).stat().st_size < 60_000


@pytest.mark.parametrize(
    ("name", "dtype", "width", "classes"),
    [("classifier_69", torch.float64, 69, 2), ("iris", torch.float32, 4, 3)],
)
def test_answers_are_probabilities_of_the_stated_shape_and_dtype(
    name: str, dtype: torch.dtype, width: int, classes: int
) -> None:
    answer = load(built_in_path(name))(torch.ones(5, width, dtype=dtype))
    assert answer.shape == (5, classes)
    assert answer.dtype == dtype
    torch.testing.assert_close(answer.sum(dim=-1), torch.ones(5, dtype=dtype))


def test_iris_knows_the_first_flower_of_each_species() -> None:
    """Sepal length and width, petal length and width, in centimetres."""
    flowers = [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]]
    answer = load(built_in_path("iris"))(torch.tensor(flowers))
    assert answer.argmax(dim=-1).tolist() == [0, 1, 2]


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(1)
    due = torch.rand(3)
    torch.manual_seed(1)
    train.train(train.iris_data(), hidden=2, steps=1)
    assert torch.equal(torch.rand(3), due)
