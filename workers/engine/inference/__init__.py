"""Generation with adapters on a resident base, and the process that serves it."""
