"""Who may import whom: what import-linter checks, and what it cannot say."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "workers", "migrations")
FEATURES = frozenset(
    {
        *("audit", "identity", "webhooks", "usage", "files", "datasets", "bases", "registry", "pool", "jobs", "chat"),
        *("previews", "evals"),
    }
)


def python_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_import_contracts_hold():
    # In a process of its own: import-linter switches off every logger it does not know.
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]


@pytest.mark.parametrize("module", ["app.main", "app.factory", "workers.celery_app"])
def test_importing_the_api_or_a_supervisor_leaves_torch_out(module):
    code = f"import sys, {module}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.split() == ["False", "False"]


def test_no_feature_uses_another_features_repository():
    guilty = []
    for path in python_files():
        owner = path.relative_to(ROOT).parts[1]
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "app" and len(parts) > 2 and parts[2].endswith("repository") and parts[1] != owner:
                guilty.append(f"{path.relative_to(ROOT)} imports {module}")
    assert guilty == []


def test_only_repositories_the_database_folder_and_the_edge_write_sql():
    allowed = {"db", "api", "embedded"}
    guilty = []
    for path in sorted((ROOT / "app").rglob("*.py")):
        folder, name = path.relative_to(ROOT / "app").parts[0], path.name
        if folder in allowed or name.endswith("repository.py"):
            continue
        names = {module for module in imported_modules(path) if module.startswith("sqlalchemy.")}
        guilty += [
            f"{path.relative_to(ROOT)} imports {module}"
            for module in names
            if module.rpartition(".")[2] in {"select", "insert", "update", "delete", "text"}
        ]
    assert guilty == []


def test_each_feature_of_this_list_exists():
    assert {name for name in FEATURES if not (ROOT / "app" / name / "__init__.py").exists()} == set()
