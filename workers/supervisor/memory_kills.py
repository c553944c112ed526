"""How often the kernel has killed for want of memory: tells an engine that ran out of it from one that was shot."""

from pathlib import Path

_COUNTERS = (("memory", "memory.oom_control"), ("", "memory.events"))  # control groups of version 1 and 2


def memory_kills(
    membership: Path = Path("/proc/self/cgroup"),
    groups: Path = Path("/sys/fs/cgroup"),
    machine: Path = Path("/proc/vmstat"),
) -> int | None:
    """Kills in this process's control group, else on the whole machine; None where nobody counts them.

    Sources: Linux, Documentation/admin-guide/cgroup-v2.rst (memory.events) and cgroup-v1/memory.rst (oom_control).
    """
    for file in (*_files(membership, groups), machine):
        try:
            lines = [line.split() for line in file.read_text().splitlines()]
        except OSError:
            continue
        counts = [int(words[1]) for words in lines if len(words) == 2 and words[0] == "oom_kill"]
        if counts:
            return counts[0]
    return None


def _files(membership: Path, groups: Path) -> list[Path]:
    """Where this process's group may count; in a container its own group is the root of what can be seen."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller, name in _COUNTERS:
            if controller in controllers.split(","):
                found += [groups / controller / path.lstrip("/") / name, groups / controller / name]
    return found
