"""The shape of the code: what the linters cannot see."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("model_store", "service")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SOURCES = sorted([*MODULES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 80
# One broad handler keeps the batch loop alive, one the websocket route; a third needs a decision.
MAX_BROAD_HANDLERS = 3
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "manager"}
# What a module may call while it is imported: names for types, loggers, patterns, frozen data.
DEFINING_CALLS = {
    "NewType", "ParamSpec", "Path", "TypeVar", "TypeVarTuple",
    "compile", "exp", "files", "frozenset", "getLogger", "items", "len", "log", "max", "min", "range",
    "split", "tuple",
    "MappingProxyType", "get_args",
}  # fmt: skip
# Upper case, yet no data: what these make can change, listen or wait.
STATEFUL = {
    "APIRouter", "CollectorRegistry", "Condition", "Counter", "Event", "FastAPI", "Gauge",
    "Generator", "Histogram", "InferenceSession", "Lock", "Queue", "Settings", "Starlette", "Thread",
}  # fmt: skip
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
TORCH_FREE = ("audio", "depth", "errors", "flops", "text")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_module_fits_the_line_limit(path: Path) -> None:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())

    assert num_lines <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_function_fits_the_line_limit(path: Path) -> None:
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]

    assert not long


def test_no_module_is_a_drawer() -> None:
    drawers = [
        named(path) for path in SOURCES if path.stem in DRAWERS or path.parent.name in DRAWERS
    ]

    assert not drawers


def broad_handlers(path: Path) -> Iterator[tuple[str, bool]]:
    """Give each place that catches everything and goes on, and whether it says why."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type) and not reraises(node):
            caught, above = lines[node.lineno - 1], lines[node.lineno - 2].strip()
            yield f"{named(path)}:{node.lineno}", above.startswith("#") or " - " in caught


def reraises(node: ast.ExceptHandler) -> bool:
    last = node.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(is_broad(one) for one in caught.elts)
    return caught is None or (
        isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"}
    )


def test_broad_handlers_are_few_and_each_says_why() -> None:
    found = [handler for path in MODULES for handler in broad_handlers(path)]

    assert len(found) <= MAX_BROAD_HANDLERS, found
    assert all(says_why for _, says_why in found), found


def work_at_import(module: ast.Module) -> Iterator[str]:
    shapers = {
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef)
        and all(is_defining(inner) for inner in ast.walk(node) if isinstance(inner, ast.Call))
    }  # functions of the module that only put data into shape
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            what_else = more_than_a_constant(node, shapers)
            yield from (f"line {node.lineno}: {what}" for what in what_else)
        elif not (isinstance(node, DEFINITIONS) or is_docstring(node) or is_guard(node)):
            yield f"line {node.lineno}: {ast.unparse(node)[:60]}"


def more_than_a_constant(
    node: ast.Assign | ast.AnnAssign, shapers: Collection[str]
) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and not is_defining(inner, shapers):
            yield f"calls {ast.unparse(inner.func)}"
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if node.value is not None and is_state(ast.unparse(target), node.value):
        yield "holds state; keep it on an object, or name it as a constant"


def is_state(name: str, value: ast.expr) -> bool:
    """Tell a container to be filled later from a table: it is empty, or not named as a constant."""
    if isinstance(value, ast.List | ast.Set):
        empty = not value.elts
    elif isinstance(value, ast.Dict):
        empty = not value.keys
    else:
        return False
    return empty or not (name.isupper() or name == "__all__")


def is_defining(call: ast.Call, shapers: Collection[str] = ()) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    return name in DEFINING_CALLS or name in shapers or (name[0].isupper() and name not in STATEFUL)


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_guard(node: ast.stmt) -> bool:
    guards = {"TYPE_CHECKING", "__name__ == '__main__'"}
    return isinstance(node, ast.If) and ast.unparse(node.test) in guards


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_importing_a_module_only_defines(path: Path) -> None:
    assert not list(work_at_import(tree(path)))


@pytest.mark.parametrize(
    "line", ["print(1)", "text = open('f')", "CACHE = {}", "seen = [1]", "done = asyncio.Event()"]
)
def test_the_import_rule_sees_work_and_state(line: str) -> None:
    assert list(work_at_import(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    ["RATES_HZ = (8, 16)", "NAMES = {1: 'a'}", "log = logging.getLogger()"],
)
def test_the_import_rule_lets_constants_pass(line: str) -> None:
    assert not list(work_at_import(ast.parse(line)))


def error_classes(package: str) -> list[type[Exception]]:
    module = importlib.import_module(f"{package}.errors")
    return [
        error
        for _, error in inspect.getmembers(module, inspect.isclass)
        if issubclass(error, Exception) and error.__module__ == module.__name__
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_has_a_stable_code_of_its_own(package: str) -> None:
    codes = {error.__name__: str(vars(error).get("code")) for error in error_classes(package)}

    assert codes
    assert all(re.fullmatch(r"[a-z][a-z0-9_]+", code) for code in codes.values()), codes
    assert len(set(codes.values())) == len(codes), codes


def test_an_error_of_both_trees_has_one_code() -> None:
    library, server = (
        {error.__name__: vars(error).get("code") for error in error_classes(package)}
        for package in PACKAGES
    )

    assert {name: library[name] for name in library.keys() & server.keys()} == {
        name: server[name] for name in library.keys() & server.keys()
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_is_drawn_in_its_tree(package: str) -> None:
    undrawn = [
        error.__qualname__
        for error in error_classes(package)
        if error.__name__ not in (sys.modules[error.__module__].__doc__ or "")
    ]

    assert not undrawn


@pytest.mark.parametrize("room", ["model_store", *(f"model_store.{name}" for name in TORCH_FREE)])
def test_a_room_that_serves_without_torch_loads_without_torch(room: str) -> None:
    probe = f"import sys, {room}; sys.exit('torch' in sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False)

    assert loaded.returncode == 0
