"""Wire shapes of base models."""

from typing import Annotated, Literal, cast

from pydantic import BaseModel, Field

from app.bases.kinds import Kind
from app.clock import unix_seconds
from app.db.tables import BaseModelRow


class BaseCreate(BaseModel):
    """`id` is also the name of the folder below the server's folder of base models."""

    id: Annotated[str, Field(min_length=1, max_length=96)]
    licence: Annotated[str, Field(min_length=1, max_length=200, description="SPDX identifier, or the licence's name")]
    source: Annotated[str, Field(min_length=1, max_length=2000, description="where the files come from")]


class BaseObject(BaseModel):
    id: str
    object: Literal["base_model"] = "base_model"
    created_at: int
    kind: Kind
    licence: str
    source: str
    context_length: int
    parameters: int
    has_chat_template: bool
    weights_sha256: str
    files: dict[str, str]


class BaseDeleted(BaseModel):
    id: str
    object: Literal["base_model.deleted"] = "base_model.deleted"
    deleted: bool = True


def base_kind(row: BaseModelRow) -> Kind:
    """The family of a registered base."""
    return cast("Kind", row.kind)


def base_object(row: BaseModelRow) -> BaseObject:
    return BaseObject(
        id=row.id,
        created_at=unix_seconds(row.created_at),
        kind=base_kind(row),
        licence=row.licence,
        source=row.source,
        context_length=row.context_length,
        parameters=row.parameters,
        has_chat_template=row.has_chat_template,
        weights_sha256=row.weights_sha256,
        files=row.files,
    )
