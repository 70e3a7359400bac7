"""The house: which room may import which, what its names are, how large its files are. All is read from the sources."""

import ast
import graphlib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "sweeps", "harness")
SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
MODULES = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in SOURCES}

# The picture of the house, from the ground up: a room, and the rooms it imports. Every import counts, also one inside
# a function. A room may only name rooms that are above it in this list, so that there is no circle of rooms. A room is
# a folder; the files in harness/ itself are rooms of their own, and `harness` is the door. `harness.` is left out.
PICTURE = """
processes      <-
terminal       <-
models         <-
models.interventions <- models
sweeps         <- models
files          <- sweeps
fit.quantities <- sweeps
fit.laws       <- fit.quantities sweeps
data           <- files processes sweeps
data.simulation <- data
data.worlds    <- data data.simulation
record         <- files models sweeps
fit.problem    <- fit.laws sweeps
fetch.readers  <- data
track          <- files record sweeps
fit.search     <- fit.laws fit.problem
fetch          <- data fetch.readers files terminal sweeps
fit.results    <- fit.problem
fit.certainty  <- fit.laws fit.problem fit.results fit.search
fit.referee    <- fit.certainty fit.laws fit.problem fit.results fit.search sweeps
fit            <- fit.certainty fit.laws fit.problem fit.referee fit.results fit.search sweeps
fit.allocation <- fit fit.certainty fit.laws fit.problem fit.results sweeps
fit.gap_law    <- fit fit.certainty fit.laws fit.problem fit.results fit.search sweeps
fit.shared     <- fit fit.certainty fit.laws fit.problem fit.referee fit.results fit.search sweeps
gaps           <- data files fit.gap_law fit.problem record models sweeps
tables         <- fit.laws fit.problem sweeps
tables.trackers <- tables sweeps
source         <- files fit.laws fit.results gaps record tables sweeps
forecasts      <- files fit fit.laws fit.problem fit.referee fit.results record source sweeps
theory         <- fit fit.gap_law fit.results fit.shared gaps record models sweeps
sampling       <- fit.quantities models sweeps
measures       <- data fit.quantities sampling models sweeps
train          <- data files gaps measures record models sweeps
report         <- files fit fit.allocation fit.certainty fit.gap_law fit.laws fit.problem fit.referee fit.results gaps
                  record source tables theory sweeps
samples        <- data files record sampling train sweeps
machine        <- files processes record terminal train models sweeps
launch         <- data files gaps machine measures processes record tables terminal track train models sweeps
study          <- files fit fit.gap_law fit.laws fit.quantities fit.results forecasts gaps launch machine processes
                  record report source train models sweeps
study.methods  <- fit fit.allocation fit.certainty fit.laws fit.problem study train sweeps
study.papers   <- fit fit.allocation fit.gap_law fit.laws fit.problem fit.quantities fit.results study study.methods
                  models sweeps
study.papers.architectures <- fit.allocation fit.gap_law fit.laws fit.problem study study.methods
study.papers.domains <- data fit fit.gap_law study study.methods sweeps
study.papers.recipes <- fit.gap_law fit.laws fit.problem fit.shared forecasts study sweeps
tuning         <- files fit.allocation fit.problem fit.results launch record models sweeps train
cli            <- data files fit fit.allocation fit.gap_law fit.laws fit.problem fit.results fit.shared forecasts gaps
                  launch processes record report source study tables tables.trackers terminal theory train tuning sweeps
door           <- files fit fit.allocation fit.gap_law fit.laws fit.problem fit.quantities fit.results fit.shared
                  forecasts gaps launch record report source train sweeps
__main__       <- cli processes
harness        <- door fit.allocation fit.gap_law fit.quantities fit.shared source sweeps tables.trackers tuning
"""

# Public names that more than one file may define, and why.
SHARED_NAMES = {
    "ARITHMETIC": "the token world, and what a claim that needs no runs rests on",
    "CROSSOVER": "a law, and the study of that name",
    "GEMSTONES": "the laws of a paper, and the study of its claims",
    "aspect_ratio": "the rule for shapes of models, and the law of that name",
}


def rooms() -> dict[str, set[str]]:
    """The picture as room -> rooms it imports."""
    picture: dict[str, set[str]] = {}
    room = ""
    for line in PICTURE.strip().splitlines():
        name, _, below = line.rpartition("<-")
        room = whole(name.strip()) if name.strip() else room
        picture.setdefault(room, set()).update(map(whole, below.split()))
    return picture


def whole(room: str) -> str:
    """The name of a room as Python knows it."""
    return room if room.split(".")[0] in PACKAGES else f"harness.{room}"


def imported(file: Path) -> set[str]:
    """Every module of the three packages that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def dependencies(module: str) -> set[str]:
    """The modules of the three packages that a module imports; a package alone stands for its `__init__`."""
    names = imported(MODULES[module])
    inner = {name for name in names if name in MODULES}
    # `from package import module` imports the module; the package's own face holds nothing in these cases.
    return {name for name in inner if not any(other.startswith(f"{name}.") for other in inner)} - {module}


def room_of(module: str) -> str:
    """The folder of a module, or the module itself where it stands in harness/."""
    if MODULES[module].name == "__init__.py":
        return module.replace("models.cpu", "models")
    folder = module.rpartition(".")[0]
    if folder == "models.cpu":
        return "models"  # the same maths as XLA's CPU wants it: no room of its own
    return module if folder == "harness" else folder


def reaches(file: Path, forbidden: tuple[str, ...]) -> list[str]:
    return sorted(n for n in imported(file) if any(n == room or n.startswith(f"{room}.") for room in forbidden))


def test_the_picture_is_the_house():
    house = defaultdict(set)
    for module in MODULES:
        room = room_of(module)
        house[room] |= {room_of(name) for name in dependencies(module)} - {room}
    occupied = {room: below for room, below in house.items() if below or any(room in other for other in house.values())}
    assert occupied == rooms()


def test_a_room_imports_only_rooms_below_it():
    built: set[str] = set()
    for room, below in rooms().items():
        assert below <= built, f"{room} reaches up to {sorted(below - built)}"
        built.add(room)


def test_no_files_import_each_other_in_a_circle():
    graph = {module: dependencies(module) for module in MODULES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


def test_fits_know_nothing_of_the_harness_and_nobody_imports_the_tests():
    for file in SOURCES:
        assert reaches(file, ("tests", "scripts")) == [], file
        if file.is_relative_to(ROOT / "harness" / "fit"):
            others = {n for n in imported(file) if n.startswith("harness") and not n.startswith("harness.fit")}
            assert others == set(), file


@pytest.mark.parametrize("package", [module for module, file in MODULES.items() if file.name == "__init__.py"])
def test_packages_import_nothing_heavy_by_themselves(package):
    heavy = set("jax flax optax orbax scipy pandas datasets tokenizers tiktoken plotly".split())
    top = ast.parse(MODULES[package].read_text(encoding="utf-8")).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names}.isdisjoint(heavy)


def test_sweeps_need_no_jax():
    # `isogap plan` answers fast: the accountant and the sizes are plain Python.
    plain = [
        *(ROOT / "sweeps").rglob("*.py"),
        *(ROOT / "models" / f"{name}.py" for name in ("config", "count", "sizes", "traffic")),
    ]
    for file in plain:
        assert reaches(file, ("jax", "flax", "optax", "models.transformer")) == [], file


def test_a_public_name_has_one_home():
    homes = defaultdict(list)
    for module, file in MODULES.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            else:
                continue
            for name in names:
                if not name.startswith("_") and module not in homes[name]:
                    homes[name].append(module)
    repeated = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert len(SHARED_NAMES) <= 15
    assert {name: modules for name, modules in repeated.items() if name not in SHARED_NAMES} == {}
    assert set(SHARED_NAMES) <= set(repeated), "a reason for a name that is defined once"


def documented(tree: ast.Module) -> list[tuple[str, str | None]]:
    """The docstrings of a module, and of its public classes and functions, with their names."""
    nodes = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    commands = {n.name for n in nodes if any("command" in ast.unparse(d) for d in n.decorator_list)}
    texts = [(n.name, ast.get_docstring(n)) for n in nodes if n.name not in commands]
    return [("module", ast.get_docstring(tree)), *texts]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_begin_with_a_sentence(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for name, text in documented(tree):
        if text is None:
            continue
        first = text.splitlines()[0]
        assert not first.endswith(":") or " " in first.strip(), (name, first)
        assert first.split(":")[0] not in ("Args", "Attributes", "Raises", "Returns"), (name, first)


@pytest.mark.parametrize(
    "file", [*SOURCES, *(ROOT / "tests").rglob("*.py")], ids=lambda file: str(file.relative_to(ROOT))
)
def test_no_file_is_over_400_lines(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_folder_holds_more_than_about_20_modules():
    counts = defaultdict(int)
    for file in SOURCES:
        counts[file.parent] += file.name != "__init__.py"
    assert {str(folder.relative_to(ROOT)): n for folder, n in counts.items() if n > 22} == {}
