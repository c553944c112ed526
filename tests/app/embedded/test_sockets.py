"""Socket folders stay short and private."""

import shutil
import stat

from app.embedded.sockets import private_socket_folder


def test_a_short_folder_is_used_as_it_is_and_closed_to_others(tmp_path):
    preferred = tmp_path.parent / "run"
    folder = private_socket_folder(preferred)
    assert folder == preferred.resolve()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_too_deep_for_a_socket_is_mapped_to_a_short_one(tmp_path):
    folder = private_socket_folder(tmp_path / ("x" * 120))
    assert len(str(folder / ".s.PGSQL.5432")) <= 103
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    shutil.rmtree(folder)
