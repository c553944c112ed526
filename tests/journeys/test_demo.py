"""`tunesmith demo` from start to end, with a tiny model in place of the downloaded one."""

import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

from app.cli.base_sources import KnownModel
from app.cli.main import main
from tests.support.tiny_models import build_tiny_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def folder(monkeypatch):
    """The data folder of the demo's service, and the tiny base where the download would put the real one."""
    root = Path(tempfile.mkdtemp(prefix="tsm-"))

    def place(self, bases_dir, console):
        if not (bases_dir / self.base_id).exists():
            build_tiny_base(bases_dir / self.base_id)

    monkeypatch.setattr(KnownModel, "place", place)
    for name in ("TUNESMITH_BASE_URL", "TUNESMITH_API_KEY", "TUNESMITH_DATABASE_URL", "TUNESMITH_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    yield root / "data"
    shutil.rmtree(root)


def test_the_demo_runs_the_main_job_and_leaves_nothing_running(folder, monkeypatch, capfd):
    before = psutil.Process().children()
    monkeypatch.setattr("sys.argv", ["tunesmith", "demo", "--data-dir", str(folder), "--epochs", "1"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capfd.readouterr().out
    assert end.value.code in {None, 0}, said
    for text in ("accuracy", "macro-F1", "expected", "== times", "The adapter is yours", "training"):
        assert text in said
    assert list((folder / "adapters").glob("ft-smollm2-135m-instruct-default-demo-*.tar"))
    assert psutil.Process().children() == before
    assert not (folder / "ready.json").exists()
