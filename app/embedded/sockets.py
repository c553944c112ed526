"""A private folder for unix sockets whose paths stay under the kernel's limit."""

import tempfile
from pathlib import Path

# sun_path holds 108 bytes with the closing zero on Linux and 104 on macOS; `.s.PGSQL.5432` is the longest name.
_LONGEST_FOLDER_BYTES = 103 - len("/.s.PGSQL.5432")


def private_socket_folder(preferred: Path) -> Path:
    """`preferred` (made, mode 0700) if sockets fit below it, else a fresh folder below the system's temp folder.

    The path returned has no symlinks. A fresh folder is the caller's to remove.
    """
    resolved = preferred.resolve()
    if len(bytes(resolved)) <= _LONGEST_FOLDER_BYTES:
        resolved.mkdir(mode=0o700, parents=True, exist_ok=True)
        resolved.chmod(0o700)
        return resolved
    return Path(tempfile.mkdtemp(prefix="tunesmith-")).resolve()
