"""Scales the layer widths of a BenchMARL model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from benchmarl.models import SequenceModelConfig
from benchmarl.models.common import ModelConfig


def scale_width(config: ModelConfig, factor: float) -> ModelConfig:
    """Multiply the layer widths of a model (ours).

    Args:
        config: any model configuration of BenchMARL. Widths are the fields whose names end in ``num_cells``, and the
            intermediate sizes of a sequence model; a model without such fields is unchanged.
        factor: factor of every width, positive. Results are rounded, to 1 at least.

    Returns:
        A new configuration; ``config`` itself is unchanged.
    """

    def scale(width: int) -> int:
        return max(1, round(factor * width))

    def scale_all(widths: int | Sequence[int]) -> int | list[int]:
        return scale(widths) if isinstance(widths, int) else [scale(width) for width in widths]

    if isinstance(config, SequenceModelConfig):
        models = [scale_width(model, factor) for model in config.model_configs]
        return replace(config, model_configs=models, intermediate_sizes=scale_all(config.intermediate_sizes))
    names = [field.name for field in fields(config) if field.name.endswith("num_cells")]
    return replace(config, **{name: scale_all(getattr(config, name)) for name in names})
