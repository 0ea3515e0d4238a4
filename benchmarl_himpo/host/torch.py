"""What is used of torch beyond its documentation."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram


def operators_of(program: ExportedProgram) -> dict[str, str]:
    """Give the namespace of each operator that an exported program calls, such as ``{"aten.add.Tensor": "aten"}``.

    Needed to refuse, before it is shipped, a program that torch alone cannot run. The class of an operator is private
    (``torch._ops.OpOverload``). A documented list of a program's operators would replace this.
    """
    targets = [node.target for node in program.graph.nodes]
    return {str(target): target.namespace for target in targets if isinstance(target, torch._ops.OpOverload)}
