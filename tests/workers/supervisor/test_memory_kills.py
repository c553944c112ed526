import pytest

from workers.supervisor.memory_kills import memory_kills


@pytest.fixture
def machine(tmp_path):
    """Writes files of a made-up machine; the arguments for `memory_kills`."""

    def machine(membership, files):
        (tmp_path / "cgroup").write_text(membership)
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "cgroup", tmp_path / "groups", tmp_path / "vmstat"

    return machine


def test_the_own_group_counts_where_there_are_groups_of_version_2(machine):
    files = {"groups/pods/one/memory.events": "low 0\nmax 9\noom 4\noom_kill 3\n", "vmstat": "oom_kill 70\n"}
    assert memory_kills(*machine("0::/pods/one\n", files)) == 3


def test_the_own_group_counts_where_there_are_groups_of_version_1(machine):
    files = {"groups/memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"}
    assert memory_kills(*machine("4:memory:/job\n0::/\n", files)) == 2


def test_in_a_container_the_own_group_is_the_root_of_what_is_seen(machine):
    assert memory_kills(*machine("0::/docker/abc\n", {"groups/memory.events": "oom_kill 5\n"})) == 5


def test_the_machine_counts_where_no_group_does(machine):
    assert memory_kills(*machine("0::/\n", {"vmstat": "pgfault 17\noom_kill 70\n"})) == 70


def test_nobody_may_count(tmp_path):
    assert memory_kills(tmp_path / "none", tmp_path / "none", tmp_path / "none") is None
