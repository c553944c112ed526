"""What a worker is told when the job is no longer its own."""


class Fenced(Exception):  # noqa: N818 - the state of the worker, and the word the field uses
    """The lease is gone: another worker may hold the job now.

    The worker must kill its engine run for this job, write nothing more and delete nothing
    outside its own scratch folder. Raised by every write whose job, fence or lease no longer match.
    """

    def __init__(self, job_id: str, fence: int) -> None:
        super().__init__(f"fence {fence} of job {job_id} is no longer the holder's")
        self.job_id = job_id
        self.fence = fence

    def __reduce__(self) -> tuple[type["Fenced"], tuple[str, int]]:
        return (type(self), (self.job_id, self.fence))
