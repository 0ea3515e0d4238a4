"""Precision of matrix products, an option of every algorithm, checked against the device's support."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from benchmarl_himpo.harness.checks import RequestError

PRECISIONS = ("highest", "high", "medium")
"""Values of ``torch.set_float32_matmul_precision``."""
SIZE = 512
"""Rows of the matrices of the test product; small matrices are always multiplied exactly."""


def check_precision(precision: str, devices: Mapping[str, str]) -> None:
    """Check that a precision of matrix products exists and is supported by the devices of a run.

    Args:
        precision: one of :data:`PRECISIONS`.
        devices: devices of the networks, by option of the experiment.

    Raises:
        RequestError: if the precision is unknown, or a device computes as for ``highest``.
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


def best_precision(precision: str, devices: Iterable[str]) -> str:
    """The precision itself if all devices support it, else ``highest``."""
    is_supported = precision == "highest" or all(rounds_products(precision, device) for device in devices)
    return precision if is_supported else "highest"


def rounds_products(precision: str, device: str) -> bool:
    """Whether a device rounds the factors of products at a precision, tested by a product that is exact in float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        one = torch.eye(SIZE, device=device)
        matrix = one * (1 + 2.0**-20)
        return not torch.equal(matrix @ one, matrix)
    finally:
        torch.set_float32_matmul_precision(before)


def set_precision(precision: str) -> None:
    """Set the precision in this process; convolutions, such as in TorchRL's GAE, stay in float32."""
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = False
