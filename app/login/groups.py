"""What a provider's groups give in our teams: the operator's table, read once, and the strongest role that applies."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from app.identity.policy import Role

_STRENGTH = {role: place for place, role in enumerate(Role)}


@dataclass(frozen=True)
class Gift:
    """A team, by its slug, and the role in it."""

    team: str
    role: Role


def parse_table(text: str) -> Mapping[str, Collection[Gift]]:
    """`group=team:role`, separated by commas, as the settings have checked it; a group may stand there again."""
    table: dict[str, list[Gift]] = {}
    for part in filter(None, text.split(",")):
        group, _, given = part.rpartition("=")
        team, _, role = given.partition(":")
        table.setdefault(group.strip(), []).append(Gift(team, Role(role)))
    return table


def roles_of(groups: Collection[str], table: Mapping[str, Collection[Gift]]) -> Mapping[str, Role]:
    """The role in each team, by slug: of several groups the strongest."""
    found: dict[str, Role] = {}
    for group in groups:
        for gift in table.get(group, ()):
            found[gift.team] = max(gift.role, found.get(gift.team, gift.role), key=_STRENGTH.__getitem__)
    return found
