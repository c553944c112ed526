"""What the control role removes as time goes by: bytes of deleted and expired objects, old idempotency keys."""

from collections.abc import Callable

from app.context import Context
from app.db.idempotency import forget_old
from app.factory import Services
from app.logs import logger

_SWEEPS: dict[str, Callable[[Services], int]] = {
    "files": lambda services: services.files.expire_due(),
    "uploads": lambda services: services.uploads.expire_due(),
    "models": lambda services: services.registry.purge_deleted(),
    "storage samples": lambda services: services.usage.sample_storage(),
    "webhook deliveries": lambda services: services.webhooks.forget_old(),
    "log-ins": lambda services: services.login.forget_old(),
    "idempotency keys": lambda services: forget_old(services.work.session),
}


def sweep(context: Context) -> int:
    """Remove some of what is due (a few hundred objects at most), each kind in a transaction of its own.

    Returns how many went. A store that is away stops one kind only: the next sweep goes on. Harmless to repeat and to
    run twice at once; once a minute is often enough.
    """
    removed = 0
    for kind, run in _SWEEPS.items():
        try:
            with context.database.unit_of_work() as work:
                count = run(Services(context, work))
        except OSError:
            logger.exception("the sweep of %s stopped; the next one goes on", kind)
            continue
        if count:
            logger.info("swept %d %s", count, kind)
        removed += count
    return removed
