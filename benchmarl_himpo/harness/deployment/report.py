"""What a bundle says about itself, as pages that a person reads."""

from __future__ import annotations

from typing import Any


def format_report(report: dict[str, Any]) -> str:
    """Lay ``messages`` of ``bundle.json`` out as two Markdown tables with the notes below."""
    lines = [
        "| one node receives | what | messages, worst (mean) | bytes each | every | bytes per step, worst (mean) |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['receiver']} | {row['what']} | {row['messages_worst']} ({row['messages_mean']:.2f}) | "
        f"{row['bytes_per_message']} | {row['every_n_steps']} steps | "
        f"{row['bytes_per_step_worst']:.1f} ({row['bytes_per_step_mean']:.1f}) |"
        for row in report["flows"]
    ]
    lines += [
        "",
        "| in all | messages per step, worst (mean) | bytes per step, worst (mean) | bytes in one step, worst |",
    ]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {row['receiver']} | {row['messages_per_step_worst']:.2f} ({row['messages_per_step_mean']:.2f}) | "
        f"{row['bytes_per_step_worst']:.1f} ({row['bytes_per_step_mean']:.1f}) | {row['bytes_peak']} |"
        for row in report["totals"]
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in report["notes"])])


def write_readme(info: dict[str, Any]) -> str:
    """Write the page of a bundle, in Markdown, from what its ``bundle.json`` says."""
    task, source, verified = info["task"], info["source"], info["verified"]
    lines = [
        f"# {info['algorithm']} on {task['environment']}/{task['name']}, group {info['group']}",
        "",
        f"Exported from {source['run']} ({source['checkpoint']}) for the CPU. Needs torch {info['versions']['torch']};",
        "`run_bundle.py` loads and steps it, and shows how in a bare VMAS loop. Load only bundles that you trust.",
        "",
        "Each file is one step function: it takes a dictionary of tensors, gives one, and keeps nothing. Call them in",
        "this order; one whose clock is not a multiple of its period changes nothing and need not be called. Goals,",
        "clustering and clock (env steps since the episode began) go in and come out, and all start at zero. Actions",
        "and goals are the most likely ones; the parameters of their distribution stand beside them.",
        "",
        "| file | decides every | inputs | outputs |",
        "|---|---|---|---|",
    ]
    for function in info["functions"].values():
        inputs, outputs = (", ".join(map(_name, function[side].items())) for side in ("inputs", "outputs"))
        lines.append(f"| `{function['file']}` | {function['period']} steps | {inputs} | {outputs} |")
    lines += [
        "",
        f"Checked on {verified['env_steps']} env steps: the largest difference from the policy was "
        f"{verified['max_difference']:.1e}.",
        "",
        "## What each node must receive",
        "",
        "Every agent and every node of an upper level is a machine of its own. Means are over the episodes checked.",
        "",
        format_report(info["messages"]),
    ]
    return "\n".join([*lines, ""])


def _name(tensor: tuple[str, dict[str, Any]]) -> str:
    name, entry = tensor
    return f"`{name}` {entry['dtype']} [{', '.join(map(str, entry['shape']))}]"
