"""Base beside tuned: losses, generated labels, latency."""
