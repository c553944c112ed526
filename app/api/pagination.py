"""Lists on the wire: `{object, data, has_more, first_id, last_id}`, asked for with `after` and `limit`."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Query
from pydantic import BaseModel

Item = TypeVar("Item", bound=BaseModel)

After = Annotated[str | None, Query(description="id of the last item of the page before", max_length=512)]
Limit10 = Annotated[int, Query(ge=0, le=1000, description="items on a page")]
Limit20 = Annotated[int, Query(ge=0, le=1000, description="items on a page")]
Limit10000 = Annotated[int, Query(ge=0, le=10_000, description="items on a page")]
Order = Annotated[Literal["asc", "desc"], Query(description="by the time of creation")]


class ListPage(BaseModel, Generic[Item]):
    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


def list_page(items: Sequence[Item], *, has_more: bool) -> ListPage[Item]:
    """A page of wire objects, each of which has an `id`."""
    ids: list[Any] = [item.__dict__["id"] for item in items]
    return ListPage[Item](
        data=list(items),
        has_more=has_more,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
    )
