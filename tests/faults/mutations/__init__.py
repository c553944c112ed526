"""Faults of our own, each a change of one place in the code, and beside it the tests that must notice.

Add one whenever a guard is added: a guard that no test misses is not there.
"""

from tests.faults.mutations.access import ACCESS
from tests.faults.mutations.guards import GUARDS
from tests.faults.mutations.jobs import JOBS
from tests.faults.mutations.mutant import Mutant
from tests.faults.mutations.storage import STORAGE

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = (*JOBS, *STORAGE, *ACCESS, *GUARDS)
