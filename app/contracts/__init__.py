"""What the API, the supervisor and the engine say to each other.

Pydantic and the standard library only; imports nothing else of ours, so that
the engine can live in an image without a database driver and the API in one
without torch.
"""
