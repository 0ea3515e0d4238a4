"""Private names of hosts are used in ``benchmarl_himpo/host`` and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarl.experiment import Experiment

import benchmarl_himpo
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.host import torchrl as host_torchrl
from benchmarl_himpo.host.benchmarl import EXPERIMENT_ATTRIBUTES, HOOKS

PACKAGE = Path(benchmarl_himpo.__file__).parent
FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent.name != "host"]
TREES = {str(file.relative_to(PACKAGE)): ast.parse(file.read_text()) for file in FILES}
OWN_EXPERIMENT = "harness/runs/resumable_experiment.py"
OF_EXTRAS = {  # what imports the package of an extra
    "environments/pettingzoo/team.py": "pettingzoo",
    "environments/smax/simulator.py": "jaxmarl",
}
OF_PYTHON = {"_replace", "_make", "_asdict", "_fields", "_field_defaults"}  # what namedtuples document


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def defined_names(tree: ast.Module) -> set[str]:
    """Names of a file's functions, classes, variables and attributes of ``self`` and ``cls``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
            names.add(node.attr)
    return names


def is_own(owner: ast.expr) -> bool:
    """Whether something is ``self``, ``cls`` or ``super()``."""
    if isinstance(owner, ast.Call):
        return isinstance(owner.func, ast.Name) and owner.func.id == "super"
    return isinstance(owner, ast.Name) and owner.id in ("self", "cls")


def foreign_names(tree: ast.Module, of_package: set[str]) -> Iterator[str]:
    """Yield private names that are imported, read or written and that nobody here defines."""
    own = defined_names(tree) | OF_PYTHON
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if node.attr not in (of_package | OF_PYTHON if is_own(node.value) else own):
                yield ast.unparse(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            parts = [part for name in (module, *(alias.name for alias in node.names)) for part in name.split(".")]
            yield from (f"{module} {part}" for part in parts if is_private(part))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private_path(node.value):
            yield node.value


def is_private_path(text: str) -> bool:
    """Whether a text is the path of a module or attribute with a private part, such as ``hydra._internal.x``."""
    parts = text.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts) and any(map(is_private, parts[1:]))


OF_PACKAGE = set().union(*map(defined_names, TREES.values()))


@pytest.mark.parametrize("file", TREES)
def test_a_file_uses_no_private_name_of_others(file: str) -> None:
    assert list(foreign_names(TREES[file], OF_PACKAGE)) == []


@pytest.mark.parametrize(
    "use",
    [
        "env._env.agents",
        "self.collector._carrier",
        "self._log_weight(td)",
        "super()._on_setup()",
        "self._out_keys_source",
        "from hydra._internal.core_plugins.basic_sweeper import BasicSweeper",
        "from benchmarl.environments import _task_class_registry",
        "import torch._ops",
        "SWEEPER = 'hydra._internal.core_plugins.basic_sweeper.BasicSweeper'",
    ],
)
def test_a_new_use_of_a_private_name_is_found(use: str) -> None:
    tree = ast.parse(f"class Own:\n    def _mine(self):\n        self._known = 1\n        {use}")
    assert len(list(foreign_names(tree, defined_names(tree)))) >= 1


def test_own_private_names_are_not_taken_for_those_of_others() -> None:
    tree = ast.parse(
        "class Own:\n    _x = 1\n    def f(self, other):\n        return other._x, self._x, row._replace(a=1)"
    )
    assert list(foreign_names(tree, {"_x"})) == []


def classes_of_package() -> Iterator[tuple[type, set[str]]]:
    """Yield every class with the private names that it defines."""
    for file, tree in TREES.items():
        path = Path("benchmarl_himpo", file).with_suffix("")
        if path.name != "__main__" and (file not in OF_EXTRAS or find_spec(OF_EXTRAS[file])):
            module = import_module(".".join(path.parts).removesuffix(".__init__"))
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    names = defined_names(ast.Module(node.body, []))
                    yield getattr(module, node.name), {name for name in names if is_private(name)}


def test_classes_override_only_the_private_names_of_hosts_that_are_listed_as_hooks() -> None:
    listed = [*HOOKS, *host_torchrl.HOOKS]
    names_of = dict(classes_of_package())
    overridden, used = set(), set()
    for own in names_of:
        names = set().union(*(names_of.get(base, set()) for base in own.__mro__))
        for host in (base for base in own.__mro__ if base.__module__.partition(".")[0] in ("benchmarl", "torchrl")):
            for name in names & vars(host).keys():
                hooks = [hook for hook in listed if hook.name == name and issubclass(own, hook.owner)]
                overridden |= set() if hooks else {f"{own.__name__}.{name} of {host.__name__}"}
                used |= {(hook.owner, hook.name) for hook in hooks}
    assert overridden == set()
    assert used == {(hook.owner, hook.name) for hook in listed}  # what is no longer overridden is struck off the list


def test_attributes_of_experiments_that_are_read_are_listed() -> None:
    """Of ``experiment.x`` and ``self.experiment.x``, and of ``self.x`` in our own experiment."""
    read: set[str] = set()
    for file, tree in TREES.items():
        of_experiment = ("experiment", "self.experiment")
        owners = (*of_experiment, "self") if file == OWN_EXPERIMENT else of_experiment
        read |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in owners
        }
    of_classes = {name for owner in (Experiment, ResumableExperiment) for name in dir(owner)}
    own = defined_names(TREES[OWN_EXPERIMENT])
    of_mappings = {"items"}  # of a configuration called ``experiment``
    read = {name for name in read if not is_private(name)} - of_classes - of_mappings
    assert read - own - set(EXPERIMENT_ATTRIBUTES) == set()
    assert set(EXPERIMENT_ATTRIBUTES) - read == set()
