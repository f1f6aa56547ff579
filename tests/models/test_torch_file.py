"""Loading model files: what is allowed, what is refused, and what the error says."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ml.errors import ConfigurationError
from ml.models.torch_file import TorchFile

CPU = torch.device("cpu")

USER_MODULE = """
from torch import nn

class Doubler(nn.Module):
    def forward(self, x):
        return 2 * x
"""


class Malicious:
    """Writes a marker file when it is unpickled without limits."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def save(model: Any, path: Path) -> Path:
    torch.save(model, path)
    return path


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture
def user_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file of a class that stands in a module of its own."""
    (tmp_path / "made_up_models.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import made_up_models  # type: ignore[import-not-found]

    return save(made_up_models.Doubler(), tmp_path / "model.torch")


def script(path: Path) -> Path:
    with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
        torch.jit.save(torch.jit.script(layers()), path)
    return path


def export(path: Path) -> Path:
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        layers().eval(), (torch.zeros(2, 4),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, path)
    return path


def replace_record(archive: Path, ending: str, content: bytes) -> None:
    """Write a zip archive again with other content in one of its files."""
    with zipfile.ZipFile(archive) as old:
        records = {name: old.read(name) for name in old.namelist()}
    [name] = [name for name in records if name.endswith(ending)]
    records[name] = content
    with zipfile.ZipFile(archive, "w") as new:
        for name, data in records.items():
            new.writestr(name, data)


def test_a_pickled_sequential_loads_in_evaluation_mode(tmp_path: Path) -> None:
    path = save(nn.Sequential(nn.Linear(4, 2), nn.Dropout()).train(), tmp_path / "m.torch")
    model = TorchFile().load(path, CPU)
    assert not model.training
    assert model(torch.zeros(1, 4)).shape == (1, 2)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.Flatten()),
        nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 4)),
        nn.TransformerEncoderLayer(4, 1, 8, activation="gelu"),
        nn.TransformerEncoderLayer(4, 1, 8),
        nn.ModuleDict({"a": nn.ModuleList([nn.MultiheadAttention(4, 1)])}),
        nn.Sequential(nn.ParameterList([torch.zeros(2)]), nn.Unflatten(1, (2, 2))),
    ],
    ids=["conv", "lstm", "transformer-gelu", "transformer-relu", "containers", "parameters"],
)
def test_layers_of_torch_load_without_any_option(model: nn.Module, tmp_path: Path) -> None:
    loaded = TorchFile().load(save(model, tmp_path / "m.torch"), CPU)
    assert repr(loaded) == repr(model.eval())


def test_a_malicious_pickle_does_not_run_and_the_error_names_what_it_wanted(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = save(Malicious(marker), tmp_path / "m.torch")
    with pytest.raises(ConfigurationError, match=r"posix\.system.*safe_classes.*allow_pickle"):
        TorchFile().load(path, CPU)
    assert not marker.exists()
    with pytest.raises(ConfigurationError, match="not a model"):
        TorchFile(allow_pickle=True).load(path, CPU)
    assert marker.exists(), "the file is harmless, so this test shows nothing"


def test_a_malicious_object_inside_a_good_model_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    model = layers()
    model.note = Malicious(marker)  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match=r"posix\.system"):
        TorchFile().load(save(model, tmp_path / "m.torch"), CPU)
    assert not marker.exists()


def test_a_malicious_file_of_plain_pickle_does_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "m.torch"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Malicious(marker), protocol))
        with pytest.raises(ConfigurationError, match=r"m\.torch"):
            TorchFile().load(path, CPU)
    assert not marker.exists()


def test_getattr_is_not_allowed_so_that_nothing_else_can_be_reached(tmp_path: Path) -> None:
    class Reach:
        def __reduce__(self) -> tuple[Any, ...]:
            return getattr, (nn.Module, "forward")

    with pytest.raises(ConfigurationError, match="getattr"):
        TorchFile().load(save(Reach(), tmp_path / "m.torch"), CPU)


def test_a_class_of_the_users_is_refused_by_name(user_model: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"made_up_models\.Doubler.*safe_classes"):
        TorchFile().load(user_model, CPU)


def test_safe_classes_allow_a_class_for_this_load_only(user_model: Path) -> None:
    model = TorchFile(safe_classes=("made_up_models.Doubler",)).load(user_model, CPU)
    assert model(torch.ones(1)).item() == 2
    assert type(model) not in torch.serialization.get_safe_globals()


def test_allow_pickle_loads_any_class(user_model: Path) -> None:
    model = TorchFile(allow_pickle=True).load(user_model, CPU)
    assert model(torch.ones(1)).item() == 2


def test_a_safe_class_that_does_not_exist_is_named(user_model: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"safe_classes: 'made_up_models\.Tripler'"):
        TorchFile(safe_classes=("made_up_models.Tripler",)).load(user_model, CPU)


def test_torchscript_loads_with_use_jit(tmp_path: Path) -> None:
    model = TorchFile(use_jit=True).load(script(tmp_path / "m.torch"), CPU)
    assert isinstance(model, torch.jit.ScriptModule)
    assert model(torch.zeros(1, 4)).shape == (1, 2)


def test_torchscript_without_use_jit_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set use_jit"):
        TorchFile().load(script(tmp_path / "m.torch"), CPU)


def test_use_jit_with_another_file_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not TorchScript"):
        TorchFile(use_jit=True).load(save(layers(), tmp_path / "m.torch"), CPU)


def test_an_exported_program_loads_once_it_is_trusted(tmp_path: Path) -> None:
    path = export(tmp_path / "m.pt2")
    with pytest.raises(ConfigurationError, match=r"can run code.*allow_pickle"):
        TorchFile().load(path, CPU)
    assert TorchFile(allow_pickle=True).load(path, CPU)(torch.zeros(3, 4)).shape == (3, 2)


def test_a_malicious_exported_program_does_not_run_unless_it_is_trusted(tmp_path: Path) -> None:
    path, marker = export(tmp_path / "m.pt2"), tmp_path / "marker"
    buffer = io.BytesIO()
    torch.save(Malicious(marker), buffer)
    replace_record(path, "sample_inputs/model.pt", buffer.getvalue())
    with pytest.raises(ConfigurationError, match="allow_pickle"):
        TorchFile().load(path, CPU)
    assert not marker.exists()
    with pytest.raises(ConfigurationError, match=r"archive of torch\.export"):
        TorchFile(allow_pickle=True).load(path, CPU)
    assert marker.exists(), "torch.export.load has become safe: .pt2 needs no allow_pickle then"


def test_a_state_dict_is_told_from_a_model(tmp_path: Path) -> None:
    path = save(layers().state_dict(), tmp_path / "m.torch")
    with pytest.raises(ConfigurationError, match=r"state dict.*torch\.save\(model, path\)"):
        TorchFile().load(path, CPU)


def test_another_object_is_told_by_its_type(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="type list, not a model"):
        TorchFile().load(save([1, 2], tmp_path / "m.torch"), CPU)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"PK\x03\x04 half a zip"])
@pytest.mark.parametrize("name", ["m.torch", "m.pt2"])
@pytest.mark.parametrize("use_jit", [False, True])
def test_a_damaged_file_gives_a_readable_error(
    content: bytes, name: str, use_jit: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"^{name}: ") as caught:
        TorchFile(use_jit=use_jit, allow_pickle=name.endswith("pt2")).load(path, CPU)
    assert "weights_only" not in str(caught.value)


def test_all_refused_names_are_told_at_once(tmp_path: Path) -> None:
    """Every refused name stands in the message, not only the first."""

    class Second:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, ("1",)

    path = save([Malicious(tmp_path / "marker"), Second()], tmp_path / "m.torch")
    with pytest.raises(ConfigurationError, match=r"builtins\.eval, posix\.system"):
        TorchFile().load(path, CPU)


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("mmap", [True, False])
def test_weights_stay_in_their_file_where_that_is_asked_for(mmap: bool, tmp_path: Path) -> None:
    given = layers()
    path = save(given, tmp_path / "m.torch")
    model = TorchFile(mmap=mmap).load(path, CPU)
    assert (str(path) in mapped_files()) is mmap
    assert torch.equal(model[0].weight, given[0].weight)  # type: ignore[index]


def test_a_file_of_before_torch_1_6_loads_with_mmap_too(tmp_path: Path) -> None:
    path = tmp_path / "m.torch"
    torch.save(layers(), path, _use_new_zipfile_serialization=False)
    model = TorchFile(mmap=True, allow_pickle=True).load(path, CPU)
    assert model(torch.zeros(1, 4)).shape == (1, 2)


SLOW_MODULE = """
import threading
from torch import nn

began, may_end = threading.Event(), threading.Event()

class Slow(nn.Module):
    def __setstate__(self, state):
        began.set()
        assert may_end.wait(60)
        super().__setstate__(state)
"""


def test_a_class_that_one_file_may_hold_is_refused_in_another_that_is_loaded_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_up_slow.py").write_text(SLOW_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import made_up_slow  # type: ignore[import-not-found]

    path = save(made_up_slow.Slow(), tmp_path / "model.torch")
    with ThreadPoolExecutor() as threads:
        allowed = threads.submit(TorchFile(safe_classes=("made_up_slow.Slow",)).load, path, CPU)
        assert made_up_slow.began.wait(60)
        refused = threads.submit(TorchFile().load, path, CPU)
        wait([refused], timeout=0.2)
        made_up_slow.may_end.set()
        assert isinstance(allowed.result(60), made_up_slow.Slow)
        with pytest.raises(ConfigurationError, match="uses made_up_slow"):
            refused.result(60)


@pytest.mark.parametrize("use_jit", [False, True])
def test_a_damaged_archive_is_told_by_its_name_or_loads(use_jit: bool, tmp_path: Path) -> None:
    """Python's reader of archives and torch's differ in what they take."""
    path = script(tmp_path / "m.torch") if use_jit else save(nn.Linear(4, 2), tmp_path / "m.torch")
    whole = path.read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    for place in (*range(end, len(whole)), *range(end - 200, end, 7)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(ConfigurationError):
            TorchFile(use_jit=use_jit).load(path, CPU)
