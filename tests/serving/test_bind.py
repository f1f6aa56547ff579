"""The addresses of `serve --bind`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ml.serving.bind import Address, parse_address
from ml.serving.command import main


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:25000", Address("127.0.0.1", 25000)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:3000", Address("::1", 3000)),
        ("::1:3000", Address("::1", 3000)),
        (":3000", Address("", 3000)),
        ("unix:/run/service.sock", Address(path="/run/service.sock")),
    ],
)
def test_an_address_is_read_as_it_is_written(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "25000",
        "localhost",
        "host:abc",
        "host:",
        "host:-1",
        "host:65536",
        "host:99999",
        "host:3 000",
        "host:٣٠٠٠",
        "host:0x10",
        "",
        ":",
        "unix:",
        "http://127.0.0.1:3000",
        "127.0.0.1:3000/",
        "[::1:3000",
        "::1]:3000",
    ],
)
def test_what_is_no_address_is_told_in_one_sentence_and_code_2(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["classic_ml_inference_service", f"--bind={text}"])
    assert caught.value.code == 2
    assert "write host:port" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["abc", "70000", "-1"])
def test_a_port_of_the_environment_that_is_none_is_told_with_code_2(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", port)
    assert main(["classic_ml_inference_service"]) == 2
    assert "PORT" in capsys.readouterr().err


def test_a_socket_file_of_an_earlier_run_is_replaced_and_another_file_is_not(
    tmp_path: Path,
) -> None:
    address = Address(path=str(tmp_path / "socket"))
    address.open(shared=False).close()
    address.open(shared=False).close()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="in use"):
        Address(path=str(tmp_path / "file")).open(shared=False)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_port_is_bound_once_unless_it_is_shared(host: str) -> None:
    with Address(host, 0).open(shared=True) as first:
        first.listen()
        address = Address(host, first.getsockname()[1])
        address.open(shared=True).close()
        with pytest.raises(OSError, match="in use"):
            address.open(shared=False)
        assert first.family is (socket.AF_INET6 if ":" in host else socket.AF_INET)
