"""Which room may import which, and the size of a file: read from the sources."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("models", "sweeps", "harness")
FILES = sorted(file for room in (*ROOMS, "tests") for file in (ROOT / room).rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Every module a file imports, at its top or inside, absolute; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = file.relative_to(ROOT).parts[: -node.level]
                base = ".".join((*package, *([base] if base else [])))
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def reaches(file: Path, forbidden: tuple[str, ...]) -> list[str]:
    return sorted(n for n in imported(file) if any(n == room or n.startswith(f"{room}.") for room in forbidden))


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("models", ("sweeps", "harness")),
        ("sweeps", ("harness",)),
        ("harness/fit", ("harness.train", "harness.data", "harness.launch", "models.transformer")),
        ("harness", ("tests",)),
    ],
)
def test_dependencies_point_one_way(room, forbidden):
    offences = {str(file.relative_to(ROOT)): reaches(file, forbidden) for file in (ROOT / room).rglob("*.py")}
    assert {file: names for file, names in offences.items() if names} == {}


@pytest.mark.parametrize("package", [*ROOMS, *(f"harness/{name}" for name in ("data", "train", "fit", "record"))])
def test_packages_import_nothing_heavy_by_themselves(package):
    heavy = "jax flax optax orbax scipy pandas datasets tokenizers tiktoken plotly".split()
    file = ROOT / package / "__init__.py"
    assert {name.split(".")[0] for name in imported(file)}.isdisjoint(heavy)


def test_sweeps_need_no_jax():
    # `isogap plan` answers fast: the accountant and the sizes are plain Python.
    for file in [
        *(ROOT / "sweeps").rglob("*.py"),
        *(ROOT / "models" / f"{n}.py" for n in ("config", "count", "sizes")),
    ]:
        assert reaches(file, ("jax", "flax", "optax", "models.transformer")) == [], file


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_over_400_lines(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400
