"""A service on one machine refuses a taken port by name, and has a supervisor for each GPU."""

import socket

import pytest

from app.embedded.data_folder import DataFolder
from app.embedded.errors import EmbeddedError
from app.embedded.one_machine import OneMachine, _gpus


def test_a_taken_port_is_named_before_anything_starts(tmp_path):
    folder = DataFolder(tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        machine = OneMachine(folder, host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(EmbeddedError, match="--port"):
            machine.start(print, is_stopping=lambda: False)
    machine.stop(is_hurried=lambda: False)
    assert not folder.postgres.exists()
    DataFolder(tmp_path / "data").lock()


@pytest.mark.parametrize(
    ("visible", "expected"), [("0,1", ["0", "1"]), ("GPU-a", ["GPU-a"]), ("", [None]), ("-1", [None])]
)
def test_each_visible_gpu_has_its_own_supervisor_and_a_cpu_machine_has_one(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _gpus() == expected


def test_all_interfaces_are_reached_by_loopback(tmp_path):
    machine = OneMachine(DataFolder(tmp_path), host="0.0.0.0", port=8080)  # noqa: S104 - never started
    assert machine.base_url == "http://127.0.0.1:8080"
