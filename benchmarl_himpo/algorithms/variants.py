"""Named variants: HiMPPO with other values in its YAML, and a class each, for a separate name in logs and files."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarl_himpo.algorithms.himppo import Himppo, HimppoConfig


def variant(
    name: str, module: str, doc: str, base: type[HimppoConfig] = HimppoConfig
) -> tuple[type[Himppo], type[HimppoConfig]]:
    """Create a named algorithm and its configuration class; the values are in ``conf/algorithm/<name>.yaml``.

    Args:
        name: name of the algorithm's class; the configuration is ``<name>Config``. The caller must keep both under
            these names in its module, because files refer to them by name.
        module: the caller's ``__name__``.
        doc: docstring of the algorithm, with its source.
        base: configuration of the algorithm of which this is a variant.

    Returns:
        The algorithm and its configuration.
    """
    algorithm = type(name, (base.associated_class(),), {"__doc__": doc, "__module__": module})
    body = {
        "__doc__": f"Configuration dataclass for :class:`{name}`.",
        "__module__": module,
        "associated_class": staticmethod(lambda: algorithm),
    }
    return algorithm, dataclass(type(f"{name}Config", (base,), body))


HimppoPaper, HimppoPaperConfig = variant(
    "HimppoPaper",
    __name__,
    "The paper's configuration, frozen: three levels, alpha = 5, K = 2, uniform credit, lambda 0.95 / 0 / 0.",
)
HimppoPaperTuned, HimppoPaperTunedConfig = variant(
    "HimppoPaperTuned",
    __name__,
    "The paper's configuration, with the choices of our default where the paper states nothing.",
)
HimppoFl, HimppoFlConfig = variant(
    "HimppoFl",
    __name__,
    "The paper's FL on our default: workers also receive the external reward; nearly redundant with telescoped credit.",
)
HimppoNl, HimppoNlConfig = variant(
    "HimppoNl", __name__, "The paper's NL on our default: sub-managers receive no local reward."
)
HimppoSg, HimppoSgConfig = variant(
    "HimppoSg", __name__, "The paper's SG on our default: the hierarchical graph is static."
)
Himppo2l, Himppo2lConfig = variant(
    "Himppo2l", __name__, "Two levels, one manager above the workers (depth 2 of the paper)."
)
HimppoNomsg, HimppoNomsgConfig = variant(
    "HimppoNomsg", __name__, "No messages between neighbours at any level (our ablation)."
)
HimppoNogoal, HimppoNogoalConfig = variant(
    "HimppoNogoal", __name__, "The same networks and rewards with zeros in place of every goal received (our control)."
)
HimppoHaven, HimppoHavenConfig = variant(
    "HimppoHaven",
    __name__,
    "HAVEN's reward scheme (https://arxiv.org/abs/2110.07246, our reading): A / k plus external reward for workers.",
    base=Himppo2lConfig,
)
HimppoFlat, HimppoFlatConfig = variant(
    "HimppoFlat",
    __name__,
    "Depth 1: flat message-passing PPO with the mean state of the team (our equal-information control).",
)
HimppoCosine, HimppoCosineConfig = variant(
    "HimppoCosine",
    __name__,
    "The shaped intrinsic reward of feudal graph RL instead of the advantage (the paper argues against this).",
)
HimppoDial, HimppoDialConfig = variant(
    "HimppoDial",
    __name__,
    "Goals trained end to end by the workers' gradient, like the messages of DIAL, instead of by PPO of their senders.",
)
