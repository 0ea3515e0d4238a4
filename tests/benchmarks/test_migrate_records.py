"""Records of older versions get the names and options of this one, and none is lost on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.scripts import load_script

from benchmarl_himpo.harness.records.record import RECORD_FILE, load_record
from benchmarl_himpo.harness.runs import older_configs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
(PUBLISHED,) = (BENCHMARKS / "results" / "sampling_discrete").glob("ippo-vmas_sampling-s0-*.json")
OLD_NAME = "ippo-vmas_sampling-s0-0123abcd"


script = load_script(BENCHMARKS / "migrate_records.py", "migrate_records")


def write_old(folder: Path, name: str = OLD_NAME, **changes: Any) -> Path:
    """Leave a published record under a name of an older version."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**json.loads(PUBLISHED.read_text()), "id": name, **changes}))
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_published_records_have_the_names_that_this_version_gives(every: int) -> None:
    files = sorted((BENCHMARKS / "results").rglob("*-s0-*.json"))
    assert len(files) > 40
    assert script.plan(files[::every]) == []


def test_a_record_and_what_is_named_after_it_are_renamed_once(tmp_path: Path) -> None:
    old = load_record(write_old(tmp_path / "results"))
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / f"{OLD_NAME}.json").write_text("{}")
    arguments = [str(tmp_path / "results"), "--also", str(tmp_path / "audits")]
    script.main(arguments)
    assert load_record(tmp_path / "results" / PUBLISHED.name) == load_record(PUBLISHED)
    assert old.evaluation_returns == load_record(PUBLISHED).evaluation_returns
    after = contents(tmp_path)
    assert set(after) == {f"results/{PUBLISHED.name}", f"audits/{PUBLISHED.name}"}
    script.main(arguments)
    assert contents(tmp_path) == after


def test_the_folder_of_a_sweeps_run_is_renamed_with_all_that_is_in_it(tmp_path: Path, capsys) -> None:
    record = json.loads(PUBLISHED.read_text())
    for name in (OLD_NAME, f"{OLD_NAME}0"):
        run = write_old(tmp_path / name).parent
        (run / "inside.txt").write_text("kept")
        spec = {"id": name, "variant": "", "task_label": "", "config": record["config"], "config_hash": ""}
        (run / "spec.yaml").write_text(yaml.safe_dump({**spec, "overrides": ["seed=0"]}))
        (run / f"{OLD_NAME}.json").rename(run / RECORD_FILE)
    (run / RECORD_FILE).unlink()  # an unfinished run
    script.main([str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {PUBLISHED.stem, run.name}
    assert f"{run} is unfinished" in capsys.readouterr().out
    done = tmp_path / PUBLISHED.stem
    assert (done / "inside.txt").read_text() == "kept"
    assert load_record(done / RECORD_FILE).id == PUBLISHED.stem
    told = yaml.safe_load((done / "spec.yaml").read_text())
    assert (told["id"], told["variant"], told["overrides"]) == (PUBLISHED.stem, record["variant"], ["seed=0"])


@pytest.mark.parametrize("other", [PUBLISHED.stem, "ippo-vmas_sampling-s0-00000000"], ids=["taken", "wanted by two"])
def test_where_a_name_is_taken_nothing_is_changed(other: str, tmp_path: Path) -> None:
    write_old(tmp_path)
    write_old(tmp_path, other, fingerprint="another")
    before = contents(tmp_path)
    with pytest.raises(SystemExit, match="Nothing was changed"):
        script.main([str(tmp_path)])
    assert contents(tmp_path) == before


def test_options_of_another_version_are_changed_by_the_table_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads(PUBLISHED.read_text())["config"]
    config["algorithm"]["entropy"] = config["algorithm"].pop("entropy_coef")
    write_old(tmp_path, config=config)
    before = contents(tmp_path)
    with pytest.raises(SystemExit, match=r"algorithm\.entropy, algorithm\.entropy_coef changed .*older_configs\.py"):
        script.main([str(tmp_path)])
    assert contents(tmp_path) == before

    def rename(config: dict[str, Any]) -> None:
        if "entropy" in config["algorithm"]:
            config["algorithm"]["entropy_coef"] = config["algorithm"].pop("entropy")

    monkeypatch.setattr(older_configs, "CHANGES", (*older_configs.CHANGES, rename))
    script.main([str(tmp_path)])
    assert load_record(tmp_path / PUBLISHED.name) == load_record(PUBLISHED)
