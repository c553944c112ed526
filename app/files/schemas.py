"""Wire shapes of files and uploads, as OpenAI's."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.clock import unix_seconds
from app.db.tables import File, Upload, UploadPart
from app.files.purposes import FILE_SECONDS_MAX, FILE_SECONDS_MIN, Purpose, wire_purpose


class FileObject(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    # Deprecated by OpenAI but required by its clients; a file is visible only when it is whole.
    status: Literal["processed"] = "processed"
    status_details: None = None
    sha256: str


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class ExpiresAfter(BaseModel):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(strict=True, ge=FILE_SECONDS_MIN, le=FILE_SECONDS_MAX)]


class UploadCreate(BaseModel):
    filename: Annotated[str, Field(min_length=1, max_length=1024)]
    purpose: Purpose
    bytes: Annotated[int, Field(strict=True, ge=0)]
    mime_type: Annotated[str, Field(min_length=1, max_length=255)]
    expires_after: ExpiresAfter | None = None


class UploadComplete(BaseModel):
    part_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=10_000)]
    md5: str | None = None


class UploadObject(BaseModel):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None = None


class UploadPartObject(BaseModel):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


def file_object(row: File) -> FileObject:
    return FileObject(
        id=row.id,
        bytes=row.bytes,
        created_at=unix_seconds(row.created_at),
        expires_at=None if row.expires_at is None else unix_seconds(row.expires_at),
        filename=row.filename,
        purpose=wire_purpose(row.purpose),
        sha256=row.sha256,
    )


def upload_object(row: Upload, file: File | None = None) -> UploadObject:
    return UploadObject.model_validate(
        {
            "id": row.id,
            "bytes": row.bytes,
            "created_at": unix_seconds(row.created_at),
            "expires_at": unix_seconds(row.expires_at),
            "filename": row.filename,
            "purpose": wire_purpose(row.purpose),
            "status": row.status,
            "file": None if file is None else file_object(file),
        }
    )


def part_object(row: UploadPart) -> UploadPartObject:
    return UploadPartObject(id=row.id, created_at=unix_seconds(row.created_at), upload_id=row.upload_id)
