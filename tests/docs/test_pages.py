"""The documentation holds: its Python runs, its commands compose, and the tests that it names are there."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.harness.composition import compose

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
}
RUNS = ["README.md", "docs/how_to/torchrl.md", "docs/how_to/own_parts.md", "docs/how_to/metrics.md"]
"""Pages whose Python is not executed when the site is built."""
RUN_BLOCKS = """
import json, sys
for page, block in json.loads(sys.argv[1]):
    exec(compile(block, page, "exec"), {"__name__": "__main__"})
"""


PLUGIN = ROOT / "tests" / "plugin_package"
"""The package that pages show; tests/test_plugins.py installs it."""
PLUGIN_FILES = {
    file.name: file.read_text(encoding="utf-8")
    for file in PLUGIN.glob("himpo_escort/**/*.*")
    if file.suffix in (".py", ".yaml")
}


def blocks(page: str, language: str) -> list[str]:
    """Code of a language on a page, but what the site executes and the files of the plug-in."""
    shown = re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)
    return [block for block in shown if block not in PLUGIN_FILES.values()]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `run` that a page shows, with its overrides."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").replace("&&", "\n").splitlines():
                words = shlex.split(line, comments=True)
                if words[:3] == ["python", "-m", "benchmarl_himpo.run"] and "RUN_DIR" not in line:
                    yield page, words[3:]


def test_python_of_the_pages_runs(tmp_path: Path) -> None:
    """In an empty folder, each block with names of its own, all in one process, which takes seconds to import torch."""
    shown = json.dumps([(page, block) for page in RUNS for block in blocks(page, "python")])
    command = [sys.executable, "-c", RUN_BLOCKS, shown]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_no_page_has_python_that_nothing_runs() -> None:
    """That of the page on own tasks runs in tests/test_plugins.py."""
    assert {page for page in PAGES if blocks(page, "python")} == {*RUNS, "docs/how_to/own_task.md"}


@pytest.mark.parametrize(
    ("page", "overrides"), [pytest.param(*found, id=f"{found[0]}-{i}") for i, found in enumerate(commands())]
)
def test_a_command_of_a_page_composes(page: str, overrides: list[str]) -> None:
    """With the first of several values; what Hydra itself is told is left out."""
    parsed = OverridesParser.create().parse_overrides([word for word in overrides if "=" in word])
    given = [
        f"{override.input_line.partition('=')[0]}={next(override.sweep_string_iterator())}"
        if override.is_choice_sweep() or override.is_range_sweep()
        else override.input_line
        for override in parsed
        if not override.is_interval_sweep() and not (override.key_or_group or "").startswith(("hydra", "sweep_folder"))
    ]
    if "--config-dir" not in overrides:
        compose(given)


def test_the_plugin_that_pages_show_is_the_one_that_is_installed_and_used_in_tests() -> None:
    """Every file of it, with its metadata."""
    places = {
        name: [page for page, content in PAGES.items() if f"\n{text}```" in content]
        for name, text in PLUGIN_FILES.items()
    }
    assert places == {
        "__init__.py": ["docs/how_to/own_parts.md"],
        "himppo_chain.yaml": ["docs/how_to/own_parts.md"],
        "task.py": ["docs/how_to/own_task.md"],
        "pair.yaml": ["docs/how_to/own_task.md"],
    }
    (metadata,) = blocks("docs/how_to/own_parts.md", "toml")
    assert (PLUGIN / "pyproject.toml").read_text(encoding="utf-8") == metadata


def test_every_named_algorithm_has_a_page_that_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name in algorithm_config_registry:
        assert f"docs/algorithms/{name}.md" in PAGES
        assert f"algorithms/{name}.md" in navigation


def test_the_tests_that_pages_name_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", "".join(PAGES.values()))
    assert len(named) > 20
    for file, function in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert not function or function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            function
        )


def test_files_of_the_repository_that_pages_name_are_there() -> None:
    for page, text in PAGES.items():
        for name in re.findall(r"`((?:conf|benchmarks|benchmarl_himpo)/[\w/.]+)`", text):
            assert (ROOT / name).exists() or (PLUGIN / "himpo_escort" / name).exists(), (page, name)


def test_forms_for_issues_are_yaml_and_text() -> None:
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir():
        _, head, text = form.read_text(encoding="utf-8").split("---\n", 2)
        assert {"name", "about"} <= set(yaml.safe_load(head)) and text.strip()
