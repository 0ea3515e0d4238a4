"""The workers' policy: a network followed by BenchMARL's action distribution."""

from __future__ import annotations

from tensordict.nn import (
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictModuleBase,
    TensorDictSequential,
)
from tensordict.nn.distributions import NormalParamExtractor
from torch.distributions import Categorical
from torchrl.data import Composite
from torchrl.modules import IndependentNormal, MaskedCategorical, ProbabilisticActor, TanhNormal


def is_continuous(action_spec: Composite, group: str) -> bool:
    """Whether a group's actions are real numbers."""
    return bool(action_spec[group, "action"].dtype.is_floating_point)


def n_worker_outputs(action_spec: Composite, group: str) -> int:
    """Outputs of the workers' network for each agent: two per continuous action, one per discrete action."""
    action = action_spec[group, "action"]
    return 2 * action.shape[-1] if is_continuous(action_spec, group) else int(action.space.n)


def worker_actor(
    network: TensorDictModuleBase,
    action_spec: Composite,
    group: str,
    *,
    has_action_mask: bool,
    use_tanh_normal: bool,
    scale_mapping: str,
) -> ProbabilisticTensorDictSequential:
    """Append the action distribution of BenchMARL's IPPO to the workers' network.

    Args:
        network: writes ``(group, "logits")``, :func:`n_worker_outputs` features for each agent.
        action_spec: the environment's action spec, unbatched.
        group: the agent group.
        has_action_mask: whether ``(group, "action_mask")`` holds the allowed discrete actions.
        use_tanh_normal: whether continuous actions are drawn from a Normal squashed into the action's bounds.
        scale_mapping: map from the network's output to the standard deviation of continuous actions.

    Returns:
        The policy; writes ``(group, "action")`` and ``(group, "log_prob")``, shape ``[*B, n_agents]``.
    """
    spec = action_spec[group, "action"]
    logits = (group, "logits")
    if not is_continuous(action_spec, group):
        in_keys = {"logits": logits, "mask": (group, "action_mask")} if has_action_mask else [logits]
        return ProbabilisticActor(
            module=network,
            spec=spec,
            in_keys=in_keys,
            out_keys=[(group, "action")],
            distribution_class=MaskedCategorical if has_action_mask else Categorical,
            return_log_prob=True,
            log_prob_key=(group, "log_prob"),
        )
    parameters = [(group, "loc"), (group, "scale")]
    extractor = TensorDictModule(
        NormalParamExtractor(scale_mapping=scale_mapping), in_keys=[logits], out_keys=parameters
    )
    return ProbabilisticActor(
        module=TensorDictSequential(network, extractor),
        spec=spec,
        in_keys=parameters,
        out_keys=[(group, "action")],
        distribution_class=TanhNormal if use_tanh_normal else IndependentNormal,
        distribution_kwargs={"low": spec.space.low, "high": spec.space.high} if use_tanh_normal else {},
        return_log_prob=True,
        log_prob_key=(group, "log_prob"),
    )
