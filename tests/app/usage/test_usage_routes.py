"""Usage and costs on OpenAI's wire, prices with their moments, and the ledger as CSV."""

import csv
import io
import random
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import openai
import pytest
from sqlalchemy import select, update

from app.db.tables import EvalRun, Team, UsageRecord
from app.identity.policy import Role
from app.usage.kinds import Kind, cost_of
from app.usage.ledger import UsageLedger

DAY = 86_400
# Midnight, UTC.
START = datetime(2026, 3, 1, tzinfo=UTC)
START_SECONDS = int(START.timestamp())
PRICES = "/v1/organization/prices"


@pytest.fixture
def add_line(world):
    """A line of the ledger at a time of the test's choice; hours since `START`."""

    def add(
        kind, quantity, *, at=0.0, hours=0.0, caller=None, cost="0", device_kind=None, object_id="ftjob-1", member=None
    ):
        caller = caller or world.team
        with world.services() as s:
            add.count += 1
            s.work.session.add(
                UsageRecord(
                    team_id=caller.team_id,
                    member=member or f"key:{caller.key_id}",
                    object_id=object_id,
                    kind=kind,
                    source=str(add.count),
                    device_kind=device_kind,
                    quantity=quantity,
                    started_at=START + timedelta(hours=at),
                    ended_at=START + timedelta(hours=at + hours),
                    cost=Decimal(cost),
                )
            )

    add.count = 0
    return add


def get(client, path, **query):
    answer = client.get(f"/v1/organization{path}", params={"start_time": START_SECONDS, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_line_is_shared_out_over_the_days_it_spans_and_empty_days_are_there(client, add_line):
    add_line(Kind.GPU_SECONDS, 36_000, at=20, hours=10, cost="10")
    page = get(client, "/usage/fine_tuning", end_time=START_SECONDS + 3 * DAY)
    assert [bucket["start_time"] for bucket in page["data"]] == [START_SECONDS + n * DAY for n in range(3)]
    assert [bucket["end_time"] - bucket["start_time"] for bucket in page["data"]] == [DAY] * 3
    assert [[r["gpu_seconds"] for r in bucket["results"]] for bucket in page["data"]] == [
        [pytest.approx(14_400)], [pytest.approx(21_600)], [],
    ]  # fmt: skip
    costs = get(client, "/costs", end_time=START_SECONDS + 3 * DAY)
    assert [[r["amount"]["value"] for r in bucket["results"]] for bucket in costs["data"]] == [[4.0], [6.0], []]


def test_hours_sum_up_to_the_day(client, add_line):
    add_line(Kind.GPU_SECONDS, 5_000, at=1.25, hours=7.5)
    page = get(client, "/usage/fine_tuning", end_time=START_SECONDS + DAY, bucket_width="1h")
    figures = [r["gpu_seconds"] for bucket in page["data"] for r in bucket["results"]]
    assert len(page["data"]) == 24
    assert len(figures) == 8
    assert sum(figures) == pytest.approx(5_000)


def test_pages_follow_each_other_without_gap(client, add_line):
    for day in range(5):
        add_line(Kind.TRAINED_TOKENS, 100 + day, at=24 * day + 1)
    end, page, seen = START_SECONDS + 5 * DAY, None, []
    while True:
        found = get(client, "/usage/fine_tuning", end_time=end, limit=2, **({} if page is None else {"page": page}))
        seen += [r["trained_tokens"] for bucket in found["data"] for r in bucket["results"]]
        if not found["has_more"]:
            break
        page = found["next_page"]
    assert seen == [100, 101, 102, 103, 104]


def test_the_official_client_reads_costs_by_line_item_and_project(live_server, api_key, world, add_line):
    other = world.add_team("other")
    add_line(Kind.GPU_SECONDS, 7_200, at=1, hours=1, cost="3", device_kind="cuda")
    add_line(Kind.TRAINED_TOKENS, 2_000_000, at=1, cost="4", caller=other)
    with openai.OpenAI(
        base_url=f"{live_server}/v1", admin_api_key=api_key, max_retries=0, _strict_response_validation=True
    ) as client:
        page = client.admin.organization.usage.costs(
            start_time=START_SECONDS, end_time=START_SECONDS + DAY, group_by=["line_item", "project_id"]
        )
    found = {(r.project_id, r.line_item): r for r in page.data[0].results}
    assert set(found) == {(world.team.team_id, "gpu_hours, cuda"), (other.team_id, "trained_tokens")}
    hours = found[world.team.team_id, "gpu_hours, cuda"]
    assert (hours.quantity, hours.quantity_unit, hours.amount.value, hours.amount.currency) == (
        2.0, "duration_hours", 3.0, "usd",
    )  # fmt: skip
    assert found[other.team_id, "trained_tokens"].quantity == 2.0
    assert hours.api_key_id is None


def test_an_admin_sees_the_own_team_whatever_he_asks_for(client, world, services, add_line):
    with services() as s:
        team = s.identity.create_team("Own", "own")
        _, key = s.identity.create_key(team.id, "k", Role.ADMIN)
        caller = s.identity.authenticate(key)
    add_line(Kind.GPU_SECONDS, 100, hours=1)
    add_line(Kind.GPU_SECONDS, 7, hours=1, caller=caller)
    headers = {"Authorization": f"Bearer {key}"}
    for query, wanted in [
        ({}, [7]),
        ({"project_ids": team.id}, [7]),
        ({"project_ids": world.team.team_id}, []),
        ({"project_ids[]": [world.team.team_id, team.id]}, [7]),
    ]:
        params = {"start_time": START_SECONDS, "end_time": START_SECONDS + DAY, **query}
        found = client.get("/v1/organization/usage/fine_tuning", params=params, headers=headers).json()
        assert [r["gpu_seconds"] for r in found["data"][0]["results"]] == wanted
        csv_text = client.get("/v1/organization/usage/export.csv", params=params, headers=headers).text
        assert world.team.team_id not in csv_text
        assert csv_text.count(team.id) == len(wanted)
    everything = get(client, "/usage/fine_tuning", end_time=START_SECONDS + DAY, group_by="project_id")
    assert len(everything["data"][0]["results"]) == 2


def test_usage_is_told_by_key(client, world, add_line):
    add_line(Kind.GPU_SECONDS, 1, hours=1, member="key:key_a")
    add_line(Kind.GPU_SECONDS, 2, hours=1, member="key:key_b")
    add_line(Kind.GPU_SECONDS, 4, hours=1, member="user:user_c")
    page = get(client, "/usage/fine_tuning", end_time=START_SECONDS + DAY, group_by="api_key_id")
    assert {r["api_key_id"]: r["gpu_seconds"] for r in page["data"][0]["results"]} == {
        None: 4, "key_a": 1, "key_b": 2,
    }  # fmt: skip
    only = get(client, "/usage/fine_tuning", end_time=START_SECONDS + DAY, api_key_ids="key_b")
    assert [r["gpu_seconds"] for r in only["data"][0]["results"]] == [2]
    by_user = get(client, "/usage/fine_tuning", end_time=START_SECONDS + DAY, user_ids="user_c", group_by="user_id")
    assert [r["user_id"] for r in by_user["data"][0]["results"]] == ["user_c"]


@pytest.mark.parametrize(
    "query",
    [
        {"start_time": "x"},
        {"end_time": START_SECONDS},
        {"group_by": "model"},
        {"page": "x"},
        {"limit": 1000},
        {"bucket_width": "1m"},
    ],
)
def test_a_wrong_question_is_refused(client, query):
    answer = client.get("/v1/organization/costs", params={"start_time": START_SECONDS, **query})
    assert answer.status_code == 400, answer.text


def test_buckets_beyond_2038_are_buckets_too(client):
    query = {"start_time": 2_500_000_000, "end_time": 2_500_000_000 + DAY}
    answer = client.get("/v1/organization/costs", params=query)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 2


def test_usage_keeps_the_price_that_held_when_it_began(client, world, services):
    assert client.post(PRICES, json={"kind": "gpu_hour", "amount": 2}).status_code == 200
    assert client.post(PRICES, json={"kind": "gpu_hour", "amount": "7.5", "device_kind": "unknown"}).status_code == 200
    task = world.running()
    assert client.post(PRICES, json={"kind": "gpu_hour", "amount": 1000, "device_kind": "unknown"}).status_code == 200
    with world.services() as s:
        s.job_worker.release(task.job_id, task.fence)
    with services() as s:
        [line] = s.work.session.scalars(select(UsageRecord).where(UsageRecord.kind == Kind.GPU_SECONDS))
    assert line.cost == cost_of(Kind.GPU_SECONDS, line.quantity, Decimal("7.5"))
    job = client.get(f"/v1/fine_tuning/jobs/{task.job_id}").json()
    assert job["usage"]["cost"] == {"value": float(line.cost), "currency": "usd"}
    assert job["usage"]["gpu_seconds"] == pytest.approx(line.quantity, abs=1e-5)


def test_prices_are_the_operators_to_set_and_everybodys_to_read(client, services):
    with services() as s:
        team = s.identity.create_team("Own", "own")
        keys = {role: s.identity.create_key(team.id, "k", role)[1] for role in (Role.VIEWER, Role.ADMIN)}
    body = {"kind": "energy_kwh", "amount": 0.31}
    for key in keys.values():
        headers = {"Authorization": f"Bearer {key}"}
        assert client.post(PRICES, json=body, headers=headers).status_code == 403
    price = client.post(PRICES, json=body).json()
    assert (price["amount"], price["currency"], price["device_kind"]) == (0.31, "usd", None)
    found = client.get(PRICES, headers={"Authorization": f"Bearer {keys[Role.VIEWER]}"}).json()["data"]
    assert [row["id"] for row in found] == [price["id"]]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "gpu_hour", "amount": -1},
        {"kind": "gpu_hour", "amount": 1, "effective_at": 1_000_000_000},
        {"kind": "storage_gb_month", "amount": 1, "device_kind": "cuda"},
        {"kind": "coffee", "amount": 1},
        {"kind": "gpu_hour", "amount": "NaN"},
        {"kind": "gpu_hour", "amount": 1e12},
    ],
)
def test_a_price_that_cannot_be_is_refused(client, body):
    answer = client.post(PRICES, json=body)
    assert answer.status_code == 400, answer.text


def test_two_prices_for_one_moment_are_refused(client):
    body = {"kind": "gpu_hour", "amount": 1, "effective_at": int(time.time()) + 3600}
    assert client.post(PRICES, json=body).status_code == 200
    answer = client.post(PRICES, json={**body, "amount": 2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "price_exists")


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_the_csv_can_be_run_by_a_spreadsheet(client, add_line, evil):
    add_line(Kind.GPU_SECONDS, 3_600, hours=1, cost="2.5", device_kind="cuda", member=f"key:{evil}", object_id=evil)
    text = client.get("/v1/organization/usage/export.csv", params={"start_time": START_SECONDS}).text
    [header, row] = list(csv.reader(io.StringIO(text, newline="")))
    found = dict(zip(header, row, strict=True))
    assert found["object_id"] == found["api_key_id"] == f"'{evil}"
    assert (found["line_item"], found["quantity"], found["unit"]) == ("gpu_hours, cuda", "1", "duration_hours")
    assert (float(found["cost"]), found["currency"]) == (2.5, "usd")
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


def test_storage_is_sampled_once_for_each_hour(client, world, services, context):
    world.add_file(b'{"text": "x", "label": "a"}\n' * 10, purpose="user_data", filename="a.txt")
    with services() as s:
        s.work.session.execute(update(Team).values(created_at=Team.created_at - timedelta(days=1)))
    with services() as s:
        assert s.usage.sample_storage() >= 1
    with services() as s:
        assert s.usage.sample_storage() == 0
        lines = s.work.session.scalars(select(UsageRecord).where(UsageRecord.kind == Kind.BYTE_SECONDS)).all()
    [own] = [line for line in lines if line.team_id == world.team.team_id]
    assert own.quantity == 280 * 3600
    assert own.ended_at - own.started_at == timedelta(hours=1)
    assert own.ended_at.minute == 0
    page = client.get(
        "/v1/organization/usage/storage", params={"start_time": int(own.started_at.timestamp()), "bucket_width": "1h"}
    ).json()
    assert page["data"][0]["results"][0]["usage_bytes"] == 280


def test_tokens_of_an_evals_run_are_counted_once(world, services):
    run = EvalRun(id="evalrun_1", team_id=world.team.team_id, created_by="key:k", fence=1, tally=_tally(10, 5))
    for _ in range(2):
        with services() as s:
            UsageLedger(s.work.session, s.context.settings).evaluated(run)
    run.fence, run.tally = 2, _tally(40, 6)
    with services() as s:
        UsageLedger(s.work.session, s.context.settings).evaluated(run)
        found = s.work.session.scalars(select(UsageRecord.quantity).where(UsageRecord.object_id == "evalrun_1"))
        assert list(found) == [15, 31]


def _tally(prompt, completion):
    return {"models": {"m": {"invocation_count": 1, "prompt_tokens": prompt, "completion_tokens": completion}}}


@pytest.mark.parametrize("width", ["1h", "1d"])
def test_buckets_are_those_of_a_plain_sum_over_every_line_and_bucket(client, add_line, width):
    chance = random.Random(7)  # noqa: S311 - a seeded test
    seconds = {"1h": 3600, "1d": DAY}[width]
    lines_ = []
    for _ in range(120):
        # Many begin or end on the edge of a bucket, or last no time at all.
        begin, lasts = (
            chance.choice([chance.randrange(-48, 120), chance.uniform(-48, 120)]),
            chance.choice([0, 1, 24, 0.5, 31.7]),
        )
        quantity = chance.randrange(1, 1000)
        add_line(Kind.GPU_SECONDS, quantity, at=begin, hours=lasts)
        lines_.append((begin * 3600, lasts * 3600, quantity))
    page = get(client, "/usage/fine_tuning", end_time=START_SECONDS + 3 * DAY, bucket_width=width, limit=180)
    for number, bucket in enumerate(page["data"]):
        low, high = number * seconds, (number + 1) * seconds
        wanted = sum(
            quantity * (max(0, min(begin + lasts, high) - max(begin, low)) / lasts if lasts else low <= begin < high)
            for begin, lasts, quantity in lines_
        )
        assert sum(r["gpu_seconds"] for r in bucket["results"]) == pytest.approx(wanted, abs=0.01), number
    assert len(page["data"]) == 3 * DAY // seconds
