"""Readable pages about a bundle."""

from __future__ import annotations

from typing import Any

from benchmarl_himpo.harness.markdown import markdown_table


def format_report(report: dict[str, Any]) -> str:
    """Format ``messages`` of ``bundle.json`` as two Markdown tables with notes below."""
    flows = [
        (
            row["receiver"],
            row["what"],
            f"{row['messages_worst']} ({row['messages_mean']:.2f})",
            row["bytes_per_message"],
            f"{row['every_n_steps']} steps",
            f"{row['bytes_per_step_worst']:.1f} ({row['bytes_per_step_mean']:.1f})",
        )
        for row in report["flows"]
    ]
    every_node = {"receiver": "all nodes, per agent", "bytes_peak": "", **report["per_agent"]}
    totals = [
        (
            row["receiver"],
            f"{row['messages_per_step_worst']:.2f} ({row['messages_per_step_mean']:.2f})",
            f"{row['bytes_per_step_worst']:.1f} ({row['bytes_per_step_mean']:.1f})",
            row["bytes_peak"],
        )
        for row in [*report["totals"], every_node]
    ]
    messages, n_bytes = "messages, worst (mean)", "bytes per step, worst (mean)"
    parts = [
        markdown_table(["receiver", "message", messages, "bytes each", "every", n_bytes], flows),
        markdown_table(["total", "messages per step, worst (mean)", n_bytes, "bytes in one step, worst"], totals),
        "\n".join(f"- {note}" for note in report["notes"]),
    ]
    return "\n\n".join(parts)


def write_readme(info: dict[str, Any]) -> str:
    """Write the Markdown page of a bundle from its ``bundle.json``."""
    task, source, verified = info["task"], info["source"], info["verified"]
    functions = [
        (
            f"`{function['file']}`",
            f"{function['period']} steps",
            *(", ".join(map(_name, function[side].items())) for side in ("inputs", "outputs")),
        )
        for function in info["functions"].values()
    ]
    return f"""# {info["algorithm"]} on {task["environment"]}/{task["name"]}, group {info["group"]}

Exported from {source["run"]} ({source["checkpoint"]}) for the CPU. Needs torch {info["versions"]["torch"]};
`run_bundle.py` loads and steps it, and shows how in a bare VMAS loop. Load only bundles that you trust.

Each file is one step function: it takes a dictionary of tensors, gives one, and keeps nothing. Call them in
this order; one whose clock is not a multiple of its period changes nothing and need not be called. Goals,
clustering, memories and clock (env steps since the episode began) go in and come out, and all start at zero. Actions
and goals are the most likely ones; the parameters of their distribution stand beside them.

{markdown_table(["file", "decides every", "inputs", "outputs"], functions)}

Checked on {verified["env_steps"]} env steps: the largest difference from the policy was
{verified["max_difference"]:.1e}.

## What each node must receive

Every agent and every node of an upper level is a machine of its own. Means are over the episodes checked.

{format_report(info["messages"])}
"""


def _name(tensor: tuple[str, dict[str, Any]]) -> str:
    name, entry = tensor
    return f"`{name}` {entry['dtype']} [{', '.join(map(str, entry['shape']))}]"
