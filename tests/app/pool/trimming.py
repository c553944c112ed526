"""What the repository loads of a full snapshot, said in Python."""

from dataclasses import replace

from app.pool.snapshot import fits


def trimmed(snapshot):
    """Of each team and priority the oldest job that fits the worker, and the oldest of the base that it holds."""
    kept = {}
    for job in sorted(snapshot.waiting, key=lambda one: (-one.waited_seconds, one.job_id)):
        if fits(job, snapshot.worker):
            kept.setdefault((job.team_id, job.priority), job)
            if snapshot.worker is not None and job.base_id in snapshot.worker.resident:
                kept.setdefault((job.team_id, job.priority, job.base_id), job)
    waiting = tuple({job.job_id: job for job in kept.values()}.values())
    return replace(snapshot, waiting=waiting)
