"""Fixtures of the whole suite: real Postgres and Redis per xdist worker, a context, a client, a live server."""

import os

# Before any numeric library is imported: the tests share a small machine.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

pytest_plugins = ["tests.support.servers", "tests.support.service"]
