"""Pages that are written when the site is built: results as the repository has them, options of algorithms, the API."""

from __future__ import annotations

import ast
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import mkdocs_gen_files

from benchmarl_himpo.algorithms import HimppoConfig, algorithm_config_registry
from benchmarl_himpo.config import snake_case

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks"
OPTIONS = ROOT / "conf" / "algorithm" / "base" / "himppo.yaml"
OPTION = re.compile(r"( *)([\w]+):(?: (.*))?")


def copy_results() -> None:
    """Put the pages and pictures of ``benchmarks/`` where links between them hold; other links become text."""
    for file in sorted([*RESULTS.rglob("*.md"), *RESULTS.rglob("*.svg"), *RESULTS.rglob("*.png")]):
        name = str(file.relative_to(ROOT))
        if file.suffix == ".md":
            with mkdocs_gen_files.open(name, "w") as page:
                page.write(_without_dead_links(file))
        else:
            with mkdocs_gen_files.open(name, "wb") as picture:
                picture.write(file.read_bytes())


def _without_dead_links(file: Path) -> str:
    """Links to pages and pictures stay; the site holds neither code nor records."""

    def replace(match: re.Match[str]) -> str:
        text, target = match.groups()
        path = (file.parent / target.partition("#")[0]).resolve()
        is_page = "://" in target or target.startswith("#") or (path.suffix == ".md" and path.is_relative_to(RESULTS))
        return match[0] if is_page else text

    return re.sub(r"(?<!!)\[([^\]]*)\]\(([^)]*)\)", replace, file.read_text(encoding="utf-8"))


def find_section(title: str) -> list[Any]:
    """Find a section of the navigation, to add pages to."""
    return next(entry[title] for entry in mkdocs_gen_files.config.nav if title in entry)


def write_results() -> None:
    """Write a page per published comparison and their index, and put them into the navigation."""
    sys.path.append(str(ROOT / "docs" / "results"))
    pages = import_module("comparisons").pages()
    for name, text in pages.items():
        with mkdocs_gen_files.open(f"results/{name}", "w") as page:
            page.write(text)
    find_section("Results")[3:3] = [
        {name.removesuffix(".md"): f"results/{name}"} for name in pages if name != "index.md"
    ]


def write_options() -> None:
    """Write every option of HiMPPO with its default and comment."""
    lines = [
        "# All options",
        "",
        "Defaults of `himppo_paper`, from which all others inherit: `algorithm.<option>=...` on the command line.",
        "",
    ]
    comment: list[str] = []
    for line in OPTIONS.read_text(encoding="utf-8").partition("_self_")[2].splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip()[1:].strip())
        elif match := OPTION.fullmatch(line):
            indent, name, default = match.groups()
            lines += [
                f"{indent * 2}- **`{name}`**" + (f" = `{default}`" if default else "") + f": {' '.join(comment)}",
                "",
            ]
            comment = []
        else:
            comment = []
    with mkdocs_gen_files.open("algorithms/options.md", "w") as page:
        page.write("\n".join(lines))


def copy_page(source: str, name: str) -> None:
    """Show a file of the top level as a page."""
    with mkdocs_gen_files.open(name, "w") as page:
        page.write((ROOT / source).read_text(encoding="utf-8").replace("](docs/", "]("))


def write_api(package: str) -> None:
    """List what a package of the library exports, each with its docstring."""
    module = ast.parse((ROOT / "benchmarl_himpo" / package / "__init__.py").read_text(encoding="utf-8"))
    exported = next(
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    variants = {
        snake_case(config.associated_class().__name__): config.associated_class()
        for config in algorithm_config_registry.values()
        if config is not HimppoConfig
    }
    made = {name for variant in variants.values() for name in (variant.__name__, f"{variant.__name__}Config")}
    lines = [f"# {package.capitalize()}", "", ast.get_docstring(module) or "", ""]
    for name in exported:
        is_module = (ROOT / "benchmarl_himpo" / package / f"{name}.py").exists()  # and a function of that name in it
        if name not in made:
            lines += [f"::: benchmarl_himpo.{package}.{name}" + (f".{name}" if is_module else ""), ""]
    if made.issubset(exported):
        lines += ["## Named variants", "", "Each is a subclass of `Himppo`, and its `...Config` of `HimppoConfig`.", ""]
        lines += ["| class | `algorithm=` | |", "|---|---|---|"]
        lines += [
            f"| `{v.__name__}` | [`{name}`](../algorithms/{name}.md) | {v.__doc__} |" for name, v in variants.items()
        ]
    with mkdocs_gen_files.open(f"api/{package}.md", "w") as page:
        page.write("\n".join(lines))


def write_harness_api() -> None:
    """Write a page per package of the harness with what its modules define, and put them into the navigation."""
    pages: list[dict[str, str]] = []
    harness = ROOT / "benchmarl_himpo" / "harness"
    for folder in [harness, *sorted(init.parent for init in harness.glob("*/__init__.py"))]:
        modules = [file for file in sorted(folder.glob("*.py")) if file.stem != "__init__" and _has_public_names(file)]
        introduction = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        title = folder.name.replace("_", " ").capitalize()
        lines = [f"# {title}", "", introduction or "", ""]
        for module in modules:
            name = ".".join(module.relative_to(ROOT).with_suffix("").parts)
            lines += [f"::: {name}", "    options: {show_source: false}", ""]  # which would take a minute to colour
        target = f"api/harness/{'index' if folder == harness else folder.name}.md"
        with mkdocs_gen_files.open(target, "w") as page:
            page.write("\n".join(lines))
        pages.append({title: target})
    find_section("API").append({"Harness": pages})


def _has_public_names(file: Path) -> bool:
    """Whether a module defines a class or a function that others may use."""
    defined = ast.parse(file.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_") for node in defined)


copy_results()
write_results()
write_options()
for package in ("hierarchy", "models", "objectives", "algorithms", "environments"):
    write_api(package)
write_harness_api()
copy_page("CHANGELOG.md", "changelog.md")
copy_page("CONTRIBUTING.md", "contributing.md")
