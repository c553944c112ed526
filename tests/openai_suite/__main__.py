# ruff: noqa: T201 - a command talks to its terminal
"""`python -m tests.openai_suite [pytest arguments]`: run openai-python's API tests, print the score.

172 of the tests pass with no server at all (checks of empty paths, mocked answers), so they are taken off.
`--least N` makes a score below N a failure.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from tests.openai_suite.seed import Seeder
from tests.openai_suite.service import running_service
from tests.openai_suite.source import SuiteError, unpack_tests

PATHS = (
    "fine_tuning",
    "uploads",
    "evals",
    "chat/test_completions.py",
    "test_files.py",
    "test_models.py",
    "test_uploads.py",
    "test_completions.py",
    "test_evals.py",
)
WITHOUT_SERVER = 172
OF = 805
_PLUGIN = Path(__file__).resolve().parent / "plugin"


def main() -> int:
    options, arguments = _parser().parse_known_args()
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="tsm-suite-") as folder:
            root = unpack_tests(Path(folder))
            with running_service(Path(folder)) as service:
                seeder = Seeder(service.context, service.base)
                seeder.prepare()
                with Listener(str(Path(folder) / "seeder"), "AF_UNIX") as listener:
                    threading.Thread(target=_serve, args=(listener, seeder), daemon=True).start()
                    output = _run_tests(root, service.base_url, str(listener.address), arguments)
                if options.logs:
                    print((Path(folder) / "api.log").read_text(), (Path(folder) / "engine.log").read_text())
    except SuiteError as error:
        print(error, file=sys.stderr)
        return 2
    return _report(output, least=options.least, seconds=time.monotonic() - begun, is_whole=not arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.openai_suite", description=__doc__)
    parser.add_argument("--least", type=int, default=0, help="the score below which the exit status is 1")
    parser.add_argument("--logs", action="store_true", help="print the logs of the API and the serving engine")
    return parser


def _serve(listener: Listener, seeder: Seeder) -> None:
    """Restore the fixtures whenever the plugin in the test process asks."""
    connection: Connection = listener.accept()
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        try:
            seeder.restore()
        except Exception as error:
            connection.send(repr(error))
            raise
        connection.send("ok")


def _run_tests(root: Path, base_url: str, seeder: str, arguments: list[str]) -> str:
    """pytest's output, shown as it comes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TUNESMITH_", "OPENAI_"))}
    environment |= {"TEST_API_BASE_URL": base_url, "TUNESMITH_SEEDER": seeder, "PYTHONPATH": str(_PLUGIN)}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "tunesmith_reseed", "--tb=line", "--durations=0"]
    command += [
        "-q",
        "--no-header",
        "--durations-min=2",
        *(arguments or [f"tests/api_resources/{path}" for path in PATHS]),
    ]
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    process.wait()
    return "".join(lines)


def _report(output: str, *, least: int, seconds: float, is_whole: bool) -> int:
    closing = output.strip().splitlines()[-1] if output.strip() else ""
    found = re.search(r"(\d+) passed", closing)
    passed = int(found[1]) if found else 0
    if not is_whole:
        return 0 if passed else 1
    score = passed - WITHOUT_SERVER
    print(f"score: {passed} passed - {WITHOUT_SERVER} = {score} of {OF} ({seconds:.0f} s in all)")
    return 0 if score >= max(least, 1) else 1


if __name__ == "__main__":
    sys.exit(main())
