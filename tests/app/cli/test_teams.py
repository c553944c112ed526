"""`tunesmith teams`, `keys` and `audit` against the real API."""

import json

import pytest

from tests.app.cli.test_commands import run  # noqa: F401 - a fixture


@pytest.fixture
def said(run):  # noqa: F811
    """Runs a command with --json; what it printed, which must be JSON."""

    def said(*arguments):
        code, out, err = run("--json", *arguments)
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    return said


def test_a_team_is_made_with_a_key_and_archived(run, said):  # noqa: F811
    made = said("teams", "create", "Legal", "--key")[0]
    assert run("--api-key", made["key"], "teams", "list")[1].count("team_") == 1
    assert said("--api-key", made["key"], "teams", "rename", "Law")[0]["name"] == "Law"
    assert len(said("teams", "list")) == 2
    assert said("teams", "archive", made["id"])[0]["status"] == "archived"
    assert len(said("teams", "list")) == 1
    assert len(said("teams", "list", "--archived")) == 2
    code, _, err = run("--api-key", made["key"], "teams", "list")
    assert (code, "revoked" in err) == (1, True)


def test_members_and_accounts_come_and_go(said):
    member = said("teams", "add-member", "a@b.example", "--role", "viewer")[0]
    assert [row["id"] for row in said("teams", "members")] == [member["id"]]
    said("teams", "remove-member", member["id"])
    assert said("teams", "members") == []
    account = said("teams", "add-account", "ci", "--expires-after-seconds", "600")[0]
    assert account["api_key"]["expires_at"] is not None
    assert [row["id"] for row in said("teams", "accounts")] == [account["id"]]
    said("teams", "remove-account", account["id"])
    assert said("teams", "accounts") == []


def test_a_key_is_narrowed(said):
    made = said("keys", "create", "reader", "--permission", "files:read", "--permission", "jobs:read")[0]
    assert made["permissions"] == ["files:read", "jobs:read"]


def test_the_log_is_listed_exported_and_verified_and_a_broken_row_is_named(run, said, tmp_path):  # noqa: F811
    said("keys", "create", "one")
    kept = tmp_path / "kept.head"
    kept.write_text(json.dumps(said("audit", "head")[0]))
    file = tmp_path / "log.jsonl"
    assert run("audit", "export", str(file))[0] == 0
    assert run("audit", "verify")[0] == 0
    assert run("audit", "verify", str(file), "--head", str(kept))[1].startswith("3 rows, unbroken")
    assert run("audit", "verify", "--head", f"{file}.head")[0] == 0
    assert said("audit", "list", "--limit", "1")[0]["type"] == "api_key.created"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], lines[1].replace("made by", "MADE BY"), *lines[2:]]))
    code, out, err = run("audit", "verify", str(file))
    assert (code, "row 2" in out, "broken" in err) == (1, True, True)
    file.write_text("".join(lines[:-1]))
    code, out, _ = run("audit", "verify", str(file), "--head", str(kept))
    assert (code, out.startswith("truncated")) == (1, True)
    kept.write_text("[]")
    assert run("audit", "verify", "--head", str(kept))[0] == 1
