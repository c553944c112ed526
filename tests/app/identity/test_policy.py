"""Who may do what, as a table."""

from itertools import pairwise

import pytest

from app.identity.policy import Permission, Role, is_allowed


def test_an_operator_may_everything_and_each_role_all_that_the_weaker_may():
    for permission in Permission:
        assert is_allowed(Role.OPERATOR, permission)
        for weaker, stronger in pairwise(Role):
            assert is_allowed(stronger, permission) or not is_allowed(weaker, permission)


@pytest.mark.parametrize("permission", [Permission.BASES_WRITE, Permission.POOL_WRITE, Permission.ORGANIZATION_WRITE])
def test_what_all_teams_share_is_not_an_admins_to_change(permission):
    assert not is_allowed(Role.ADMIN, permission)


@pytest.mark.parametrize("permission", [p for p in Permission if p.value.endswith(":write")])
def test_a_viewer_writes_nothing(permission):
    assert not is_allowed(Role.VIEWER, permission)


@pytest.mark.parametrize("permission", [Permission.BASES_WRITE, Permission.TEAM_WRITE, Permission.AUDIT_READ])
def test_only_an_admin_touches_bases_keys_and_the_audit_log(permission):
    assert not is_allowed(Role.TRAINER, permission)
