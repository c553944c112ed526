"""`python -m tests.faults [--seed S] [--share 1.0] [GOAL …]`: every goal in its long form, as a table in Markdown."""

import argparse
import secrets
import sys

from tests.faults.goals import GOALS, Result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="default: a new one, printed")
    parser.add_argument("--share", type=float, default=1.0, help="of the trials that each goal's figure asks for")
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"of {', '.join(GOALS)}; default: all")
    options = parser.parse_args()
    unknown = set(options.goals) - set(GOALS)
    if unknown:
        parser.error(f"no such goal: {', '.join(sorted(unknown))}. There are {', '.join(GOALS)}.")
    sys.stdout.write(
        f"seed {options.seed}\n\n| goal | what | trials | found | reached | seconds |\n|---|---|---|---|---|---|\n"
    )
    results: list[Result] = []
    for name in options.goals or GOALS:
        run, count = GOALS[name]
        for result in run(max(1, round(options.share * count)), options.seed):
            results.append(result)
            reached = "yes" if result.is_reached else "**no**"
            cells = (result.goal, result.what, f"{result.trials:,}", result.found, reached, f"{result.seconds:.0f}")
            sys.stdout.write(f"| {' | '.join(cells)} |\n")
            sys.stdout.flush()
    return 0 if all(result.is_reached for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
