"""What the repository loads of a full snapshot, said in Python."""

from dataclasses import replace

from app.pool.snapshot import fits


def trimmed(snapshot):
    """Of each team the first job that fits the worker, and the first of them whose base it holds."""
    kept = {}
    for job in sorted(snapshot.waiting, key=lambda one: one.key):
        if fits(job, snapshot.worker):
            kept.setdefault((job.team_id, False), job)
            if snapshot.worker is not None and job.base_id in snapshot.worker.resident:
                kept.setdefault((job.team_id, True), job)
    waiting = tuple({job.job_id: job for job in kept.values()}.values())
    return replace(snapshot, waiting=waiting)
