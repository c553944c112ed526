"""The judge: a history that Postgres itself writes, and the rules it must keep.

Triggers note every change of a job's lease and status, and every row a worker adds to a job, with the name of the
connection that did it (`tunesmith.writer`, set in its address). The code under test neither writes nor reads them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

_TRIGGERS = """
CREATE TABLE history (
    id bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    writer text NOT NULL DEFAULT coalesce(current_setting('tunesmith.writer', true), ''),
    what text NOT NULL, job_id text NOT NULL,
    old_status text, new_status text, old_owner text, new_owner text, old_fence bigint, new_fence bigint,
    has_lapsed boolean
);
CREATE FUNCTION note_job() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF ROW(OLD.status, OLD.owner, OLD.fence, OLD.tuned_model_id, OLD.resume_checkpoint, OLD.evaluation,
           OLD.lease_until, OLD.encoding, OLD.error)
       IS DISTINCT FROM
       ROW(NEW.status, NEW.owner, NEW.fence, NEW.tuned_model_id, NEW.resume_checkpoint, NEW.evaluation,
           NEW.lease_until, NEW.encoding, NEW.error)
    THEN
        INSERT INTO history (what, job_id, old_status, new_status, old_owner, new_owner, old_fence, new_fence,
                             has_lapsed)
        VALUES ('job', NEW.id, OLD.status, NEW.status, OLD.owner, NEW.owner, OLD.fence, NEW.fence,
                OLD.lease_until < clock_timestamp());
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_job AFTER UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION note_job();
CREATE FUNCTION note_child() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO history (what, job_id, old_status, new_status, old_owner, new_owner, old_fence, new_fence)
    SELECT TG_TABLE_NAME, id, status, status, owner, owner, fence, fence FROM jobs WHERE id = NEW.job_id;
    RETURN NULL;
END $$;
CREATE TRIGGER note_metric AFTER INSERT OR UPDATE ON job_metrics FOR EACH ROW EXECUTE FUNCTION note_child();
CREATE TRIGGER note_checkpoint AFTER INSERT OR UPDATE ON checkpoints FOR EACH ROW EXECUTE FUNCTION note_child();
CREATE TRIGGER note_event AFTER INSERT ON job_events FOR EACH ROW EXECUTE FUNCTION note_child();
CREATE TRIGGER note_model AFTER INSERT ON tuned_models FOR EACH ROW EXECUTE FUNCTION note_child();
"""
_ENDED = {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True)
class Entry:
    """One change, as the database saw it."""

    at: float
    """Seconds, of the database's clock."""
    writer: str
    """`gpu…` for workers of the pool; anything else is the harness, the API or the control role."""
    what: str
    job_id: str
    old_status: str
    new_status: str
    old_owner: str | None
    new_owner: str | None
    old_fence: int
    new_fence: int
    has_lapsed: bool | None


def install(database_url: str) -> None:
    """Begin to note; on a migrated database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_TRIGGERS)


def read(database_url: str) -> list[Entry]:
    """Everything so far, in the order of the changes."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM at)::float8, writer, what, job_id, old_status, new_status, old_owner, new_owner,"
            " old_fence, new_fence, has_lapsed FROM history ORDER BY id"
        )
        return [Entry(*row) for row in rows]


def faults(entries: Iterable[Entry]) -> list[str]:
    """What must never have happened, a sentence each; empty for a history that is in order."""
    found = []
    fences: dict[str, int] = defaultdict(int)
    ends: Counter[str] = Counter()
    for entry in entries:
        found += [f"{entry.job_id} at {entry.at:.3f}: {problem}" for problem in _problems(entry, fences[entry.job_id])]
        fences[entry.job_id] = max(fences[entry.job_id], entry.new_fence)
        if entry.new_status == "succeeded" != entry.old_status:
            ends[entry.job_id] += 1
    return found + [f"{job_id} succeeded {count} times" for job_id, count in ends.items() if count > 1]


def _problems(entry: Entry, highest_fence: int) -> list[str]:
    found = []
    if entry.new_fence < max(entry.old_fence, highest_fence):
        found.append(f"its fence went back from {max(entry.old_fence, highest_fence)} to {entry.new_fence}")
    if entry.old_status in _ENDED and entry.new_status != entry.old_status:
        found.append(f"it was {entry.old_status} and became {entry.new_status}")
    is_claim = entry.new_owner is not None and entry.new_owner != entry.old_owner
    if is_claim and entry.new_fence != entry.old_fence + 1:
        found.append(f"{entry.new_owner} claimed it without a new fence")
    if is_claim and entry.old_owner is not None and not entry.has_lapsed:
        found.append(f"{entry.new_owner} took it from {entry.old_owner}, whose lease had not run out")
    if entry.writer.startswith("gpu"):
        # Before a claim nobody owns it; a worker started anew may end what its earlier life held.
        owner = entry.new_owner if is_claim else entry.old_owner
        if owner is None or not owner.startswith(f"{entry.writer}@"):
            found.append(f"{entry.writer} wrote ({entry.what}) while the owner was {owner or 'nobody'}")
    return found
