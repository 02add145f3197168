"""Imports only go down: the floors of the house, held."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest

SOURCE = Path(str(files("mvai")))

FLOORS = (
    ("types",),
    ("geometry", "progress"),
    ("io",),
    ("body",),
    ("nets",),
    ("detect", "reconstruct", "smooth", "transfer"),
    ("pipeline",),
    ("benchmark",),
    # Evaluate measures what train has made of the benchmark, so it stands above it.
    ("train",),
    ("view", "evaluate"),
    ("imitation",),
    ("api", "doctor"),
    ("cli",),
    ("__main__",),
)
"""From the ground up. What stands on one floor does not import its neighbours."""
FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

HEAVY = ("av", "cv2", "mediapipe", "pyvista", "scipy", "torch", "trimesh", "vtk", "vtkmodules")
"""Libraries that take long to load."""


def modules(source: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in source.rglob("*.py"):
        parts = ("mvai", *path.relative_to(source).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, name: str, known: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a file imports, anywhere in it, functions included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            # `from package import x` means the module x where there is one.
            targets = [
                whole if (whole := f"{node.module}.{alias.name}") in known else node.module or ""
                for alias in node.names
            ]
        else:
            continue
        yield from (t for t in targets if t.split(".")[0] == "mvai")


def room(module: str) -> str:
    """The package, or the module, right under mvai."""
    return module.split(".")[1]


def graph(source: Path) -> dict[str, set[str]]:
    known = modules(source)
    return {name: set(imported(path, name, known)) - {name} for name, path in known.items()}


def violations(imports: dict[str, set[str]]) -> list[str]:
    """Imports that go up or sideways; the package's own front door may open any room."""
    return [
        f"{name} imports {target}"
        for name, targets in sorted(imports.items())
        for target in sorted(targets)
        if name != "mvai"
        and (
            target == "mvai"
            or (room(name) != room(target) and FLOOR_OF[room(name)] <= FLOOR_OF[room(target)])
        )
    ]


def test_every_room_has_a_floor() -> None:
    rooms = {room(name) for name in modules(SOURCE) if name != "mvai"}
    assert rooms <= FLOOR_OF.keys(), f"no floor for {sorted(rooms - FLOOR_OF.keys())}"


def test_imports_go_down() -> None:
    imports = graph(SOURCE)
    assert len(imports) > 50
    assert violations(imports) == []


FAMILIES = ("rig", "npt", "sa_pd")
"""How names of modules begin that belong to one method of transfer, or to two of a kind."""


def family(module: str) -> str:
    """The one that a module of the transfer belongs to; none for what they share."""
    name = module.removeprefix("mvai.transfer.")
    return next((f for f in FAMILIES if name == f or name.startswith(f"{f}_")), "")


def strange_methods(imports: dict[str, set[str]]) -> list[str]:
    """Imports of another family's modules, from one family or from what all share."""
    return [
        f"{name} imports {target}"
        for name, targets in sorted(imports.items())
        if name.startswith("mvai.transfer.")
        for target in sorted(targets)
        if target.startswith("mvai.transfer.") and family(target) and family(target) != family(name)
    ]


def test_methods_of_transfer_stand_side_by_side() -> None:
    """They share what lies below them, such as the registration, and not each other's modules."""
    imports = graph(SOURCE)
    assert strange_methods(imports) == []
    for name, target in (
        ("npt_identity", "rig_feet"),
        ("registration.fit", "rig_feet"),
        ("sa_pd", "npt_rest"),
    ):
        wrong = {f"mvai.transfer.{name}": {f"mvai.transfer.{target}"}}
        assert len(strange_methods(wrong)) == 1


def test_no_method_imports_another() -> None:
    imports = graph(SOURCE)
    for stage in ("detect", "reconstruct", "smooth", "transfer"):
        known = import_module(f"mvai.{stage}").METHODS.values()
        methods = {place.split(":")[0] for place in known}
        assert len(methods) > 2
        for method in methods:
            assert not imports[method] & methods, f"{method} imports another method"


def test_no_import_cycles() -> None:
    try:
        TopologicalSorter(graph(SOURCE)).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def test_front_doors_are_light() -> None:
    """What `import mvai` and `mvai --help` load pulls in no heavy library by itself."""
    known = modules(SOURCE)
    for name in ("mvai", "mvai.cli", "mvai.cli.commands", "mvai.progress", "mvai.types.data"):
        for node in ast.parse(known[name].read_text("utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            heavy = [n for n in names if n.split(".")[0] in HEAVY]
            assert not heavy, f"{name} loads {heavy[0]} when it is imported"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("types/data.py", "from mvai.io.video import open_video"),
        ("io/video.py", "import mvai.cli"),
        ("detect/gaps.py", "def f():\n    from mvai.smooth import METHODS"),
        ("body/anny.py", "from mvai import api"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, module: str, line: str) -> None:
    for name in ("io/video.py", "cli/__init__.py", "smooth/__init__.py", "api.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(line)
    assert len(violations(graph(tmp_path))) == 1
