"""Errors as values with an addressee: what the caller of the API is told.

AppError
├── InvalidInput      400  the request is wrong; `param` names where
├── Unauthorized      401  no key, or not a valid one
├── Forbidden         403  a valid key without the right
├── NotFound          404  absent, or not yours: the same answer
├── Conflict          409  right request, wrong moment; sent with x-should-retry: false
├── TooLarge          413  more bytes than allowed
├── QuotaExceeded     429  a limit of the team is reached
├── Unavailable       503  a part of the service is not there right now
└── StorageFull       507  the service has no room to keep what was sent

Knows no HTTP library; rendered once, in `app.api.errors`.
"""


class AppError(Exception):
    """Base of all errors that a caller is meant to read."""

    status = 500
    type = "server_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class InvalidInput(AppError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(AppError):
    status = 401
    type = "invalid_request_error"


class Forbidden(AppError):
    status = 403
    type = "invalid_request_error"


class NotFound(AppError):
    status = 404
    type = "invalid_request_error"


class Conflict(AppError):
    status = 409
    type = "invalid_request_error"


class TooLarge(AppError):
    status = 413
    type = "invalid_request_error"


class QuotaExceeded(AppError):
    status = 429
    type = "insufficient_quota"


class Unavailable(AppError):
    status = 503
    type = "server_error"


class StorageFull(AppError):
    status = 507
    type = "server_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="storage_full")
