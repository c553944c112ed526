"""From the setting `artifacts_url` to a store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.artifacts.base import ArtifactStore
from app.artifacts.local import LocalStore


def open_store(url: str, endpoint_url: str | None = None) -> ArtifactStore:
    """`file:///folder` or `s3://bucket/prefix`; `endpoint_url` names an S3-compatible server."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        # boto3 is an extra; whoever keeps bytes in a folder does not need it.
        from app.artifacts.s3 import S3Store  # noqa: PLC0415

        return S3Store(parts.netloc, parts.path.strip("/"), endpoint_url=endpoint_url)
    raise ValueError(f"artifacts_url must be file:///folder or s3://bucket/prefix, not {url!r}")
