"""Undocumented parts of torch."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram


def operators_of(program: ExportedProgram) -> dict[str, str]:
    """Namespace of each operator that an exported program calls, such as ``{"aten.add.Tensor": "aten"}``.

    Needed to reject programs that torch alone cannot run. The class of an operator is private
    (``torch._ops.OpOverload``). A documented list of a program's operators would replace this.
    """
    targets = [node.target for node in program.graph.nodes]
    return {str(target): target.namespace for target in targets if isinstance(target, torch._ops.OpOverload)}
