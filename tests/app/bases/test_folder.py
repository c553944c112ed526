"""A base model's folder: data only, whole, and nothing in it that names code."""

import importlib
import json
import os
import pickle
import zipfile

import pytest
from transformers import CONFIG_MAPPING

from app.bases.folder import read_folder
from app.bases.kinds import KIND_OF
from app.errors import InvalidInput
from tests.support.base_folders import CONFIGS, write_base_folder
from tests.support.tiny_models import build_tiny_base


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    return folder, build_tiny_base(folder)


@pytest.fixture
def folder(built, tmp_path):
    copy = tmp_path / "tiny"
    copy.mkdir()
    for path in built[0].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def edit(folder, name, **changes):
    path = folder / name
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**value, **changes}))


def test_a_sound_folder_is_described_as_the_contracts_say(built):
    found = read_folder(built[0])
    assert found.weights_sha256 == built[1].weights_sha256
    assert found.context_length == built[1].context_length
    assert (found.architecture, found.kind) == ("llama", "decoder")
    assert found.has_chat_template
    assert 10_000 < found.parameters < 100_000
    assert set(found.files) == {path.name for path in built[0].iterdir()}


def test_papers_beside_the_model_change_nothing(folder):
    before = read_folder(folder)
    (folder / "README.md").write_text("about this model")
    (folder / "LICENSE").write_text("Apache-2.0")
    assert read_folder(folder) == before


def test_one_flipped_bit_is_another_model(folder):
    before = read_folder(folder).weights_sha256
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert read_folder(folder).weights_sha256 != before


@pytest.mark.parametrize(
    "key",
    [
        "auto_map",
        "trust_remote_code",
        "_attn_implementation_internal",
        "_attn_implementation",
        "code_revision",
        "custom_pipelines",
    ],
)
@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"]
)
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_key_that_names_code_is_refused_at_any_depth_of_any_settings_file(folder, key, name, is_nested):
    edit(folder, name, **({"rope_parameters": {"x": [{key: "evil.Model"}]}} if is_nested else {key: "evil.Model"}))
    with pytest.raises(InvalidInput, match=f"'{name}'.*'{key}'"):
        read_folder(folder)


def test_a_word_of_the_vocabulary_may_be_called_anything(folder):
    (folder / "added_tokens.json").write_text('{"auto_map": 5}')
    read_folder(folder)


def test_a_config_key_that_is_not_on_the_list_is_refused(folder):
    edit(folder, "config.json", quantization_config={"quant_method": "evil"}, zzz=1)
    with pytest.raises(InvalidInput, match="'quantization_config', 'zzz'"):
        read_folder(folder)


@pytest.mark.parametrize("kind", ["lightglue", "mixtral", None, ["llama"], {}])
def test_an_architecture_that_is_not_on_the_list_is_refused(folder, kind):
    edit(folder, "config.json", model_type=kind)
    with pytest.raises(InvalidInput, match="model_type"):
        read_folder(folder)


@pytest.mark.parametrize("length", [0, -1, True, "512", 2**40, None])
def test_a_context_length_that_cannot_be_is_refused(folder, length):
    edit(folder, "config.json", max_position_embeddings=length)
    with pytest.raises(InvalidInput, match="max_position_embeddings"):
        read_folder(folder)


class Evil:
    def __reduce__(self):
        return (os.system, ("touch /nonexistent/marker",))


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "modeling_evil.py",
        "model.pkl",
        "adapter_model.bin",
        "model.gguf",
        ".hidden",
        "tokenizer.model",
        "evil.safetensors",
        "Model.safetensors",
    ],
)
def test_a_file_of_another_name_is_refused(folder, name):
    (folder / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InvalidInput, match=name.replace(".", r"\.")):
        read_folder(folder)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja", "merges.txt"]
)
def test_a_pickle_or_archive_under_an_allowed_name_is_refused_by_its_content(folder, name):
    (folder / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InvalidInput, match=name.replace(".", r"\.")):
        read_folder(folder)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Evil()))
    with pytest.raises(InvalidInput, match=name.replace(".", r"\.")):
        read_folder(folder)


def test_links_and_folders_are_refused(folder, tmp_path):
    (folder / "merges.txt").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="ordinary file"):
        read_folder(folder)
    (folder / "merges.txt").unlink()
    (folder / "merges.txt").mkdir()
    with pytest.raises(InvalidInput, match="ordinary file"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InvalidInput, match=name.replace(".", r"\.")):
        read_folder(folder)


def test_weights_in_several_files_need_an_index_that_names_them_all(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    for number in (1, 2):
        (folder / f"model-0000{number}-of-00002.safetensors").write_bytes(whole)
    with pytest.raises(InvalidInput, match="index"):
        read_folder(folder)
    edit(folder, "model.safetensors.index.json", weight_map={"a": "model-00001-of-00002.safetensors"})
    with pytest.raises(InvalidInput, match="index"):
        read_folder(folder)
    edit(folder, "model.safetensors.index.json", weight_map={n: f"model-0000{n}-of-00002.safetensors" for n in "12"})
    read_folder(folder)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_encoders_and_encoder_decoders_are_told_apart_with_what_they_read(tmp_path, architecture):
    found = read_folder(write_base_folder(tmp_path / "base", architecture))
    seq2seq = {"t5", "bart", "mbart", "marian", "pegasus"}
    assert found.kind == ("encoder_decoder" if architecture in seq2seq else "encoder")
    assert (found.context_length, found.parameters, found.has_chat_template) == (512, 4, False)


def test_every_architecture_keeps_rows_apart_in_the_engine_s_attention():
    """Whoever computes attention without transformers' interface would let packed rows see each other."""
    for architecture in KIND_OF:
        module = CONFIG_MAPPING[architecture].__module__.replace("configuration_", "modeling_")
        assert "ALL_ATTENTION_FUNCTIONS" in vars(importlib.import_module(module)), architecture


@pytest.mark.parametrize("architecture", ["mpnet", "deberta-v2"])
def test_an_encoder_that_the_engine_cannot_pack_is_refused(tmp_path, architecture):
    folder = write_base_folder(tmp_path / "base", "bert", model_type=architecture)
    with pytest.raises(InvalidInput, match="model_type this server does not train"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("architecture", "changes", "words"),
    [
        ("bert", {"is_decoder": True}, "decoder of an encoder"),
        ("bert", {"add_cross_attention": True}, "decoder of an encoder"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("modernbert", {"global_attn_every_n_layers": 3}, "sliding window"),
        ("modernbert", {"global_attn_every_n_layers": None}, "sliding window"),
        ("modernbert", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding window"),
        ("t5", {"n_positions": 0}, "n_positions"),
        ("roberta", {"max_position_embeddings": 2}, "pad_token_id"),
        ("bart", {"max_position_embeddings": None}, "max_position_embeddings"),
    ],
)
def test_what_the_engine_would_compute_wrongly_is_refused(tmp_path, architecture, changes, words):
    with pytest.raises(InvalidInput, match=words):
        read_folder(write_base_folder(tmp_path / "base", architecture, **changes))


@pytest.mark.parametrize(
    "changes", [{"layer_types": ["full_attention"] * 3}, {"global_attn_every_n_layers": 3, "local_attention": 1024}]
)
def test_modernbert_whose_layers_all_see_the_whole_row_is_taken(tmp_path, changes):
    assert read_folder(write_base_folder(tmp_path / "base", "modernbert", **changes)).kind == "encoder"


def test_t5_without_a_limit_reads_what_it_was_trained_on(tmp_path):
    assert read_folder(write_base_folder(tmp_path / "base", "t5", n_positions=None)).context_length == 512


@pytest.fixture
def sentence_encoder(tmp_path):
    folder = write_base_folder(tmp_path / "base", "bert")
    (folder / "config_sentence_transformers.json").write_text('{"__version__": {"pytorch": "1.8.1"}}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 4, "pooling_mode_mean_tokens": true}'
    )
    return folder


def test_a_sentence_encoder_is_taken_with_its_pooling(sentence_encoder):
    found = read_folder(sentence_encoder)
    assert "1_Pooling/config.json" in found.files
    before = found.weights_sha256
    (sentence_encoder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert read_folder(sentence_encoder).weights_sha256 != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("1_Pooling/config.json", '{"pooling_mode": "evil.Pooling"}'),
        ("1_Pooling/config.json", '{"pooling_mode": {"deep": true}}'),
        ("1_Pooling/config.json", "[]"),
        ("modules.json", '[{"type": "evil.Module"}]'),
        ("modules.json", '[{"type": "sentence_transformers.models.Evil"}]'),
        ("modules.json", "{}"),
        ("modules.json", "[1]"),
        ("modules.json", "nonsense"),
        ("sentence_bert_config.json", '{"auto_map": 1}'),
        ("config_sentence_transformers.json", '{"deep": {"trust_remote_code": true}}'),
    ],
)
def test_a_sentence_encoder_s_files_may_not_choose_code(sentence_encoder, name, text):
    (sentence_encoder / name).write_text(text)
    with pytest.raises(InvalidInput, match=name):
        read_folder(sentence_encoder)


def test_nothing_but_the_config_may_lie_in_the_pooling_s_folder(sentence_encoder, tmp_path):
    (sentence_encoder / "1_Pooling" / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InvalidInput, match="1_Pooling/pytorch_model"):
        read_folder(sentence_encoder)
    (sentence_encoder / "1_Pooling" / "pytorch_model.bin").unlink()
    (sentence_encoder / "1_Pooling" / "config.json").unlink()
    (sentence_encoder / "1_Pooling" / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="ordinary file"):
        read_folder(sentence_encoder)


def test_an_absent_folder_says_where_models_go(tmp_path):
    with pytest.raises(InvalidInput, match="TUNESMITH_BASES_DIR"):
        read_folder(tmp_path / "none")
