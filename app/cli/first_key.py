"""The way in to a service that has no key yet: for those who hold its settings."""

from sqlalchemy.exc import OperationalError

from app.cli.errors import CommandError
from app.context import open_context
from app.factory import Services
from app.settings import SettingsError, load_settings


def make_first_key() -> str:
    """The text of a new admin key of the team `default`. `CommandError` if settings or database are not there."""
    try:
        context = open_context(load_settings())
    except SettingsError as error:
        raise CommandError(f"{error} This command runs where the service runs, with its settings.") from error
    try:
        with context.database.unit_of_work() as work:
            return Services(context, work).identity.first_key()
    except OperationalError as error:
        raise CommandError(f"The database cannot be used: {error.orig}") from error
    finally:
        context.close()
