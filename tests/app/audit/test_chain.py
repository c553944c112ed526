"""The chain: every single change to 10,000 events is found and located, and writers at once make no fork."""

import json
import random
import threading
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.chain import GENESIS, INSTALLATION, Entry, Head, canonical_json, entry_sha256, verify
from app.audit.exported import UnreadableExport, verify_file

EVENTS = 10_000
MUTATIONS = 300


def check(services, team, *, exported=None):
    """All of a chain, in one piece."""
    with services() as s:
        verdict, has_more = s.audit.verify(team, limit=EVENTS + 10, exported=exported)
    assert not has_more
    return verdict


def write(services, team, count, at_a_time=500):
    for first in range(0, count, at_a_time):
        with services() as s:
            for number in range(first, min(count, first + at_a_time)):
                s.audit.record(team, "key:k", "thing.make", f"object-{number}", number=number, share=number / 7)


def entries(services, team):
    with services() as s:
        return list(s.audit.entries(team, limit=EVENTS + 10))


def test_rows_are_numbered_without_gaps_and_name_their_predecessor(services):
    write(services, "team_a", 5)
    write(services, "team_b", 2)
    write(services, None, 1)
    rows = entries(services, "team_a")
    assert [row.sequence for row in rows] == [1, 2, 3, 4, 5]
    assert [row.previous_sha256 for row in rows] == [GENESIS, *(row.sha256 for row in rows[:-1])]
    with services() as s:
        assert s.audit.head("team_a") == Head("team_a", 5, rows[-1].sha256)
        assert s.audit.head(INSTALLATION).sequence == 1
    assert check(services, "team_a").faults == ()


def test_a_transaction_that_fails_leaves_no_gap(services):
    def fail():
        with services() as s:
            s.audit.record("team_a", "system", "thing.make", "x")
            s.work.session.flush()
            raise RuntimeError

    write(services, "team_a", 1)
    with pytest.raises(RuntimeError):
        fail()
    write(services, "team_a", 1)
    assert [row.sequence for row in entries(services, "team_a")] == [1, 2]
    assert check(services, "team_a").faults == ()


def mutate(connection, kind, rows, draw):
    """Do one thing to the log as the superuser; the number of the row that must be named, and the kinds that fit."""
    place = draw.randrange(len(rows))
    row = rows[place]
    here = "WHERE team_id = 'team_a' AND sequence = %s"
    if kind == "field":
        column = draw.choice(["actor", "action", "object_id", "data", "at", "sha256", "previous_sha256"])
        value = {
            "data": json.dumps({**row.data, "number": row.data["number"] + 1}),
            "at": datetime(2020, 1, 1, tzinfo=UTC),
        }.get(column, str(getattr(row, column))[:-1] + "~")
        connection.execute(f"UPDATE audit_events SET {column} = %s {here}", (value, row.sequence))  # noqa: S608
        return row.sequence, {"changed"}
    if kind == "rehashed":
        forged = entry_sha256(Entry(**{**row.__dict__, "actor": "key:nobody"}))
        connection.execute(
            f"UPDATE audit_events SET actor = 'key:nobody', sha256 = %s {here}",  # noqa: S608
            (forged, row.sequence),
        )
        return row.sequence, {"changed"}
    if kind == "dropped":
        connection.execute(f"DELETE FROM audit_events {here}", (row.sequence,))  # noqa: S608
        return row.sequence, {"missing", "truncated"}
    if kind == "cut":
        connection.execute("DELETE FROM audit_events WHERE team_id = 'team_a' AND sequence >= %s", (row.sequence,))
        return row.sequence, {"truncated"}
    other = rows[place + draw.randrange(1, 40)] if place < len(rows) - 40 else rows[place - draw.randrange(1, 40)]
    connection.execute(
        "UPDATE audit_events SET sequence = CASE sequence WHEN %(a)s THEN %(b)s ELSE %(a)s END + 1000000 "
        "WHERE team_id = 'team_a' AND sequence IN (%(a)s, %(b)s)",
        {"a": row.sequence, "b": other.sequence},
    )
    connection.execute("UPDATE audit_events SET sequence = sequence - 1000000 WHERE sequence > 1000000")
    return min(row.sequence, other.sequence), {"swapped"}


def test_of_300_single_mutations_of_10000_events_all_are_found_and_located(services, servers, context):
    """G20. Each is undone by a rollback; what follows the mutation is read on the connection that made it."""
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)  # noqa: S311 - not a secret
    write(services, "team_a", EVENTS)
    rows = entries(services, "team_a")
    head = Head("team_a", EVENTS, rows[-1].sha256)
    hashes = {row.sequence: row.sha256 for row in rows}
    found = 0
    columns = "team_id, sequence, at, actor, action, object_id, data, previous_sha256, sha256"
    with psycopg.connect(servers.database_url) as connection:
        for number in range(MUTATIONS):
            connection.execute("SET LOCAL session_replication_role = replica")
            kind = ("field", "rehashed", "dropped", "cut", "swapped")[number % 5]
            place, kinds = mutate(connection, kind, rows, draw)
            # As the service does it, in pieces: the one with the mutation; every 30th time the whole chain.
            low, size = (max(0, place - 50), 100) if number % 30 else (0, EVENTS)
            read = connection.execute(
                f"SELECT {columns} FROM audit_events WHERE team_id = 'team_a' AND sequence > %s ORDER BY sequence LIMIT %s",  # noqa: S608, E501
                (low, size),
            ).fetchall()
            verdict = verify(
                (Entry(*row) for row in read),
                start=Head("team_a", low, hashes.get(low, GENESIS)),
                heads=[head],
                is_whole=len(read) < size or low + size >= EVENTS,
            )
            named = [(fault.sequence, fault.kind) for fault in verdict.faults]
            assert any(sequence == place and kind in kinds for sequence, kind in named), (seed, number, kind, named)
            assert len(named) <= 2, (seed, number, kind, named)
            found += 1
            connection.rollback()
    assert found == MUTATIONS
    assert check(services, "team_a").faults == ()


def test_eight_writers_at_once_make_one_chain(services):
    """Each takes both chains in the order it likes, with a row of its own in between."""
    faults = []

    def work(number):
        try:
            for count in range(25):
                with services() as s:
                    teams = ["team_a", "team_b"]
                    for team in teams if number % 2 else reversed(teams):
                        s.audit.record(team, f"worker:{number}", "thing.make", str(count))
        except BaseException as error:  # noqa: BLE001 - told to the test
            faults.append(error)

    writers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert faults == []
    for team in ("team_a", "team_b"):
        verdict = check(services, team)
        assert (verdict.checked, verdict.faults) == (200, ())


def test_an_exported_head_finds_a_chain_that_was_rewritten_as_a_whole(services, servers):
    write(services, "team_a", 5)
    with services() as s:
        kept = s.audit.head("team_a")
    rows = entries(services, "team_a")
    with psycopg.connect(servers.database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        previous = GENESIS
        for row in rows:
            forged = Entry(**{**row.__dict__, "actor": "key:nobody", "previous_sha256": previous})
            digest = entry_sha256(forged)
            connection.execute(
                "UPDATE audit_events SET actor = 'key:nobody', previous_sha256 = %s, sha256 = %s WHERE sequence = %s",
                (previous, digest, row.sequence),
            )
            previous = digest
        connection.execute("UPDATE audit_heads SET sha256 = %s", (previous,))
    assert check(services, "team_a").faults == ()
    assert [(fault.sequence, fault.kind) for fault in check(services, "team_a", exported=kept).faults] == [
        (5, "changed")
    ]


@pytest.mark.parametrize("statement", ["UPDATE audit_heads SET sequence = 1", "DELETE FROM audit_heads"])
def test_a_head_only_moves_forward(services, servers, statement):
    write(services, "team_a", 2)
    with (
        psycopg.connect(servers.database_url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="moves forward"),
    ):
        connection.execute(statement)


numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_a_value_has_one_text_before_and_after_json(value):
    assert canonical_json(json.loads(json.dumps(value))) == canonical_json(value)
    exact = {"parse_float": Decimal, "parse_int": Decimal}
    assert json.loads(canonical_json(value), **exact) == json.loads(json.dumps(value), **exact)


def test_a_value_has_one_text_before_and_after_the_database(services):
    data = {"a": 1e20, "b": 1.0, "c": 1e-7, "d": -0.0, "e": 1e300, "f": [0.1, True, None], "ä": "\U0001f600", "z": {}}
    with services() as s:
        s.audit.record("team_a", "system", "thing.make", "x", **data)
    assert check(services, "team_a").faults == ()


def export(client, folder):
    file = folder / "log.jsonl"
    file.write_bytes(client.get("/v1/organization/audit_logs/rows").content)
    return file


def test_an_export_is_checked_without_the_service(client, tmp_path):
    for number in range(20):
        client.post("/v1/teams/keys", json={"name": f"key {number}"})
    file = export(client, tmp_path)
    head = client.get("/v1/organization/audit_logs/head").json()
    kept = Head(head["team"], head["sequence"], head["sha256"])
    assert verify_file(file, [kept]).faults == ()
    lines = file.read_bytes().splitlines(keepends=True)

    def faults(changed):
        file.write_bytes(b"".join(changed))
        return [(fault.sequence, fault.kind) for fault in verify_file(file, [kept]).faults]

    assert faults(lines[:5] + lines[6:]) == [(6, "missing")]
    assert faults(lines[:-3]) == [(len(lines) - 2, "truncated")]
    assert faults([*lines[:3], lines[4], lines[3], *lines[5:]]) == [(5, "swapped"), (4, "swapped")]
    assert faults([*lines[:3], lines[3].replace(b"key 1", b"key 9"), *lines[4:]]) == [(4, "changed")]
    assert faults([*lines[:4], lines[3], *lines[4:]])[0] == (4, "added")
    file.write_bytes(b"{}\n")
    with pytest.raises(UnreadableExport, match="Line 1"):
        verify_file(file)
