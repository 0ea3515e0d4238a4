"""What is shipped: metadata that agrees, commented YAML, a wheel that trains on its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import benchmarl_himpo

ROOT = Path(__file__).parent.parent
YAML_FILES = sorted((ROOT / "conf").rglob("*.yaml"))
SOURCED = ("conf/algorithm/", "conf/task/")
SOURCES = re.compile(
    r"BenchMARL|JaxMARL|lbforaging 2\.0\.0|PettingZoo|mpe2|RESCO|sumo-rl|\bours\b|our reading|\bpaper\b|FeUdal|DIAL"
)


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == benchmarl_himpo.__version__


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


# YAML


def keys_of(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the key nodes of all mappings below a node, without the entries of `defaults`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            if key.value != "defaults":
                yield from keys_of(value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from keys_of(child)


def comment_of(line: int, lines: list[str]) -> str:
    """Get the comment on a line and the comment lines right above it."""
    comments = [lines[line].partition("#")[2]]
    while line > 0 and lines[line - 1].strip().startswith("#"):
        line -= 1
        comments.insert(0, lines[line].strip().lstrip("# "))
    return " ".join(comments).strip()


def comments_of(file: Path) -> dict[str, str]:
    """The comment of each key of a file."""
    lines = file.read_text().splitlines()
    keys = list(keys_of(yaml.compose(file.read_text())))
    assert keys
    return {f"{k.value} (line {k.start_mark.line + 1})": comment_of(k.start_mark.line, lines) for k in keys}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", YAML_FILES, ids=name_of)
def test_every_yaml_key_has_a_comment(file: Path) -> None:
    assert [key for key, comment in comments_of(file).items() if not comment] == []


@pytest.mark.parametrize("file", [file for file in YAML_FILES if name_of(file).startswith(SOURCED)], ids=name_of)
def test_options_of_algorithms_and_rules_of_tasks_name_their_source(file: Path) -> None:
    assert [key for key, comment in comments_of(file).items() if not SOURCES.search(comment)] == []


# Wheel


def pip(*arguments: str) -> None:
    """Run pip without the network."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, timeout=300)


def test_wheel_trains_outside_the_checkout(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    tiny_overrides: list[str],
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    build = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (source,) = tmp_path.glob("*.tar.gz")
    assert source.stat().st_size < 2e6  # without results
    pip("wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    pip("install", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    package = site / "benchmarl_himpo"
    shipped = {file.relative_to(package / "conf") for file in package.rglob("conf/**/*.yaml")}
    assert shipped == {file.relative_to(ROOT / "conf") for file in YAML_FILES}
    assert (package / "py.typed").is_file()
    assert [file.name for file in (site / "hydra_plugins").glob("*.py")] == ["benchmarl_himpo.py"]  # a namespace
    assert not (site / "tests").exists()
    assert len([*site.glob("*.dist-info/**/LICENSE")]) == 1

    # PYTHONPATH comes before an installed checkout.
    done = run_command("algorithm=himppo", *tiny_overrides, cwd=elsewhere, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    assert "himppo on vmas/dropout" in done.stdout
    (written,) = elsewhere.glob("outputs/*/*/.hydra/hydra.yaml")
    sources = yaml.safe_load(written.read_text())["hydra"]["runtime"]["config_sources"]
    assert [source["path"] for source in sources if source["provider"] == "main"] == [str(package / "conf")]
