"""What a database promises to the code that uses it, and which promises of an older shape a newer one breaks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

_COLUMNS = """
SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
       a.atthasdef OR a.attidentity <> '' AS filled
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
"""
_RULES = """
SELECT c.relname AS table, o.conname AS name, pg_get_constraintdef(o.oid) AS rule
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
WHERE o.connamespace = 'public'::regnamespace AND o.contype IN ('c', 'f', 'u', 'p', 'x')
"""
_INDEXES = "SELECT tablename AS table, indexname AS name, indexdef AS rule FROM pg_indexes WHERE schemaname = 'public'"
_FUNCTIONS = """
SELECT p.oid::regprocedure::text AS name, pg_get_function_result(p.oid) AS rule
FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
"""
_RIGHTS = """
SELECT table_name AS table, grantee || ' ' || privilege_type AS name, '' AS rule
FROM information_schema.role_table_grants WHERE table_schema = 'public' AND grantee LIKE 'tunesmith_%'
"""
_FILES = "SELECT relname AS table, relfilenode::text AS rule FROM pg_class WHERE relkind = 'r' AND relfilenode <> 0"


@dataclass(frozen=True)
class Column:
    type: str
    is_required: bool
    is_filled: bool
    """By a default of the database, where the writer does not name it."""


@dataclass(frozen=True)
class Shape:
    columns: dict[tuple[str, str], Column]
    rules: dict[tuple[str, str], str]
    indexes: dict[tuple[str, str], str]
    functions: dict[str, str]
    rights: set[tuple[str, str]]
    files: dict[str, str]

    @property
    def tables(self) -> set[str]:
        return {table for table, _ in self.columns} - {"alembic_version"}


def shape_of(connection: Connection) -> Shape:
    def rows(statement: str) -> Any:
        return connection.execute(text(statement)).all()

    return Shape(
        columns={(row.table, row.name): Column(row.type, row.required, row.filled) for row in rows(_COLUMNS)},
        rules={(row.table, row.name): row.rule for row in rows(_RULES)},
        indexes={(row.table, row.name): row.rule for row in rows(_INDEXES)},
        functions={row.name: row.rule for row in rows(_FUNCTIONS)},
        rights={(row.table, row.name) for row in rows(_RIGHTS)},
        files={row.table: row.rule for row in rows(_FILES)},
    )


def breaches(old: Shape, new: Shape) -> list[str]:
    """Why code that was written for `old` may fail on `new`, or would be held up on the way there; in words."""
    return [*_of_columns(old, new), *_of_rules(old, new), *_of_the_rest(old, new)]


def _of_columns(old: Shape, new: Shape) -> Iterator[str]:
    for (table, name), before in old.columns.items():
        if table not in old.tables:
            continue
        after = new.columns.get((table, name))
        if table not in new.tables:
            yield f"the table {table} is gone"
        elif after is None:
            yield f"{table}.{name} is gone"
        elif after.type != before.type:
            yield f"{table}.{name} is {after.type} and was {before.type}"
        elif after.is_required and not before.is_required:
            yield f"{table}.{name} must now be given"
        elif before.is_filled and not after.is_filled and after.is_required:
            yield f"{table}.{name} has no default any more"
    for (table, name), column in new.columns.items():
        is_new = table in old.tables and (table, name) not in old.columns
        if is_new and column.is_required and not column.is_filled:
            yield f"{table}.{name} is new and must be given"


def _of_rules(old: Shape, new: Shape) -> Iterator[str]:
    for (table, name), rule in new.rules.items():
        if table in old.tables and old.rules.get((table, name)) != rule:
            yield f"{table} has the new rule {name}: {rule}"
    for (table, name), rule in new.indexes.items():
        if table in old.tables and (table, name) not in old.indexes and re.match("CREATE UNIQUE", rule):
            yield f"{table} has the new unique index {name}"


def _of_the_rest(old: Shape, new: Shape) -> Iterator[str]:
    for name, result in old.functions.items():
        if new.functions.get(name) != result:
            yield f"the function {name} is gone or answers in another shape"
    for table, right in sorted(old.rights - new.rights):
        if table in new.tables:
            yield f"the right {right} on {table} is gone"
    for table, file in old.files.items():
        if table in old.tables and new.files.get(table, file) != file:
            yield f"{table} is written anew while everybody waits"
