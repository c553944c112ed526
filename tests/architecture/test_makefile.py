"""The commands of the Makefile take what their caller gives, and nothing else."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def recipe_of(*arguments: str) -> str:
    """What `make` would run; nothing is run."""
    found = subprocess.run(
        ["/usr/bin/env", "make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return found.stdout


def test_the_demo_chooses_its_base_unless_one_is_named():
    assert "--base" not in recipe_of("demo", "DATA=rows.csv", "TASK=text-classification")
    assert '--base "other"' in recipe_of("demo", "DATA=rows.csv", "BASE=other")
