"""The house rules that a machine can hold: who may import whom, where SQL stands, names.

Each rule is a function from a parsed module to what is wrong with it; the last test shows for
each that it does find what it forbids.
"""

import ast
import dataclasses
import functools
import importlib.metadata
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from pathlib import Path

import pytest

pytestmark = pytest.mark.uncovered

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGE = "heliograph"

# Lower levels know nothing of higher ones, and the parts of one level nothing of one another.
# What stands beside the folders (errors, settings, logs, …) is known to all but `model` and the
# simulator, which may use `errors` alone: it sends as devices do, and knows no more of a server.
# The policy is pure, and so stands below the rest of its folder, which keeps in memory what the
# store knows.
LEVELS = {
    "model": 0,
    "simulator": 0,
    "access/policy": 1,
    "packed": 1,
    "store": 2,
    "mqtt": 2,
    "live": 2,
    "access": 3,
    "ingest": 4,
    "configuration": 4,
    "exchange": 4,
    "processing": 4,
    "rollups": 4,
    "brokers": 5,
    "doctor": 5,
    "packer": 5,
    "presence": 5,
    "retention": 5,
    "siblings": 5,
    "http": 6,
    "server": 7,
    "app": 8,
    "cli": 9,
}

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
VAGUE_NAMES |= {"service", "services"}
# What the routes are handed: the running parts of the server, which have no shorter name.
NAMES_WITH_A_MEANING = {"heliograph.http.services"}

DATABASE_PACKAGES = {
    "sqlite3",
    "aiosqlite",
    "aiosql",
    "asyncpg",
    "psycopg",
    "sqlalchemy",
    "alembic",
}

SQL = re.compile(
    r"""
    ^\s*select\b.+?\bfrom\s+\w
    | ^\s*select\s+[\d(*]
    | ^\s*with\s+\w+\s+as\s*\(
    | \binsert\s+into\s+\w
    | ^\s*update\s+\w+\s+set\b
    | ^\s*delete\s+from\s+\w
    | ^\s*(create|alter|drop)\s+(unique\s+)?(table|index|view|schema|trigger|type)\b
    | ^\s*pragma\s+\w+
    | ^\s*copy\s+\w+.*\bfrom\s+stdin\b
    | ^\s*begin\s+immediate\b
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)

# Where packages come from is the affair of whoever installs: no file has such a name, nor this one.
REGISTRIES = ("pypi" + ".org", "python" + "hosted", "debian" + ".org", "npm" + "js")


# A file of fewer lines says why it is apart if only one other needs it.
SMALL = 60
APART = re.compile(r"\ba\s+file\s+of\s+its\s+own\b")


@dataclasses.dataclass(frozen=True)
class Module:
    """A parsed module of the package."""

    name: str
    text: str
    is_package: bool = False

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text)))

    @property
    def part(self) -> str:
        """The folder or file right under the package that it belongs to."""
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def place(self) -> str:
        """Where among the levels it stands: its part, but for a module that has its own level."""
        return place_of(self.name.split("."))


def place_of(parts: list[str]) -> str:
    """Return the place of what is imported, or imports, by the parts of its name."""
    own = "/".join(parts[1:3])
    return own if own in LEVELS else "".join(parts[1:2])


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_modules() -> list[Module]:
    return [
        Module(module_name(path), path.read_text(), path.name == "__init__.py")
        for path in sorted((SOURCE / PACKAGE).rglob("*.py"))
    ]


MODULES = read_modules()
MODULE_NAMES = {module.name for module in MODULES}


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything imported, also where only types are checked."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def wrong_imports(module: Module) -> Iterator[str]:
    for line, name in imports(module):
        if name.startswith("."):
            yield f"{module.name}:{line} imports {name}, which should be absolute"
        parts = name.split(".")
        if parts[0] != PACKAGE or len(parts) < 2:
            continue
        own, other = module.place, place_of(parts)
        if own == other or other.startswith("__"):
            continue
        if own in ("model", "simulator"):
            allowed = other == "errors"
        elif own not in LEVELS:
            allowed = other not in LEVELS or other == "model"
        else:
            allowed = other not in LEVELS or LEVELS[other] < LEVELS[own]
        if not allowed:
            yield f"{module.name}:{line} imports {name}, against the direction of imports"


def unplaced(module: Module) -> Iterator[str]:
    if module.is_package and module.name.count(".") == 1 and module.part not in LEVELS:
        yield f"{module.name} has no place among the levels"


def graph_of(modules: list[Module]) -> dict[str, set[str]]:
    """Return what each module imports of the others, also where only types are checked."""
    names = {module.name for module in modules}
    return {
        module.name: {
            target
            for _, name in imports(module)
            for target in (name, name.rpartition(".")[0])
            if target in names and target not in (module.name, PACKAGE)
        }
        for module in modules
    }


def circles(modules: list[Module]) -> list[set[str]]:
    """Return the sets of modules each of which leads by its imports to all others of the set."""
    graph = graph_of(modules)

    @functools.cache
    def reached(name: str) -> frozenset[str]:
        found: set[str] = set()
        ahead = set(graph[name])
        while ahead:
            found |= ahead
            ahead = {target for each in ahead for target in graph[each]} - found
        return frozenset(found)

    sets = {
        frozenset(other for other in reached(name) if name in reached(other))
        for name in graph
        if name in reached(name)
    }
    return [set(each) for each in sets]


def folders_with_modules() -> set[str]:
    """Return the folders below the package; those below the migrations are one."""
    paths = (path.parent.relative_to(SOURCE / PACKAGE) for path in (SOURCE / PACKAGE).rglob("*.py"))
    names = {str(path).partition("/versions")[0] for path in paths}
    return names - {"."}


def maps(text: str) -> list[str]:
    """Return the blocks of code that are in no language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in blocks if not language]


def mapped(block: str) -> set[str]:
    """Return the folders that a map names, each below those that are indented less."""
    above: list[tuple[int, str]] = []
    found = set()
    for indent, name in re.findall(r"^( *)([\w./-]+)/", block, re.MULTILINE):
        above = [each for each in above if each[0] < len(indent)]
        above.append((len(indent), name))
        found.add("/".join(name for _, name in above))
    return found


def written_levels(text: str) -> list[set[str]]:
    """Return the parts that the line with arrows names, the lowest first."""
    [chain] = re.findall(r"^`model`[, ].*?←.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return [set(re.findall(r"`([\w/]+)`", level)) for level in chain.split("←")]


def classes_of_one_name(modules: list[Module]) -> dict[str, list[str]]:
    """Return the modules of each name that several have a class of, but for private ones."""
    found: dict[str, list[str]] = {}
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module.name)
    return {name: where for name, where in found.items() if len(where) > 1}


def docstrings(module: Module) -> set[int]:
    """Return the ids of the nodes that are docstrings."""
    return {
        id(node.body[0].value)
        for node in module.nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def stray_sql(module: Module) -> Iterator[str]:
    if module.part == "store":
        return
    ignored = docstrings(module)
    for node in module.nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) not in ignored and SQL.search(node.value):
            yield f"{module.name}:{node.lineno} holds SQL: {node.value[:50]!r}"
    for line, name in imports(module):
        if name.split(".")[0] in DATABASE_PACKAGES:
            yield f"{module.name}:{line} imports {name}, which is the store's affair"


ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def stray_decisions(module: Module) -> Iterator[str]:
    if module.part in ("access", "model"):
        return
    for node in module.nodes:
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ORDERS):
            continue
        if any(ast.unparse(each).startswith("Role.") for each in (node.left, *node.comparators)):
            yield f"{module.name}:{node.lineno} compares roles, which is the policy's affair"


def vague_names(module: Module) -> Iterator[str]:
    if module.name.rpartition(".")[2] in VAGUE_NAMES and module.name not in NAMES_WITH_A_MEANING:
        yield f"{module.name} has a name that says nothing"


SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no cover)")
REASON = re.compile(r"\s[-#]\s*\w.{4,}")


def unexplained_suppressions(module: Module) -> Iterator[str]:
    if not SUPPRESSION.search(module.text):
        return
    explained: dict[int, str] = {}  # line → the suppression whose reason holds there
    for token in tokenize.generate_tokens(StringIO(module.text).readline):
        if token.type != tokenize.COMMENT or not (found := SUPPRESSION.search(token.string)):
            continue
        line, rest = token.start[0], token.string[found.end() :]
        if REASON.search(rest) or explained.get(line - 1) == found[1]:
            explained[line] = found[1]
        else:
            yield f"{module.name}:{line} gives no reason: {token.string}"


def nameless_tasks(module: Module) -> Iterator[str]:
    for node in module.nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("create_task", "ensure_future")
            and not any(keyword.arg == "name" for keyword in node.keywords)
        ):
            yield f"{module.name}:{node.lineno} starts a task without a name"


def sleeps(module: Module) -> Iterator[str]:
    if module.part == "cli" or "sleep" not in module.text:
        return
    for node in module.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep"):
            yield f"{module.name}:{node.lineno} sleeps, which stops all else in its thread"


def canonical_name(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def required_name(requirement: str) -> str:
    return canonical_name(re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0])


def declared_packages(*, development: bool) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    if development:
        wanted += project["dependency-groups"]["dev"]
    return {required_name(requirement) for requirement in wanted}


# pydantic is published in two packages, the second for its core alone.
PARTS_OF_OTHERS = {"pydantic-core": "pydantic"}


@functools.cache
def distributions() -> dict[str, set[str]]:
    return {
        package: {PARTS_OF_OTHERS.get(n, n) for n in map(canonical_name, names)}
        for package, names in importlib.metadata.packages_distributions().items()
    }


# Ruff lets nothing be imported but at the start of a line of its own. Lines of text look so too.
LIKE_AN_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+(\w+)", re.MULTILINE)


def undeclared_imports(module: Module, declared: set[str], own: set[str]) -> Iterator[str]:
    known = {PACKAGE, *own, *sys.stdlib_module_names}
    known |= {package for package, names in distributions().items() if names & declared}
    if known.issuperset(LIKE_AN_IMPORT.findall(module.text)):
        return
    for line, name in imports(module):
        package = name.split(".")[0]
        if package and package not in known:
            yield f"{module.name}:{line} imports {package}, which pyproject.toml does not declare"


def committed_files() -> list[Path]:
    """Return the files that are, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@functools.cache
def own_paths() -> tuple[str, ...]:
    """Return where this checkout lies, and the one whose worktree it may be."""
    command = ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"]
    shared = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return f"{ROOT}/", f"{Path(shared.stdout.strip()).parent}/"


def foreign_addresses(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if any(address in line for address in (*REGISTRIES, *own_paths())):
            yield f"{name}:{number} names an address or path of one machine: {line.strip()[:80]}"


def lonely(modules: list[Module]) -> Iterator[str]:
    """Yield small files that one other imports alone and that do not say why they are apart.

    A command, a resource over HTTP and a subject of the store have a file each; migrations too.
    """
    graph = graph_of(modules)
    for module in modules:
        has_its_own = module.part == "cli" or "migrations" in module.name
        has_its_own |= any(each in module.text for each in ("= Resource(", "(Subject):"))
        is_small = len(module.text.splitlines()) < SMALL and not module.is_package
        if has_its_own or not is_small or APART.search(module.text):
            continue
        importers = [name for name, others in graph.items() if module.name in others]
        if len(importers) == 1:
            yield f"{module.name} is imported by {importers[0]} alone: why is it a file of its own?"


RULES: list[Callable[[Module], Iterator[str]]] = [
    wrong_imports,
    unplaced,
    stray_sql,
    stray_decisions,
    vague_names,
    unexplained_suppressions,
    nameless_tasks,
    sleeps,
]


def assert_none(complaints: Iterable[str]) -> None:
    """Fail with every complaint on a line of its own."""
    if found := "\n".join(complaints):
        pytest.fail(found, pytrace=False)


def test_rules_hold_in_every_module() -> None:
    """All of them at once, since to parse the modules takes longer than to look through them."""
    assert_none(complaint for module in MODULES for rule in RULES for complaint in rule(module))
    # Imports for types count as well.
    assert circles(MODULES) == []
    assert classes_of_one_name(MODULES) == {}
    assert_none(lonely(MODULES))


def test_nothing_has_a_place_that_is_not_there() -> None:
    assert LEVELS.keys() - {module.place for module in MODULES} == set()


def test_contributing_maps_every_folder_and_names_the_levels() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    repository, package = maps(text)[:2]
    committed = {path.relative_to(ROOT).parts for path in committed_files()}
    assert mapped(repository) == {parts[0] for parts in committed if len(parts) > 1}
    below = {name.removeprefix("src/heliograph/") for name in mapped(package)}
    assert below == {"src/heliograph", *folders_with_modules()}
    levels = [
        {part for part, at in LEVELS.items() if at == level}
        for level in range(max(LEVELS.values()) + 1)
    ]
    assert written_levels(text) == levels


def test_sql_files_stand_in_the_store_and_with_rollups_only() -> None:
    strays = [path for path in committed_files() if path.suffix == ".sql"]
    folders = [SOURCE / PACKAGE / "store", SOURCE / PACKAGE / "rollups" / "queries"]
    folders.append(ROOT / "tests" / "integration" / "store")  # databases of older versions
    assert [path for path in strays if not any(map(path.is_relative_to, folders))] == []


def test_source_imports_declared_packages_only() -> None:
    declared = declared_packages(development=False)
    assert_none(line for module in MODULES for line in undeclared_imports(module, declared, set()))


def test_tests_and_benchmark_import_declared_packages_only() -> None:
    declared = declared_packages(development=True)
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    own = {path.stem for path in files}
    own |= {part for path in files for part in path.relative_to(ROOT).parts[:-1]}
    modules = [Module(str(path.relative_to(ROOT)), path.read_text()) for path in files]
    assert_none(line for module in modules for line in undeclared_imports(module, declared, own))


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    assert_none(
        complaint
        for path in committed_files()
        for complaint in foreign_addresses(
            str(path.relative_to(ROOT)), path.read_text(errors="replace")
        )
    )


BROKEN = [
    (wrong_imports, "heliograph.store.sqlite", "from heliograph.http import application"),
    (wrong_imports, "heliograph.store.sqlite", "from heliograph.mqtt import topics"),
    (wrong_imports, "heliograph.access.policy", "from heliograph.store import Store"),
    (wrong_imports, "heliograph.access.policy", "from heliograph.access import registry"),
    (wrong_imports, "heliograph.store.sqlite", "from heliograph.access import registry"),
    (wrong_imports, "heliograph.model.time", "from heliograph import settings"),
    (wrong_imports, "heliograph.simulator.fleet", "from heliograph.model.time import now"),
    (wrong_imports, "heliograph.logs", "import heliograph.store"),
    (wrong_imports, "heliograph.http.devices", "from . import access"),
    (stray_sql, "heliograph.http.devices", "query = 'SELECT id FROM sensor'"),
    (stray_sql, "heliograph.http.devices", "query = f'insert into {table} values (1)'"),
    (stray_sql, "heliograph.http.devices", "import sqlite3"),
    (stray_decisions, "heliograph.http.devices", "if role_in(caller, place) >= Role.EDITOR: pass"),
    (vague_names, "heliograph.http.utils", ""),
    (vague_names, "heliograph.ingest.services", ""),
    (unexplained_suppressions, "heliograph.app", "import os  # noqa: F401"),
    (unexplained_suppressions, "heliograph.app", "x: int = ''  # type: ignore[assignment]"),
    (nameless_tasks, "heliograph.app", "group.create_task(run())"),
    (sleeps, "heliograph.app", "time.sleep(1)"),
]


@pytest.mark.parametrize(("rule", "name", "text"), BROKEN)
def test_rule_finds_what_it_forbids(
    rule: Callable[[Module], Iterator[str]], name: str, text: str
) -> None:
    assert len(list(rule(Module(name, text.replace("{table}", "sensor"))))) == 1


def test_other_rules_find_what_they_forbid() -> None:
    circle = [
        Module("heliograph.http.one", "from heliograph.http import two"),
        Module("heliograph.http.two", "if TYPE_CHECKING:\n from heliograph.http.one import name"),
        Module("heliograph.http.three", "from heliograph.http import one, two"),
    ]
    assert circles(circle) == [{"heliograph.http.one", "heliograph.http.two"}]
    same = [Module("heliograph.http.one", "class Plan: ..."), Module("two", "class Plan: ...")]
    assert classes_of_one_name(same) == {"Plan": ["heliograph.http.one", "two"]}
    user = Module("heliograph.http.four", "from heliograph.http import small")
    for text, complaints in (("x = 1", 1), ('"""So it is a\nfile of its own."""', 0)):
        assert len(list(lonely([Module("heliograph.http.small", text), user]))) == complaints
    assert list(unplaced(Module("heliograph.plugins", "", is_package=True))) != []
    for address in (REGISTRIES[0], f"{ROOT}/README.md"):
        assert list(foreign_addresses("README.md", f"see {address}")) != []
    assert mapped("a/  one\n  b/  two\nc.py\nd/  three\n") == {"a", "a/b", "d"}
    assert written_levels("`model` ← `store`, `mqtt` ← `http`") == [
        {"model"},
        {"store", "mqtt"},
        {"http"},
    ]
    stranger = Module("heliograph.app", "import ruff_is_no_import_of_ours")
    assert list(undeclared_imports(stranger, {"msgspec"}, set())) != []
    told = Module("heliograph.app", '"""Takes what is\n    from elsewhere."""')
    assert list(undeclared_imports(told, {"msgspec"}, set())) == []


def test_a_reason_on_the_line_above_serves_a_run_of_suppressions() -> None:
    text = "a = 1  # noqa: A001 - the library's own name\nb = 1  # noqa: A001\n"
    assert list(unexplained_suppressions(Module("heliograph.app", text))) == []
