"""The house rules that a machine can read: which module may import which, what is never loaded, what the wheel holds.

Sources are read with `ast`, function bodies included, and never imported.
"""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "convexattack"
OUTSIDE = ("verification", "benchmarks", "tests")

# A room imports from lower levels and itself; rooms of one level are blind to each other. "" is the package's __init__.
LEVEL = {
    "solution": 0,
    "numerics": 0,
    "enclosures": 0,
    "losses": 0,
    "datasets": 0,
    "norms": 1,
    "models": 1,
    "linearize": 1,
    "sets": 2,
    "programs": 3,
    "certificates": 4,
    "solvers": 4,
    "judged": 5,
    "attacks": 6,
    "files": 6,
    "robustness": 7,
    "explain": 7,
    "verify": 7,
    "runs": 8,
    "": 8,
    "testing": 9,
    "cli": 9,
}
TIMED = "solvers.conic.bare"  # what a benchmark may use on top of the public names: the floor under a re-solve
WITHOUT_CVXPY = (f"{PACKAGE}.certificates", f"{PACKAGE}.solvers.closed_form", f"{PACKAGE}.judged", f"{PACKAGE}.attacks")
KINDS = {"Ball", "Box", "CustomSet", "Interval", "NormBall", "ConeSlice"}  # what only these rooms may tell apart:
TELLERS = (f"{PACKAGE}.sets", f"{PACKAGE}.programs.normal")
LONGEST = 50  # lines of a function
LONG: dict[str, str] = {  # those that are longer, and why
    "convexattack.datasets._rows": "whatever the reading library raises becomes one sentence that says what was read",
    "convexattack.models.train.train": "a recipe is read in one go",
    "convexattack.models.train.main": "the options of a command line",
    "convexattack.solvers.operator_norm._some": "a branch for each range of p, a few lines each",
}
LINES = 19_600  # of the package; it is to shrink
IMPORTS_BY_NAME = {"cli", "models"}  # a user's own MODULE:FACTORY
PUBLIC_ROOMS = {"testing", "models", "datasets"}
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*folders: str) -> dict[str, Path]:
    """Module names and their files, in the given top folders."""
    return {module_name(path): path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))}


PACKAGE_FILES = sources(PACKAGE)
OUTSIDE_FILES = sources(*OUTSIDE)


def imported(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Every (line, absolute dotted name) that the source imports; "?" for a name computed at run time."""
    package = module.split(".") if is_package else module.split(".")[:-1]

    def absolute(name: str, level: int) -> str:
        return ".".join([*package[: len(package) - level + 1], *filter(None, [name])]) if level else name

    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                yield from ((node.lineno, f"{absolute(base or '', level)}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"), args=[name, *_]
            ):
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    bare = name.value.lstrip(".")
                    yield node.lineno, absolute(bare, len(name.value) - len(bare))
                else:
                    yield node.lineno, "?"


def room(module: str) -> str:
    return [*module.split("."), ""][1]


def own_module(name: str, modules: set[str]) -> str:
    """The module of this package that an imported name `convexattack.a.b.Name` stands for."""
    parts = name.split(".")
    return next(prefix for n in range(len(parts), 0, -1) if (prefix := ".".join(parts[:n])) in modules | {PACKAGE})


def wrong_imports(source: str, module: str, modules: set[str], is_package: bool = False) -> list[str]:
    """What the source imports against the direction of the house, one sentence each."""
    here = room(module)
    if here not in LEVEL:
        return [f"{module} has no level: give it one in LEVEL"]
    inside_solvers = here == "solvers" and module != f"{PACKAGE}.solvers"
    wrong = []
    for line, name in imported(source, module, is_package):
        say = f"{module}:{line} imports {name}: "
        if name == "?" and here not in IMPORTS_BY_NAME:
            wrong.append(say + "a name that is computed cannot be checked")
        top = name.split(".")[0]
        if top in OUTSIDE:
            wrong.append(say + "it is not in the wheel")
        if top == "cvxpy" and module.startswith(WITHOUT_CVXPY):
            wrong.append(say + "this module does without CVXPY")
        if top != PACKAGE:
            continue
        target = own_module(name, modules)
        there = room(target)
        if there not in LEVEL:
            wrong.append(say + f"{target} has no level: give it one in LEVEL")
        elif there != here and LEVEL[there] >= LEVEL[here]:
            wrong.append(say + f"{there or 'the package itself'} does not stand below {here or 'the package itself'}")
        elif there == "solvers" and inside_solvers and target.split(".")[:3] != module.split(".")[:3]:
            wrong.append(say + "the solvers share nothing")
        elif there == "solvers" and here != "solvers" and target != f"{PACKAGE}.solvers":
            wrong.append(say + "only solvers/__init__ imports a solver")
    return wrong


def not_names(source: str) -> list[int]:
    """The lines of the package's __init__ that are no docstring, import of its own, __all__ or __version__."""

    def is_name(node: ast.stmt) -> bool:
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                return True
            case ast.ImportFrom(module=base, level=level):
                return base == "__future__" or level == 1 or (base or "").split(".")[0] == PACKAGE
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=elements) | ast.Tuple(elts=elements)):
                return all(isinstance(element, ast.Constant) for element in elements)
            case ast.Assign(targets=[ast.Name(id="__version__")], value=ast.Constant(value=str())):
                return True
        return False

    return [node.lineno for node in ast.parse(source).body if not is_name(node)]


def public_names(source: str) -> set[str]:
    """The names that the package's __init__ binds and that do not begin with an underscore."""
    bound = {
        alias.asname or alias.name
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    } - {"annotations"}
    return {name for name in bound if not name.startswith("_")} | {"__version__"}


def dotted_name(node: ast.AST) -> str:
    """`a.b.c` of a chain of names; "" for anything else, and for what a call returns."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            base = dotted_name(value)
            return f"{base}.{name}" if base else ""
    return ""


def private_uses(source: str, module: str, public: set[str], modules: set[str], is_package: bool = False) -> list[str]:
    """What the source takes from the package besides its public names and its public rooms."""
    rooms = {room(name) for name in modules}

    def is_public(dotted: str) -> bool:
        """Whether what follows `convexattack.` is a public name, or lies in a public room under no underscore."""
        if dotted == TIMED and module.startswith("benchmarks"):
            return True
        first, *rest = dotted.split(".")
        if any(part.startswith("_") for part in rest):
            return False
        return first in PUBLIC_ROOMS or (first in public and not (first in rooms and rest))

    wrong = []
    aliases = {PACKAGE}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname for alias in node.names if alias.name == PACKAGE and alias.asname}
    for line, name in imported(source, module, is_package):
        top, _, rest = name.partition(".")
        if name == "?" or (top == PACKAGE and rest and not is_public(rest)):
            wrong.append(f"{module}:{line} imports {name}, which is no public name")
    for node in ast.walk(tree):
        base, _, rest = dotted_name(node).partition(".")
        if isinstance(node, ast.Attribute) and base in aliases and not is_public(rest):
            wrong.append(f"{module}:{node.lineno} uses {base}.{rest}, which is no public name")
    return wrong


def unsafe_loads(source: str) -> list[int]:
    """The lines at which the source could run what a file says: pickle and its kin, torch.load, allow_pickle."""
    lines = [line for line, name in imported(source, "") if name.split(".")[0] in UNSAFE or name == "torch.load"]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                lines.append(node.lineno)
            case ast.keyword(arg="allow_pickle", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                lines.append(value.lineno)
            case ast.Attribute(attr="read_pickle" | "to_pickle"):
                lines.append(node.lineno)
    return lines


MACHINE_PATH = re.compile(r"(?<![\w~.])/(?:work|tmp|root|home|farm|opt|Users)/[\w.]")
PACKAGE_INDEX = re.compile(
    r"--(?:extra-)?index[-]url|--find[-]links|registry[=]|pypi[.]org|pythonhosted[.]org|download[.]pytorch"
)


@pytest.mark.parametrize("module", PACKAGE_FILES)
def test_imports_go_one_way(module: str) -> None:
    path = PACKAGE_FILES[module]
    assert wrong_imports(path.read_text(), module, set(PACKAGE_FILES), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("norms", "from convexattack.sets import Ball"),
        ("norms", "def f():\n    if True:\n        from . import sets"),
        ("losses", "from .norms import Lp"),
        ("sets", "class A:\n    def f(self):\n        from .programs import GN"),
        ("linearize", "import convexattack.programs.gn as gn"),
        ("programs.gn", "from ..solvers import solve"),
        ("programs.gn", "from convexattack import solvers"),
        ("programs.gn", "def f():\n    import convexattack as ca\n    return ca.solve"),
        ("certificates", "def f():\n    from convexattack.solvers import solve"),
        ("certificates", "from importlib import import_module\nimport_module('convexattack.solvers')"),
        ("certificates", "import importlib\nimportlib.import_module('.solvers', 'convexattack')"),
        ("certificates", "__import__('convexattack.' + 'solvers')"),
        ("certificates", "def f():\n    import cvxpy as cp"),
        ("solvers", "from convexattack.certificates import certify"),
        ("solvers.closed_form", "from cvxpy import Variable"),
        ("solvers.closed_form", "from .conic import solve"),
        ("solvers.conic", "def f():\n    from . import closed_form"),
        ("solvers.conic", "from convexattack.solvers import Solution"),
        ("attacks", "from convexattack.solvers.closed_form import solve"),
        ("attacks", "from .robustness import rho_1"),
        ("robustness", "if TYPE_CHECKING:\n    from .cli import main"),
        ("cli", "from verification import proposition_1"),
        ("helpers", ""),
        ("sets", "from .helpers import f"),
    ],
)
def test_an_import_against_the_direction_is_found(module: str, source: str) -> None:
    rooms = "norms losses sets linearize programs programs.gn certificates attacks robustness cli helpers"
    rooms += " solvers solvers.closed_form solvers.conic"
    modules = {f"{PACKAGE}.{name}" for name in rooms.split()} | {PACKAGE}
    wrong = wrong_imports(source, f"{PACKAGE}.{module}", modules, is_package=module in {"programs", "solvers"})
    assert len(wrong) == 1
    assert wrong[0].startswith(f"{PACKAGE}.{module}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("datasets", "import datasets\nfrom datasets import load_dataset"),
        ("sets", "import cvxpy as cp\nfrom .norms import Lp\nfrom convexattack.norms import Lp"),
        ("programs", "from .gn import GN"),
        ("programs.gn", "from ..sets import Ball\nfrom convexattack.programs.gnii import GNII"),
        ("solvers", "from . import closed_form, conic\nfrom ..programs import GN"),
        ("solvers.conic", "import cvxpy"),
        ("attacks", "from .certificates import certify\nfrom convexattack.solvers import solve"),
        ("cli", "import convexattack as ca\nfrom importlib import import_module\nimport_module(name)"),
        ("", "from convexattack.norms import Lp\nfrom .solvers import solve"),
    ],
)
def test_an_import_along_the_direction_passes(module: str, source: str) -> None:
    rooms = "norms datasets sets programs programs.gn programs.gnii certificates attacks cli"
    rooms += " solvers solvers.closed_form solvers.conic"
    modules = {f"{PACKAGE}.{name}" for name in rooms.split()} | {PACKAGE}
    name = f"{PACKAGE}.{module}".rstrip(".")
    assert wrong_imports(source, name, modules, is_package=module in {"", "programs", "solvers"}) == []


def told_apart(source: str) -> list[int]:
    """The lines at which the source asks of what kind a set or an atom is."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and dotted_name(node.func) in ("isinstance", "issubclass") and len(node.args) == 2
        for part in ast.walk(node.args[1])
        if dotted_name(part).split(".")[-1] in KINDS
    ]


@pytest.mark.parametrize("module", [name for name in PACKAGE_FILES if not name.startswith(TELLERS)])
def test_kinds_of_sets_are_told_apart_in_their_own_room(module: str) -> None:
    assert told_apart(PACKAGE_FILES[module].read_text()) == []


def test_a_question_of_kind_is_found() -> None:
    source = "isinstance(x, Ball)\nisinstance(x, GN | ca.Box)\nisinstance(x, (int, sets.CustomSet))\nisinstance(x, Lp)"
    assert told_apart(source) == [1, 2, 3]


def long_functions(source: str, module: str) -> set[str]:
    """The functions of more than `LONGEST` lines, their docstrings and blank lines left out."""
    lines, found = source.splitlines(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            code = [line for part in body for line in lines[part.lineno - 1 : part.end_lineno] if line.strip()]
            if len(code) > LONGEST:
                found.add(f"{module}.{node.name}")
    return found


@pytest.mark.parametrize("module", PACKAGE_FILES)
def test_functions_are_short(module: str) -> None:
    assert long_functions(PACKAGE_FILES[module].read_text(), module) - set(LONG) == set()


def test_the_package_stays_small() -> None:
    assert sum(len(path.read_text().splitlines()) for path in PACKAGE_FILES.values()) <= LINES


def test_the_package_itself_holds_names_only() -> None:
    assert not_names((ROOT / PACKAGE / "__init__.py").read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "from torch import Tensor",
        "x = 1",
        "def f(): ...",
        "__all__ = sorted(globals())",
        "if True: pass",
        "f()",
    ],
)
def test_more_than_a_name_is_found(line: str) -> None:
    head = '"""Doc."""\nfrom __future__ import annotations\nfrom .norms import Lp\n__all__ = ["Lp"]\n__version__ = "1"'
    assert not_names(f"{head}\n{line}\n") == [6]


@pytest.mark.parametrize("module", [name for name in OUTSIDE_FILES if not name.startswith("tests")])
def test_claims_and_benchmarks_use_public_names(module: str) -> None:
    path = OUTSIDE_FILES[module]
    public = public_names((ROOT / PACKAGE / "__init__.py").read_text())
    assert private_uses(path.read_text(), module, public, set(PACKAGE_FILES), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    "source",
    [
        "from convexattack.solvers import solve",
        "from convexattack.solvers.closed_form import steepest",
        "from convexattack import solvers",
        "from convexattack import _steepest",
        "from convexattack import anything_else",
        "from convexattack.testing import _check",
        "import convexattack.programs.gn",
        "import convexattack as ca\ndef f():\n    return ca._steepest",
        "import convexattack as ca\nca.solvers",
        "import convexattack as ca\nca.linearize.Linearization",
        "import convexattack\nconvexattack.Lp2(1)",
        "import importlib\nimportlib.import_module(name)",
    ],
)
def test_a_private_use_is_found(source: str) -> None:
    modules = {
        f"{PACKAGE}.{name}" for name in ("solvers", "solvers.closed_form", "linearize", "programs.gn", "testing")
    }
    wrong = private_uses(source, "verification.claim", {"Lp", "solve", "linearize"}, modules)
    assert len(wrong) == 1


def test_a_public_use_passes() -> None:
    source = """
import convexattack as ca
import convexattack.models
from convexattack import Lp, linearize
from convexattack.testing import check_step
from convexattack.models.digits import digits
from . import oracles
ca.Lp(2).dual(g); ca.linearize(model, x).value; ca.datasets.digits(); ca.Status.OPTIMAL; ca.__version__
"""
    modules = {f"{PACKAGE}.{name}" for name in ("solvers", "linearize", "models", "testing", "datasets")}
    public = public_names("from .norms import Lp, _x\nfrom .linearize import linearize\nfrom .programs import Status\n")
    assert private_uses(source, "verification.claim", public, modules) == []


@pytest.mark.parametrize("module", PACKAGE_FILES | OUTSIDE_FILES)
def test_no_file_is_loaded_that_could_run(module: str) -> None:
    assert unsafe_loads((PACKAGE_FILES | OUTSIDE_FILES)[module].read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pandas.read_pickle(path)",
    ],
)
def test_an_unsafe_load_is_found(line: str) -> None:
    assert unsafe_loads(f"import torch\ndef f():\n    {line}\n    np.load(path, allow_pickle=False)") == [3]


def test_no_file_names_a_machine_or_a_package_index() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("only a git checkout knows which files are the project's")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert ROOT / "pyproject.toml" in paths
    texts = {path: content.decode() for path in paths if b"\0" not in (content := path.read_bytes())}
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line) or PACKAGE_INDEX.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["work", "tmp", "root", "home", "Users"])
def test_a_machine_path_is_found(folder: str) -> None:
    assert MACHINE_PATH.search(f"cd '/{folder}/someone'")
    assert not MACHINE_PATH.search(f"a/{folder}/file")


@pytest.mark.parametrize(
    "words", [("pip install --index", "-url x"), ("--find", "-links x"), ("https://py", "pi.org/simple")]
)
def test_a_package_index_is_found(words: tuple[str, str]) -> None:
    assert PACKAGE_INDEX.search("".join(words))


def test_the_wheel_holds_the_package_alone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    built = subprocess.run(build, cwd=ROOT, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == package
    assert f"{PACKAGE}/py.typed" in held


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version() -> None:
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{version}] - " in (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r'^__version__ = "(.*)"', (ROOT / PACKAGE / "__init__.py").read_text(), re.MULTILINE) in (
        [],
        [version],
    )


def test_every_package_is_pinned() -> None:
    """Each dependency, and each of theirs, that applies on this machine, unless its parent pins it (torch its CUDA)."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert [str(pin) for pin in pins if not re.fullmatch(r"==[\w.]+", str(pin.specifier))] == []
    pinned = {canonicalize_name(pin.name): pin for pin in pins}
    extras = PROJECT["optional-dependencies"]
    to_see = [
        Requirement(line) for line in PROJECT["dependencies"] + [line for extra in extras.values() for line in extra]
    ]
    seen: set[tuple[str, str]] = set()
    missing: set[str] = set()
    while to_see:
        requirement = to_see.pop()
        name = canonicalize_name(requirement.name)
        key = (name, ",".join(sorted(requirement.extras)))
        if name == PACKAGE or key in seen:
            continue
        seen.add(key)
        if name not in pinned:
            missing.add(name)
            continue
        if (pin := pinned[name]).specifier and not requirement.specifier.contains(str(pin.specifier)[2:]):
            missing.add(f"{requirement} (pinned: {pin})")
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            peers = {canonicalize_name(Requirement(line).name) for line in extras["peers"]}
            assert name in peers, f"{name} is not installed"
            continue  # the tests do without the libraries that the audit measures
        for line in lines:
            child = Requirement(line)
            applies = child.marker is None or any(
                child.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}
            )
            if applies and not str(child.specifier).startswith("=="):
                to_see.append(child)
    assert missing == set()


def test_contributing_names_files_that_exist() -> None:
    named = re.findall(
        r"`((?:convexattack|tests|verification|benchmarks)/[\w/.]*)`", (ROOT / "CONTRIBUTING.md").read_text()
    )
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_tests_are_offline() -> None:
    with pytest.raises(OSError, match="offline"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
