"""A pytest plugin for openai-python's tests: before each test, ask the seeder to restore the fixtures.

Runs inside the test process, where nothing of Tunesmith is imported; the seeder listens on a socket.
"""

import os
from multiprocessing.connection import Client

import pytest

_connection = Client(os.environ["TUNESMITH_SEEDER"])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _connection.send(item.nodeid)
    answer = _connection.recv()
    assert answer == "ok", f"the seeder failed: {answer}"
