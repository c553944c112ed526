"""The process tree restarts what dies, stops in order, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import psutil
import pytest

from app.embedded.bound_process import start_bound
from app.embedded.process_tree import Member, ProcessTree

_SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def tree(tmp_path):
    tree = ProcessTree(tmp_path / "processes.json")
    yield tree
    tree.stop(is_hurried=lambda: True)


def _member(name, command=_SLEEPER, layer=1, **more):
    return Member(name, layer, lambda: start_bound(command, output=subprocess.DEVNULL), **more)


def _until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    waiter = psutil.Process()
    while not condition():
        assert time.monotonic() < deadline
        try:
            waiter.wait(timeout=0.02)
        except psutil.TimeoutExpired:
            continue


def test_a_member_that_dies_is_started_again(tree, tmp_path):
    first = tree.start(_member("sleeper"))
    first.kill()
    first.wait()

    def has_successor():
        tree.check()
        pids = [pid for pid, _ in json.loads((tmp_path / "processes.json").read_text())]
        return pids != [first.pid]

    _until(has_successor)


def test_the_wait_before_a_restart_grows_with_each_quick_death(tree, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("app.embedded.process_tree.time.monotonic", lambda: now[0])
    starts = []

    def spawn():
        starts.append(now[0])
        process = start_bound(["true"], output=subprocess.DEVNULL)
        process.wait()
        return process

    tree.start(Member("dying", 1, spawn))
    for _ in range(400):
        now[0] += 0.1
        tree.check()
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[0] == pytest.approx(0.3, abs=0.11)
    assert all(earlier <= later + 0.01 for earlier, later in pairwise(gaps))
    assert max(gaps) <= 5.2


def test_higher_layers_stop_before_lower_ones(tmp_path):
    log = tmp_path / "log"
    code = (
        "import signal, sys\n"
        "def note(*_):\n    open(sys.argv[2], 'a').write(sys.argv[1] + '\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, note); open(sys.argv[2] + sys.argv[1], 'w'); signal.pause()\n"
    )
    tree = ProcessTree(tmp_path / "processes.json")
    for layer, name in ((0, "database"), (1, "api"), (2, "worker")):
        tree.start(_member(name, [sys.executable, "-c", code, name, log], layer))
    _until(lambda: all((tmp_path / f"log{name}").exists() for name in ("database", "api", "worker")))
    tree.stop()
    assert log.read_text().split() == ["worker", "api", "database"]
    assert not (tmp_path / "processes.json").exists()


def test_a_member_that_ignores_the_signal_is_killed_after_its_time(tmp_path):
    code = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); signal.pause()"
    tree = ProcessTree(tmp_path / "processes.json")
    process = tree.start(_member("deaf", [sys.executable, "-c", code, tmp_path / "up"], stop_seconds=0.2))
    _until((tmp_path / "up").exists)
    tree.stop()
    assert process.returncode == -signal.SIGKILL


def test_a_second_signal_kills_at_once_instead_of_waiting(tmp_path):
    code = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); signal.pause()"
    tree = ProcessTree(tmp_path / "processes.json")
    process = tree.start(_member("deaf", [sys.executable, "-c", code, tmp_path / "up"], stop_seconds=1000))
    _until((tmp_path / "up").exists)
    tree.stop(is_hurried=lambda: True)
    assert process.returncode == -signal.SIGKILL


def test_processes_of_a_killed_run_are_ended_and_strangers_are_left_alone(tmp_path):
    left = subprocess.Popen(_SLEEPER)
    stranger = subprocess.Popen(_SLEEPER)
    known = [
        (left.pid, psutil.Process(left.pid).create_time()),
        (stranger.pid, psutil.Process(stranger.pid).create_time() - 5),  # the number was given anew
        (2**22 - 1, 1.0),
    ]
    (tmp_path / "processes.json").write_text(json.dumps(known))
    ProcessTree(tmp_path / "processes.json").stop_leftovers()
    left.wait(timeout=10)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux only")
def test_children_die_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import subprocess, sys; from app.embedded.bound_process import start_bound\n"
        "out = subprocess.DEVNULL\n"
        f"child = start_bound({_SLEEPER!r}, output=out); print(child.pid, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as up:
        child = psutil.Process(int(up.stdout.readline()))
        up.kill()
    _until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_child_gets_no_terminal_signals_of_ours(tmp_path):
    child = start_bound(_SLEEPER, output=subprocess.DEVNULL)
    assert os.getsid(child.pid) != os.getsid(0)
    child.kill()
    child.wait()
