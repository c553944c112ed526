"""`python -m tests.faults [--seed S] [--share 1.0] [--at-once N] [GOAL …]`: every goal in its long form, as a table.

Goals have worlds of their own and mostly wait, so that several run beside each other.
"""

import argparse
import os
import secrets
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

from tests.faults.goals import GOALS, Result, run

_HEAD = "| goal | what | trials | found | reached | seconds |\n|---|---|---|---|---|---|\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="default: a new one, printed")
    parser.add_argument("--share", type=float, default=1.0, help="of the trials that each goal's figure asks for")
    parser.add_argument("--at-once", type=int, default=1 + (os.cpu_count() or 1), help="goals; default: %(default)s")
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"of {', '.join(GOALS)}; default: all")
    options = parser.parse_args()
    unknown = set(options.goals) - set(GOALS)
    if unknown:
        parser.error(f"no such goal: {', '.join(sorted(unknown))}. There are {', '.join(GOALS)}.")
    sys.stdout.write(f"seed {options.seed}, {os.cpu_count()} cores, {options.at_once} goals at once\n\n{_HEAD}")
    sys.stdout.flush()
    are_reached = True
    with ProcessPoolExecutor(options.at_once, mp_context=get_context("spawn")) as pool:
        names = options.goals or list(GOALS)
        # The mutants take longest: begun last, they would run alone at the end.
        order = sorted(names, key=lambda name: name != "mutants")
        running = {name: pool.submit(run, name, options.share, options.seed) for name in order}
        for name in names:
            for result in _results(name, running[name]):
                are_reached &= result.is_reached
                print_row(result)
    return 0 if are_reached else 1


def _results(name: str, running: "Future[list[Result]]") -> list[Result]:
    """A goal that broke off is a row like any other: the rest of an hour's work is still shown."""
    error = running.exception()
    if error is None:
        return running.result()
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return [Result(name, "broke off", 0, told[:2000], is_reached=False, seconds=0)]


def print_row(result: Result) -> None:
    reached = "yes" if result.is_reached else "**no**"
    cells = (result.goal, result.what, f"{result.trials:,}", result.found, reached, f"{result.seconds:.0f}")
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
