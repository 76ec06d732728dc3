"""The product's source files as syntax trees, and what they import."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "plantfed_shared": ROOT / "shared",
    "plantfed_agent": ROOT / "edge_agent",
    "plantfed_coordinator": ROOT / "coordinator",
    "plantfed_broker": ROOT / "broker_config",
    "plantfed_compiler": ROOT / "lab",
    "plantfed_lab": ROOT / "lab",
}


@dataclass(frozen=True)
class Source:
    """One module.

    Attributes:
        name: dotted, a package without ``.__init__``.
        text: of the file.
        is_package: it is an ``__init__.py``.
    """

    name: str
    text: str
    is_package: bool = False

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.text)

    @property
    def n_lines(self) -> int:
        return len(self.text.splitlines())

    def place(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 0)}"


@dataclass(frozen=True)
class Import:
    """One imported name: ``from a import b`` is ``a.b``, which may be a module or not."""

    target: str
    place: str

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def product() -> tuple[Source, ...]:
    """Every module of the six packages."""
    found = []
    for package, folder in PACKAGES.items():
        for path in sorted((folder / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found.append(Source(name, path.read_text(encoding="utf-8"), is_package))
    return tuple(found)


def imports(source: Source) -> Iterator[Import]:
    """Everything it imports, wherever in the file, also by name at run time."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, source.place(node))
        elif isinstance(node, ast.ImportFrom):
            base = _base(source, node)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", source.place(node))
        elif isinstance(node, ast.Call) and called_name(node) in ("__import__", "import_module"):
            first = node.args[0] if node.args else None
            named = first.value if isinstance(first, ast.Constant) else "?"
            yield Import(str(named), source.place(node))


def _base(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = source.name.split(".")
    kept = parts[: len(parts) - node.level + (1 if source.is_package else 0)]
    return ".".join([*kept, *([node.module] if node.module else [])])


def called_name(call: ast.Call) -> str:
    """The last name of what is called: ``f`` of ``f()`` and of ``a.b.f()``."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of such an expression, else nothing."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute):
            before = dotted(value)
            return f"{before}.{attribute}" if before else ""
    return ""


def modules_behind(target: str, known: Iterable[str]) -> list[str]:
    """The modules that importing this name runs: itself and every package around it."""
    parts = target.split(".")
    candidates = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return [name for name in candidates if name in known]
