"""The tests of openai-python: from its source distribution, checked by hash, without its sources."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "3.54.0"
SHA256 = "2e393e63f8a38be6452806f9ef0b6534fecd6d41ab3b2165180dfce3599249cd"


class SuiteError(Exception):
    """The suite cannot be run; the message says what to do."""


def cache_folder() -> Path:
    """TUNESMITH_TEST_CACHE, or `tunesmith` in the user's cache."""
    given = os.environ.get("TUNESMITH_TEST_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tunesmith"


def unpack_tests(target: Path) -> Path:
    """The unpacked distribution below `target`, without `src/`, so that the installed wheel is what is tested."""
    with tarfile.open(_archive()) as tar:
        tar.extractall(target, filter="data")
    root = target / f"openai-{VERSION}"
    shutil.rmtree(root / "src")
    return root


def _archive() -> Path:
    kept = cache_folder() / f"openai-{VERSION}.tar.gz"
    if kept.exists() and _sha256(kept) == SHA256:
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        fetched = _download(Path(folder))
        found = _sha256(fetched)
        if found != SHA256:
            raise SuiteError(f"openai {VERSION}'s source distribution has the SHA-256 {found}, expected {SHA256}.")
        fetched.replace(kept)
    return kept


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    answer = subprocess.run([*command, "--dest", str(folder), f"openai=={VERSION}"], check=False)
    found = list(folder.glob("openai-*.tar.gz"))
    if answer.returncode != 0 or len(found) != 1:
        raise SuiteError(
            f"pip could not download openai {VERSION}'s source distribution. Without a network, put "
            f"openai-{VERSION}.tar.gz into {cache_folder()}."
        )
    return found[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
