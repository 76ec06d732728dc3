"""The rules of the house, each a function from sources to violations."""

import ast
from collections.abc import Collection, Mapping, Sequence

from tests.rules.sources import Source, called_name, dotted, imports, modules_behind

LONGEST_MODULE_LINES = 450
LONG_MODULE_LINES = 400
LONGEST_FUNCTION_LINES = 60

MAY_IMPORT: dict[str, frozenset[str]] = {
    "plantfed_shared": frozenset(),
    "plantfed_agent": frozenset({"plantfed_shared"}),
    "plantfed_coordinator": frozenset({"plantfed_shared"}),
    "plantfed_broker": frozenset({"plantfed_shared"}),
    "plantfed_compiler": frozenset({"plantfed_shared"}),
    "plantfed_lab": frozenset(
        {"plantfed_shared", "plantfed_agent", "plantfed_coordinator", "plantfed_broker"}
    ),
}
"""Shared <- agent, coordinator, broker, compiler <- lab; never across, never back."""

ONE_IMPORTER = {
    "paho": "plantfed_shared.bus.connection",
    "sqlite3": "plantfed_shared.store",
    "msgpack": "plantfed_shared.wire",
    "onnxruntime": "plantfed_shared.onnx_session",
}

PURE_LIBRARIES = frozenset(
    {
        "array",
        "bisect",
        "collections",
        "copy",
        "dataclasses",
        "decimal",
        "enum",
        "fnmatch",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "json",
        "math",
        "msgpack",
        "numpy",
        "operator",
        "pydantic",
        "random",
        "re",
        "struct",
        "typing",
        "urllib.parse",
    }
)
"""What a pure module may import besides pure modules; ``random`` for seeded generators only."""

PURE_NAMES = frozenset({"asyncio.Future"})
"""Single names from elsewhere: the type of what a publish returns."""

IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "breakpoint", "tofile"})
NUMPY_FILES = frozenset(
    {
        "fromfile",
        "genfromtxt",
        "load",
        "loadtxt",
        "memmap",
        "save",
        "savetxt",
        "savez",
        "savez_compressed",
    }
)
SEEDED = frozenset({"Random", "RandomState", "default_rng", "Generator", "PCG64", "SeedSequence"})
"""Names in ``random`` and ``numpy.random`` that have no global state, if they are given a seed."""

Violations = list[str]


def directions(sources: Sequence[Source]) -> Violations:
    """A package imports only what its place allows."""
    return [
        f"{found.place} imports {found.target}"
        for source in sources
        for found in imports(source)
        if found.top in MAY_IMPORT
        and found.top != source.package
        and found.top not in MAY_IMPORT[source.package]
    ]


def importers(sources: Sequence[Source], allowed: Mapping[str, str]) -> Violations:
    """Each of these libraries is imported by exactly one module."""
    users: dict[str, set[str]] = {library: set() for library in allowed}
    for source in sources:
        for found in imports(source):
            if found.top in users:
                users[found.top].add(source.name)
    return [
        f"{library} is imported by {sorted(names)}, not by {allowed[library]} alone"
        for library, names in users.items()
        if names != {allowed[library]}
    ]


def run_time_imports(sources: Sequence[Source]) -> Violations:
    """Nothing is imported by a computed name: the other rules could not see it."""
    return [
        f"{found.place} imports by a computed name"
        for source in sources
        for found in imports(source)
        if found.target == "?"
    ]


def impurities(sources: Sequence[Source], pure: Collection[str]) -> Violations:
    """Pure modules exist, import only pure things, and call nothing that is not."""
    by_name = {source.name: source for source in sources}
    violations = [
        f"{name} is listed as pure but is not there" for name in pure if name not in by_name
    ]
    for name in pure:
        source = by_name.get(name)
        if source is not None:
            violations += _impure_imports(source, pure, by_name)
            violations += _impure_calls(source)
    return violations


def _impure_imports(
    source: Source, pure: Collection[str], by_name: Mapping[str, Source]
) -> Violations:
    violations = []
    for found in imports(source):
        if found.top in MAY_IMPORT:
            # together with their own imports, so that purity is transitive
            behind = modules_behind(found.target, by_name)
            impure = [n for n in behind if n not in pure and not _has_no_code(by_name[n])]
        else:
            parts = found.target.split(".")
            prefixes = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
            allowed = found.target in PURE_NAMES or bool(prefixes & PURE_LIBRARIES)
            impure = [] if allowed else [found.target]
        violations += [f"{found.place} is pure but imports {name}" for name in impure]
    return violations


def _has_no_code(source: Source) -> bool:
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for node in source.tree.body
    )


def _impure_calls(source: Source) -> Violations:
    violations = []
    for node in ast.walk(source.tree):
        what = ""
        if isinstance(node, ast.Call):
            name, seeded = called_name(node), bool(node.args or node.keywords)
            if name in IMPURE_CALLS and not _is_our_method(node):
                what = f"calls {name}"
            elif name in SEEDED and not seeded:
                what = f"calls {name} without a seed"
        elif isinstance(node, ast.Attribute):
            what = _impure_attribute(dotted(node))
        elif isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            unseeded = [alias.name for alias in node.names if alias.name not in SEEDED]
            what = f"imports {', '.join(unseeded)} from {node.module}" if unseeded else ""
        if what:
            violations.append(f"{source.place(node)} is pure but {what}")
    return violations


def _is_our_method(call: ast.Call) -> bool:
    """``bus.open()`` is a call of a port; ``open()`` and ``array.tofile()`` are not."""
    return isinstance(call.func, ast.Attribute) and call.func.attr != "tofile"


def _impure_attribute(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    if module in ("random", "np.random", "numpy.random") and attribute not in SEEDED:
        return f"uses the global generator {name}"
    if module in ("np", "numpy") and attribute in NUMPY_FILES:
        return f"uses a file by {name}"
    if name in ("json.load", "json.dump"):
        return f"uses a file by {name}"
    return ""


def prints(sources: Sequence[Source]) -> Violations:
    """Nothing is printed: commands echo, services log."""
    return [
        f"{source.place(node)} prints"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "pprint")
    ]


def swallowed(sources: Sequence[Source], allowed: Mapping[str, str]) -> Violations:
    """No bare except; who catches everything raises it again, or is allowed once for a reason."""
    violations, used = [], []
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and called_name(node) == "suppress":
                if any(_is_broad(argument) for argument in node.args):
                    violations.append(f"{source.place(node)} suppresses everything")
            elif isinstance(node, ast.ExceptHandler):
                if node.type is None:
                    violations.append(f"{source.place(node)} has a bare except")
                elif _is_broad(node.type) and not _raises_again(node):
                    used.append(source.name)
                    if source.name not in allowed or used.count(source.name) > 1:
                        violations.append(f"{source.place(node)} catches everything")
    stale = [
        f"{name} need not be allowed to catch everything" for name in allowed if name not in used
    ]
    return violations + stale


def _is_broad(caught: ast.expr) -> bool:
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(dotted(kind).split(".")[-1] in ("Exception", "BaseException") for kind in kinds)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def long_modules(sources: Sequence[Source]) -> Violations:
    """No module is longer than 450 lines; those over 400 are named with them."""
    if all(source.n_lines <= LONGEST_MODULE_LINES for source in sources):
        return []
    return [
        f"{source.name} has {source.n_lines} lines"
        + ("" if source.n_lines > LONGEST_MODULE_LINES else " (allowed, but long)")
        for source in sources
        if source.n_lines > LONG_MODULE_LINES
    ]


def long_functions(sources: Sequence[Source]) -> Violations:
    """No function is longer than 60 lines."""
    return [
        f"{source.place(node)} {node.name} has {length} lines"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION_LINES
    ]
