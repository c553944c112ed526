"""The shape every contract shares: frozen, strict about unknown fields, versioned where stored."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A frozen message. Unknown fields are refused: a typo must not pass as a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
