"""The layers and bans of docs/design.md, checked on the syntax trees of src/pqdht."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "pqdht"

# A unit is a module or package directly below pqdht. It imports lower ranks and itself, never a sibling.
RANKS: dict[str, int] = {
    **dict.fromkeys(["errors", "ids", "constants", "config"], 0),
    **dict.fromkeys(["wire", "crypto"], 1),
    "identity": 2,
    **dict.fromkeys(["records", "envelope"], 3),
    **dict.fromkeys(["peer_record", "channel", "kad", "trust", "bootstrap", "onion"], 4),
    **dict.fromkeys(["transport", "storage"], 5),
    "node": 6,
    "daemon": 7,
    "testing": 8,  # its networks of real processes speak to the daemon's control socket
    **dict.fromkeys(["cli", "lab"], 9),  # `pqdht testnet` shows what pqdht.testing runs
    **dict.fromkeys(["__init__", "__main__"], 10),
}
# Units of one rank that are one layer.
TOGETHER = [{"errors", "ids", "constants", "config"}]

IMPURE = set(
    "asyncio concurrent ctypes http io logging multiprocessing os pathlib secrets select selectors shutil "
    "signal socket socketserver sqlite3 ssl subprocess tempfile threading time urllib uvloop".split()
)
EXEMPT: dict[str, set[str]] = {
    "config": {"pathlib"},  # a setting is a path; nothing is opened
    "crypto.liboqs": {"ctypes", "os", "pathlib"},  # finds the shared library
    "crypto.openssl": {"os"},  # os.urandom: here secret randomness comes from
}
NEVER = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
BANNED_CALLS = {"open", "eval", "exec", "input", "print", "__import__"}

MODULES = {".".join(p.relative_to(SRC).with_suffix("").parts): p for p in sorted(SRC.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}


def unit(module: str) -> str:
    return module.split(".")[0]


def is_pure(module: str) -> bool:
    return RANKS[unit(module)] < 5


def imports(module: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything a module imports, late imports included."""
    package = ["pqdht", *module.split(".")[:-1]]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, *filter(None, [node.module]), alias.name])


def own_imports(module: str) -> Iterator[tuple[int, str]]:
    """(line, unit) of the units of pqdht that a module imports."""
    for line, name in imports(module):
        top, _, rest = name.partition(".")
        if top == "pqdht":
            # `from pqdht import SecureDHT` names what __init__ exports, not a unit
            yield line, unit(rest) if unit(rest) in RANKS else "__init__"


def test_every_module_has_a_rank() -> None:
    assert {unit(m) for m in MODULES} - set(RANKS) == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_lower_ranks(module: str) -> None:
    me = unit(module)
    allowed = {u for u, rank in RANKS.items() if rank < RANKS[me]} | {me}
    for layer in TOGETHER:
        if me in layer:
            allowed |= layer
    wrong = [f"{module}:{line} imports {u}" for line, u in own_imports(module) if u not in allowed]
    assert wrong == []


SHOWS_TESTING = ("cli.testnet", "cli.board", "cli.siege")


@pytest.mark.parametrize(
    "module", [m for m in MODULES if unit(m) not in ("testing", "lab") and m not in SHOWS_TESTING]
)
def test_nothing_that_ships_imports_the_testing_package(module: str) -> None:
    assert [f"{module}:{line}" for line, u in own_imports(module) if u in ("testing", "lab")] == []


@pytest.mark.parametrize("module", [m for m in MODULES if is_pure(m)])
def test_below_rank_five_everything_is_pure(module: str) -> None:
    exempt = EXEMPT.get(module, set())
    used = {name.split(".")[0] for _, name in imports(module)}
    wrong = sorted(f"{module} imports {name}" for name in used & IMPURE - exempt)
    wrong += sorted(f"{module} no longer needs {name}" for name in exempt - used)
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.AsyncFunctionDef):
            wrong.append(f"{module}:{node.lineno} async def {node.name}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            wrong.append(f"{module}:{node.lineno} {node.func.id}()")
    assert wrong == []


@pytest.mark.parametrize("module", MODULES)
def test_dice_are_handed_in(module: str) -> None:
    """`random` gives the class Random and nothing else: its functions share one global state."""
    taken = [(line, n) for line, n in imports(module) if n.startswith("random.")]
    wrong = [f"{module}:{line} {n}" for line, n in taken if n != "random.Random"]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            allowed = {"Random"} if is_pure(module) else {"Random", "SystemRandom"}
            if node.attr not in allowed:
                wrong.append(f"{module}:{node.lineno} random.{node.attr}")
    assert wrong == []


@pytest.mark.parametrize("module", MODULES)
def test_no_pickle_and_no_global_state(module: str) -> None:
    wrong = [f"{module}:{line} {name}" for line, name in imports(module) if name.split(".")[0] in NEVER]
    wrong += [f"{module}:{n.lineno} global" for n in ast.walk(TREES[module]) if isinstance(n, ast.Global)]
    assert wrong == []
