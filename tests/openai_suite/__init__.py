"""openai-python's own API tests, run against this service: `python -m tests.openai_suite`."""
