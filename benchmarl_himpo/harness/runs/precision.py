"""How precisely a run multiplies matrices: an option of every algorithm, checked against what the processor does."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from benchmarl_himpo.harness.checks import RequestError

PRECISIONS = ("highest", "high", "medium")
"""What ``torch.set_float32_matmul_precision`` takes."""
SIZE = 512
"""Rows of the matrices of a trial: small ones are multiplied exactly whatever is asked for."""


def check_precision(precision: str, devices: Mapping[str, str]) -> None:
    """Check that a precision of matrix products exists and changes something on the devices of a run.

    Args:
        precision: one of :data:`PRECISIONS`.
        devices: the device of each option of the experiment that names one where networks run.

    Raises:
        RequestError: if it does not exist, or a device multiplies as for ``highest``.
    """
    if precision not in PRECISIONS:
        raise RequestError(f"matmul_precision={precision} is unknown: choose from {', '.join(PRECISIONS)}.")
    if precision == "highest":
        return
    for option, device in devices.items():
        if not rounds_products(precision, device):
            raise RequestError(
                f"matmul_precision={precision} gains nothing on experiment.{option}={device}, which multiplies in "
                "float32 all the same: choose matmul_precision=highest, a CUDA device of compute capability 8 or more, "
                "or for medium a processor that multiplies bfloat16 (AVX512-BF16, AMX)."
            )


def rounds_products(precision: str, device: str) -> bool:
    """Whether a device rounds what it multiplies under a precision, found by a product that float32 has exactly."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        one = torch.eye(SIZE, device=device)
        matrix = one * (1 + 2.0**-20)
        return not torch.equal(matrix @ one, matrix)
    finally:
        torch.set_float32_matmul_precision(before)


def set_precision(precision: str) -> None:
    """Let this process multiply matrices so; convolutions, by one of which TorchRL's GAE sums, stay in float32."""
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = False
