"""Narrows a BenchMARL model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from benchmarl.models import SequenceModelConfig
from benchmarl.models.common import ModelConfig


def scale_width(config: ModelConfig, factor: float) -> ModelConfig:
    """The same model with wider or narrower layers (our choice).

    Args:
        config: any model of BenchMARL's. Its widths are the fields whose names end in ``num_cells``, and what a
            sequence passes between its models; a model without such fields stays as it is.
        factor: what every width is multiplied with, positive. Results are rounded, to 1 at least.

    Returns:
        A new configuration; ``config`` stays as it is.
    """

    def scale(widths: int | Sequence[int]) -> int | list[int]:
        return max(1, round(factor * widths)) if isinstance(widths, int) else [scale(width) for width in widths]

    if isinstance(config, SequenceModelConfig):
        models = [scale_width(model, factor) for model in config.model_configs]
        return replace(config, model_configs=models, intermediate_sizes=scale(config.intermediate_sizes))
    names = [field.name for field in fields(config) if field.name.endswith("num_cells")]
    return replace(config, **{name: scale(getattr(config, name)) for name in names})
