"""Artifacts in S3 or a server that speaks its wire: multipart upload, visible only when completed."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.artifacts.base import ArtifactWriter, Stored
from app.artifacts.keys import checked_key
from app.artifacts.local import CHUNK_BYTES, copy_checked

# S3 wants parts of at least 5 MiB and at most 10,000 of them: 16 MiB reach 156 GiB.
PART_BYTES = 16 * 1024 * 1024
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_Answer = TypeVar("_Answer")


class S3Store:
    """Keeps `artifacts.base.ArtifactStore`'s contract; faults of the store are `OSError`."""

    def __init__(self, bucket: str, prefix: str, *, endpoint_url: str | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{checked_key(prefix)}/" if prefix else ""
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            config=Config(retries={"max_attempts": 4, "mode": "standard"}, connect_timeout=5, read_timeout=60),
        )

    def open_writer(self, key: str) -> ArtifactWriter:
        return _S3Writer(self._client, self._bucket, self._name(key), key)

    def put_file(self, key: str, path: Path) -> Stored:
        writer = self.open_writer(key)
        try:
            with path.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    writer.write(chunk)
            return writer.commit()
        finally:
            writer.abort()

    def read(self, key: str) -> Iterator[bytes]:
        answer = _call(key, lambda: self._client.get_object(Bucket=self._bucket, Key=self._name(key)))
        chunks: Iterator[bytes] = _S3Chunks(answer["Body"])
        return chunks

    def fetch(self, key: str, path: Path, *, sha256: str) -> None:
        copy_checked(self.read(key), path, key=key, sha256=sha256)

    def size(self, key: str) -> int:
        answer = _call(key, lambda: self._client.head_object(Bucket=self._bucket, Key=self._name(key)))
        return int(answer["ContentLength"])

    def delete(self, key: str) -> None:
        _call(key, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._name(key)))

    def delete_prefix(self, prefix: str) -> None:
        name = f"{self._name(prefix.rstrip('/'))}/"
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=name)
        for page in _call(prefix, lambda: list(pages)):
            names = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if names:
                self._delete_names(prefix, names)

    def check(self) -> None:
        _call("", lambda: self._client.head_bucket(Bucket=self._bucket))

    def _delete_names(self, prefix: str, names: list[dict[str, str]]) -> None:
        delete = {"Objects": names, "Quiet": True}
        answer = _call(prefix, lambda: self._client.delete_objects(Bucket=self._bucket, Delete=delete))
        if answer.get("Errors"):
            raise OSError(f"{len(answer['Errors'])} objects under {prefix} could not be removed")

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)


class _S3Writer:
    """Small objects go in one request at commit; larger ones as a multipart upload."""

    def __init__(self, client: Any, bucket: str, name: str, key: str) -> None:
        self._client = client
        self._target = {"Bucket": bucket, "Key": name}
        self._key = key
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []

    def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        self._hash.update(chunk)
        self._bytes += len(chunk)
        while len(self._buffer) >= PART_BYTES:
            self._send_part(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]

    def commit(self) -> Stored:
        if self._upload_id is None:
            body = bytes(self._buffer)
            _call(self._key, lambda: self._client.put_object(**self._target, Body=body))
        else:
            if self._buffer:
                self._send_part(bytes(self._buffer))
            upload = {"UploadId": self._upload_id, "MultipartUpload": {"Parts": self._parts}}
            _call(self._key, lambda: self._client.complete_multipart_upload(**self._target, **upload))
            self._upload_id = None
        self._buffer.clear()
        return Stored(self._key, self._bytes, self._hash.hexdigest())

    def abort(self) -> None:
        self._buffer.clear()
        if self._upload_id is not None:
            upload_id, self._upload_id = self._upload_id, None
            _call(self._key, lambda: self._client.abort_multipart_upload(**self._target, UploadId=upload_id))

    def _send_part(self, body: bytes) -> None:
        if self._upload_id is None:
            answer = _call(self._key, lambda: self._client.create_multipart_upload(**self._target))
            self._upload_id = str(answer["UploadId"])
        part = {"UploadId": self._upload_id, "PartNumber": len(self._parts) + 1}
        sent = _call(self._key, lambda: self._client.upload_part(**self._target, **part, Body=body))
        self._parts.append({"PartNumber": part["PartNumber"], "ETag": sent["ETag"]})


class _S3Chunks(Iterator[bytes]):
    """The body of an answer in chunks; the connection goes back at the end or when nobody wants it."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def __next__(self) -> bytes:
        try:
            chunk: bytes = self._body.read(CHUNK_BYTES)
        except BotoCoreError as error:
            raise OSError(f"the object store broke off: {error}") from error
        if not chunk:
            self._body.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        self._body.close()

    def __del__(self) -> None:
        self._body.close()


def _call(key: str, request: Callable[[], _Answer]) -> _Answer:
    """Run one request; `KeyError` for an absent key, `OSError` for every other fault."""
    try:
        return request()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _ABSENT and key:
            raise KeyError(key) from None
        raise OSError(f"the object store refused: {error}") from error
    except BotoCoreError as error:
        raise OSError(f"the object store cannot be reached: {error}") from error
