"""Becomes another program that dies with its parent; run as a script, imports nothing of ours.

    python bound_exec.py PARENT_PID SIGNAL USER PROGRAM [ARGUMENT…]

SIGNAL (a number) is what the kernel sends to the program when the process PARENT_PID dies
(Linux only; elsewhere the next start clears up). USER `-` keeps the user; a name drops root for that
user and keeps the one capability to pass through folders, because Postgres refuses to run as root
and may lie under a home folder that only root can enter.
A script of its own instead of `preexec_fn`, which is unsafe in a process with threads.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _become(user: str, libc: ctypes.CDLL) -> None:
    """Drop root for `user`; keep CAP_DAC_OVERRIDE across the change and across exec."""
    import pwd  # noqa: PLC0415 - absent on some platforms, where nobody gets here

    entry = pwd.getpwnam(user)
    _check(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS")
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = 1 << _CAP_DAC_OVERRIDE
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable; then the high words
    try:
        _check(libc.capset(header, sets), "capset")
        _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0), "PR_CAP_AMBIENT")
    except OSError as error:
        # Works all the same where every folder on the way can be entered by anybody.
        sys.stderr.write(f"runs as {user} without CAP_DAC_OVERRIDE: {error}\n")


def main() -> None:
    parent, death_signal, user, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if user != "-":
            _become(user, libc)
        # After the change of user, which clears it.
        _check(libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0), "PR_SET_PDEATHSIG")
        if os.getppid() != parent:  # it died before the line above
            sys.exit(1)
    os.execvp(program, sys.argv[4:])  # noqa: S606 - that is the purpose


if __name__ == "__main__":
    main()
