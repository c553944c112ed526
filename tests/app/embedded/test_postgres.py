"""The embedded Postgres starts, stops, and recovers from a run that was killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest

from app.embedded.errors import EmbeddedError
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.sockets import private_socket_folder


@pytest.fixture
def folder():
    """Short, so that sockets fit; outside of pytest's long temp folders."""
    path = Path(tempfile.mkdtemp(prefix="tsm-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def postgres(folder):
    return EmbeddedPostgres(
        folder / "postgres", private_socket_folder(folder / "run"), log_file=folder / "log", durable=False
    )


def test_it_keeps_its_data_between_two_starts(postgres):
    postgres.prepare()
    process = postgres.spawn()
    postgres.wait_ready(process)
    postgres.create_database()
    postgres.create_database()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    postgres.stop(process)
    assert process.returncode == 0

    postgres.prepare()
    process = postgres.spawn()
    postgres.wait_ready(process)
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    postgres.stop(process)


def test_it_listens_on_no_network_interface(postgres):
    postgres.prepare()
    process = postgres.spawn()
    postgres.wait_ready(process)
    kinds = {c.family.name for c in psutil.Process(process.pid).net_connections(kind="all")}
    postgres.stop(process)
    assert kinds <= {"AF_UNIX"}


def test_a_lock_that_names_a_foreign_process_is_removed(postgres, folder):
    postgres.prepare()
    (folder / "postgres" / "postmaster.pid").write_text(f"{os.getppid()}\n{folder / 'postgres'}\n")
    (folder / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getppid()}\n")
    postgres.prepare()
    process = postgres.spawn()
    postgres.wait_ready(process)
    postgres.stop(process)


def test_a_server_left_by_a_killed_run_is_stopped_before_the_next_start(postgres):
    postgres.prepare()
    left = postgres.spawn()
    postgres.wait_ready(left)

    postgres.prepare()

    assert left.wait(timeout=20) == 0


def test_a_server_killed_outright_comes_back_with_its_committed_data(postgres):
    postgres.prepare()
    process = postgres.spawn()
    postgres.wait_ready(process)
    postgres.create_database()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    process.kill()
    process.wait()

    postgres.prepare()
    process = postgres.spawn()
    postgres.wait_ready(process)
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    postgres.stop(process)


def test_a_half_made_cluster_is_cleared_and_made_anew(postgres, folder):
    (folder / ".initdb-left").mkdir()
    (folder / ".initdb-left" / "PG_VERSION").write_text("18")
    postgres.prepare()
    assert not (folder / ".initdb-left").exists()
    assert (folder / "postgres" / "PG_VERSION").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux only")
def test_it_dies_with_the_process_that_started_it(folder):
    code = (
        "import sys; from pathlib import Path; from app.embedded.postgres import EmbeddedPostgres\n"
        "folder = Path(sys.argv[1]); (folder / 'run').mkdir()\n"
        "p = EmbeddedPostgres(folder / 'postgres', folder / 'run', log_file=folder / 'log', durable=False)\n"
        "p.prepare(); process = p.spawn(); p.wait_ready(process); print(process.pid, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        server = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)
        gone_or_zombie = _wait_dead(server)
    assert gone_or_zombie


def _wait_dead(process, seconds=20):
    """True once it has ended; an orphan may stay a zombie where process 1 does not reap."""
    try:
        process.wait(timeout=0)
    except psutil.TimeoutExpired:
        pass
    except psutil.NoSuchProcess:
        return True
    for _ in range(int(seconds / 0.02)):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            process.wait(timeout=0.02)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            continue
        else:
            return True
    return False


def test_a_cluster_that_cannot_start_says_where_its_log_lies(postgres, folder):
    postgres.prepare()
    (folder / "postgres" / "PG_VERSION").write_text("9.6\n")
    process = postgres.spawn()
    with pytest.raises(EmbeddedError, match="log"):
        postgres.wait_ready(process)
