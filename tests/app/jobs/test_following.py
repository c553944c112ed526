"""Following a job: new events as they come, silence filled, an end."""

import asyncio
from datetime import UTC, datetime

from app.db.tables import Job, JobEvent
from app.jobs.following import PAGE_EVENTS, follow
from app.jobs.service import News


def event(sequence):
    return JobEvent(
        id=f"ftevent-{sequence}",
        sequence=sequence,
        job_id="j",
        created_at=datetime.now(UTC),
        level="info",
        type="message",
        message=f"m{sequence}",
        data=None,
    )


def news(*sequences, status="running", is_over=False):
    return News(tuple(event(n) for n in sequences), Job(id="j", status=status), is_over)


def collect(answers, **options):
    """Frames for a series of answers, and the sequence numbers that were asked for."""
    asked = []
    series = iter(answers)

    def read(since):
        asked.append(since)
        return next(series)

    async def run():
        return [frame async for frame in follow(read, since=5, poll_seconds=0, **options)]

    return asyncio.run(run()), asked


def test_each_read_asks_for_what_came_after_the_last_event():
    frames, asked = collect([news(6, 7), news(), news(9), news(status="succeeded", is_over=True)])
    assert asked == [5, 7, 7, 9]
    assert [frame.count("id: ") for frame in frames] == [2, 1, 0]
    assert '"status": "succeeded"' in frames[-1]


def test_silence_is_filled_with_comments():
    frames, _ = collect([news(), news(), news(is_over=True)], keep_alive_seconds=0)
    assert frames[1:] == [": keep-alive\n\n"] * 2


def test_the_status_is_told_once_until_it_changes():
    frames, _ = collect([news(), news(), news(status="paused"), news(status="paused", is_over=True)])
    assert len(frames) == 2


def test_a_full_page_is_followed_at_once_by_the_next():
    full = news(*range(6, 6 + PAGE_EVENTS))
    _, asked = collect([full, news(is_over=True)])
    assert asked == [5, 5 + PAGE_EVENTS]
