"""Webhooks go out: what is due is claimed, sent a few at a time with no transaction open, and recorded."""

import threading
from concurrent.futures import ThreadPoolExecutor

from app.context import Context
from app.factory import Services
from app.logs import logger
from app.webhooks.addresses import allowed_hosts
from app.webhooks.delivering import Attempt
from app.webhooks.sending import Sender

_AT_ONCE = 8


class DeliveryRounds:
    """Runs beside the control rounds, in a thread of its own: a slow receiver holds up no lease."""

    def __init__(self, context: Context, shutdown: threading.Event, *, sender: Sender | None = None) -> None:
        self._context = context
        self._shutdown = shutdown
        self._sender = sender or Sender(allowed_hosts(context.settings.webhook_allowed_hosts))

    def run(self) -> None:
        """Until nothing is due. Never more is claimed than can be begun at once: so no claim runs out unbegun."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook") as pool:
            while not self._shutdown.is_set():
                with self._context.database.unit_of_work() as work:
                    attempts = Services(self._context, work).deliveries.claim(_AT_ONCE)
                if not attempts:
                    return
                for done in [pool.submit(self._deliver, attempt) for attempt in attempts]:
                    done.result()

    def _deliver(self, attempt: Attempt) -> None:
        message = attempt.message
        outcome = self._sender.post(message.url, message.body, message.headers, message.allowlist)
        with self._context.database.unit_of_work() as work:
            is_ours = Services(self._context, work).deliveries.record(attempt, outcome)
        if not is_ours:
            logger.warning("the attempt at webhook %s came too late to be recorded", attempt.delivery_id)
