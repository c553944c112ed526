"""The life of `tunesmith up`: start, keep alive, stop on a signal."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import OperationalError

from app import logs
from app.cli.errors import CommandError
from app.cli.session import program
from app.embedded.data_folder import DataFolder, write_private_json
from app.embedded.errors import EmbeddedError
from app.embedded.one_machine import Address, OneMachine
from app.settings import SettingsError

_TICK_SECONDS = 0.1


class _Stops:
    """Counts SIGINT and SIGTERM: the first asks everything to stop, a second one hurries."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: object) -> None:
        self.count += 1

    def is_stopping(self) -> bool:
        return self.count > 0

    def is_hurried(self) -> bool:
        return self.count > 1


def run_service(data_dir: Path, *, host: str, port: int, ready_file: Path | None) -> None:
    """Serve until SIGINT or SIGTERM. `CommandError` if the service cannot be started."""
    logs.configure("up")
    stops = _Stops()
    folder = DataFolder(data_dir)
    machine = OneMachine(folder, host=host, port=port)
    say = _sayer()
    try:
        address = machine.start(say, is_stopping=stops.is_stopping)
        if address is not None:
            if ready_file is not None:
                write_private_json(ready_file, {"base_url": address.base_url, "api_key": address.api_key})
            _report(address, folder)
            while not stops.is_stopping():
                machine.check()
                time.sleep(_TICK_SECONDS)
        say("stopping; the workers checkpoint first (Ctrl-C again to hurry)")
    except (EmbeddedError, SettingsError) as error:
        raise CommandError(str(error)) from error
    except OperationalError as error:
        raise CommandError(f"The database cannot be used: {error.orig}") from error
    finally:
        machine.stop(is_hurried=stops.is_hurried)
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
    say("stopped; start again with the same --data-dir to go on")


def _sayer() -> Callable[[str], None]:
    begun = time.monotonic()
    return lambda text: print(f"{time.monotonic() - begun:5.1f} s  {text}", flush=True)


def _report(address: Address, folder: DataFolder) -> None:
    print(
        f"""
Tunesmith serves.

  base URL   {address.base_url}
  API key    {address.api_key}
  data       {folder.root}
  logs       {folder.logs}

Try, in another terminal:
  export OPENAI_BASE_URL={address.base_url} OPENAI_API_KEY={address.api_key}
  {program()} bases add smollm2-135m-instruct
  {program()} train tickets.jsonl --base smollm2-135m-instruct --watch

Ctrl-C stops everything.
""",
        flush=True,
    )
