"""Reads a base model's folder: refuses what it must not hold, hashes what it may, and says what it is."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.bases import allowlist
from app.bases.config_file import BadConfig, BaseConfig, read_config
from app.bases.kinds import KIND_OF, Kind
from app.bases.safetensors_header import BadSafetensors, count_parameters
from app.bases.sentence_files import BadSentenceFile, check_modules, check_pooling
from app.errors import InvalidInput

_MAX_TEXT_BYTES = 64 * 1024 * 1024
_MAX_FILES = 1000
_OBJECT_FILES = allowlist.JSON_FILES - {allowlist.MODULES_FILE}


@dataclass(frozen=True)
class BaseFolder:
    """What a checked folder holds."""

    files: dict[str, str]
    """File name, below the folder → SHA-256, of all that the engine may read."""
    architecture: str
    """The `model_type` of its config.json."""
    context_length: int
    parameters: int
    has_chat_template: bool

    @property
    def kind(self) -> Kind:
        return KIND_OF[self.architecture]

    @property
    def weights_sha256(self) -> str:
        """SHA-256 over the lines `name sha256`, sorted by name: what `BaseRef.weights_sha256` says."""
        total = hashlib.sha256()
        for name, digest in sorted(self.files.items()):
            total.update(f"{name} {digest}\n".encode())
        return total.hexdigest()


def read_folder(folder: Path) -> BaseFolder:
    """Check and hash a folder; `InvalidInput` names the first file that is at fault. Reads every byte once."""
    if not folder.is_dir():
        raise InvalidInput(
            f"No folder '{folder.name}' found among the base models of this server. Copy the model there first "
            "(the setting TUNESMITH_BASES_DIR names the folder that holds them).",
            param="id",
        )
    paths = _paths(folder)
    if len(paths) > _MAX_FILES:
        raise InvalidInput(f"The folder holds more than {_MAX_FILES} files.", param="id")
    for name, path in paths.items():
        _check_kind(name, path)
    texts = {name: _text(name, path) for name, path in paths.items() if not name.endswith(".safetensors")}
    objects = {name: _json_object(name, text) for name, text in texts.items() if name in _OBJECT_FILES}
    for name in (allowlist.SETTINGS_FILES | allowlist.SENTENCE_FILES) & objects.keys():
        _check_keys(name, objects[name])
    _check_sentence_files(texts, objects)
    if allowlist.TOKENIZER_FILE not in texts:
        raise _at_fault(allowlist.TOKENIZER_FILE, "is missing")
    config = _config(objects.get(allowlist.CONFIG_FILE))
    weights = [name for name in paths if allowlist.WEIGHTS_FILE.fullmatch(name)]
    _check_complete(weights, objects.get(allowlist.INDEX_FILE))
    return BaseFolder(
        files={name: _sha256(path) for name, path in paths.items()},
        architecture=config.architecture,
        context_length=config.context_length,
        parameters=sum(_parameters(name, paths[name]) for name in weights),
        has_chat_template=bool(allowlist.CHAT_TEMPLATE_FILES & texts.keys())
        or bool(objects.get(allowlist.TOKENIZER_CONFIG_FILE, {}).get("chat_template")),
    )


def _paths(folder: Path) -> dict[str, Path]:
    """What lies in the folder by its name below it; papers are left out, the pooling's folder is looked into."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name == allowlist.POOLING_FOLDER and path.is_dir() and not path.is_symlink():
            found |= {f"{path.name}/{inner.name}": inner for inner in sorted(path.iterdir())}
        elif not allowlist.PAPERS.fullmatch(path.name):
            found[path.name] = path
    return found


def _check_kind(name: str, path: Path) -> None:
    is_known = name in allowlist.JSON_FILES or name in allowlist.TEXT_FILES or allowlist.WEIGHTS_FILE.fullmatch(name)
    if not is_known:
        raise _at_fault(
            name,
            "is none of the files a base model may have: model*.safetensors, config.json, generation_config.json, "
            "tokenizer.json and the other JSON and text files of a tokenizer, chat_template.jinja. Remove it; "
            "weights in another format must be converted to safetensors",
        )
    if path.is_symlink() or not path.is_file():
        raise _at_fault(name, "must be an ordinary file, not a folder or a link")


def _text(name: str, path: Path) -> str:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise _at_fault(name, f"is larger than {_MAX_TEXT_BYTES} bytes")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise _at_fault(name, "is not a text in UTF-8") from None
    if "\x00" in text:
        raise _at_fault(name, "is not a text: it holds the character U+0000")
    return text


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _at_fault(name, "is not JSON") from None


def _json_object(name: str, text: str) -> dict[str, Any]:
    value = _json(name, text)
    if not isinstance(value, dict):
        raise _at_fault(name, "is not a JSON object")
    return value


def _check_keys(name: str, value: Any) -> None:
    """No key at any depth may name code to load."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in item:
                if allowlist.CODE_KEY.fullmatch(key):
                    raise _at_fault(name, f"has the key '{key}', with which a model would choose code to run")
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _config(config: dict[str, Any] | None) -> BaseConfig:
    if config is None:
        raise _at_fault(allowlist.CONFIG_FILE, "is missing")
    try:
        return read_config(config)
    except BadConfig as error:
        raise _at_fault(allowlist.CONFIG_FILE, str(error)) from None


def _check_sentence_files(texts: dict[str, str], objects: dict[str, dict[str, Any]]) -> None:
    name = allowlist.POOLING_FILE
    try:
        check_pooling(objects.get(name, {}))
        name = allowlist.MODULES_FILE
        if name in texts:
            check_modules(_json(name, texts[name]))
    except BadSentenceFile as error:
        raise _at_fault(name, str(error)) from None


def _check_complete(weights: list[str], index: dict[str, Any] | None) -> None:
    if not weights:
        raise _at_fault("model.safetensors", "is missing")
    if index is None:
        if weights != ["model.safetensors"]:
            raise _at_fault(allowlist.INDEX_FILE, "is missing, and the weights come in several files")
        return
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or {str(name) for name in weight_map.values()} != set(weights):
        raise _at_fault(allowlist.INDEX_FILE, "does not name exactly the weight files that are there")


def _parameters(name: str, path: Path) -> int:
    try:
        return count_parameters(path)
    except BadSafetensors as error:
        raise _at_fault(name, f"is not sound: {error}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _at_fault(name: str, what: str) -> InvalidInput:
    shown = "".join(character if character.isprintable() else "?" for character in name[:100])
    return InvalidInput(f"The file '{shown}' in the base model's folder {what}.", param="id", code="invalid_base_model")
