"""What keeps runs from being comparable is named with the variants that it concerns."""

from __future__ import annotations

from support.records import make_record

from benchmarl_himpo.harness.report.fairness import describe_fingerprints, find_unequal_settings


def test_different_fingerprints_are_named_with_their_runs() -> None:
    here = [make_record("himppo", seed=seed, fingerprint="aa") for seed in range(2)]
    elsewhere = [make_record("ippo", seed=0, fingerprint="bb"), make_record("ippo", seed=1, fingerprint="aa+bb")]
    (said,) = describe_fingerprints([*here, *elsewhere])
    assert "(runs: aa 2, of himppo; aa+bb 1, of ippo; bb 1, of ippo)" in said
    assert describe_fingerprints(here) == []
    assert describe_fingerprints([*here, make_record("ippo", fingerprint=None)]) == []  # nobody took it


def test_evaluations_lengths_and_kinds_of_actions_have_to_be_equal() -> None:
    config = make_record().config
    for option, value in {"evaluation_static": True, "max_n_iters": 3, "prefer_continuous_actions": False}.items():
        other = {**config, "experiment": {**config["experiment"], option: value}}
        (said,) = find_unequal_settings([make_record("himppo"), make_record("ippo", config=other)])
        assert said.startswith(f"experiment.{option} differs: ")
    preferred = {**config, "experiment": {**config["experiment"], "prefer_continuous_actions": True}}
    runs = [make_record(name, config=preferred) for name in ("himppo", "ippo", "qmix")]
    assert find_unequal_settings(runs[:2]) == []
    assert find_unequal_settings(runs) == ['actions differs: "continuous" in himppo, ippo; "discrete" in qmix']
    trained = {**config, "experiment": {**config["experiment"], "lr": 0.1}}
    assert find_unequal_settings([make_record("himppo"), make_record("ippo", config=trained)]) == []
