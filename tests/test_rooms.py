"""The order of the packages: imports point down only, and nowhere in a circle."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: From the top floor to the bottom. A module imports from its own room and from lower ones only.
ROOMS = (
    "entry points",
    "fer_pipeline.throughput",
    "export",
    "export.delivery",
    "export.verification",
    "export.formats",
    "export.spec",
    "fer_pipeline.stages",
    "fer_pipeline.inference.faces",
    "fer_pipeline.inference",
    "fer_pipeline.evaluation",
    "fer_pipeline.training",
    "fer_pipeline.input_pipeline",
    "fer_pipeline.models",
    "fer_pipeline.datasets",
    "fer_pipeline.devices",
    "fer_pipeline.terminal",
    "fer_pipeline",
)

ENTRY_POINTS = {
    "fer_pipeline.describe",
    "fer_pipeline.train",
    "fer_pipeline.evaluate",
    "fer_pipeline.predict",
    "fer_pipeline.report",
    "fer_pipeline.benchmark",
    "fer_pipeline.library",
    "fer_pipeline.__main__",
    "export.__main__",
    "export.pretrained",
}

#: Packages cannot choose when they are imported: this one ends at Ctrl-C as soon as it is.
EXCEPTIONS = {("fer_pipeline", "fer_pipeline.terminal.interruption")}


def modules():
    """Every module of both packages, by its dotted name."""
    found = {}
    for package in ("fer_pipeline", "export"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path, known):
    """The modules of both packages that a file imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else node.module)
    return found & set(known)


def room_of(module):
    """The innermost room that a module lies in."""
    if module in ENTRY_POINTS:
        return "entry points"
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


def test_imports_point_down():
    known = modules()
    upwards = [
        f"{module} ({room_of(module)}) imports {imported} ({room_of(imported)})"
        for module, path in known.items()
        for imported in sorted(imports(path, known))
        if ROOMS.index(room_of(imported)) < ROOMS.index(room_of(module))
        and (module, imported) not in EXCEPTIONS
    ]
    assert not upwards, "\n".join(upwards)


def test_no_module_imports_itself_by_way_of_others():
    known = modules()
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    for module, imported in EXCEPTIONS:
        graph[module].discard(imported)
    # Remove modules whose imports are all removed already; what is left is in a circle.
    while free := [name for name, needed in graph.items() if not needed & graph.keys()]:
        for name in free:
            del graph[name]
    assert not graph, f"in a circle: {graph}"


def test_every_room_is_known():
    folders = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert folders == set(ROOMS) - {"entry points"}
