"""`modelry nodes`: the hosts that replicas run on, and what runs on each."""

import typer
from rich.markup import escape

from modelry.cli.login import open_client
from modelry.cli.output import AsJson, out, print_table, shown_errors, size, state_text
from modelry.client import Json


def register(app: typer.Typer) -> None:
    app.command("nodes")(nodes)


def nodes(json_flag: AsJson = False) -> None:
    """Show the nodes: what each has and uses, and the replicas that run there."""
    with shown_errors(), open_client() as client:
        found = client.list("/nodes")
    print_table(
        ["NODE", "STATE", "CORES", "CPU", "MEMORY", "DISK FREE", "GPUS"],
        [
            [
                escape(node["name"]),
                state_text(node["state"]),
                str(node["cores"]),
                f"{node['cpu_percent']:.0f}%",
                f"{size(node['used_memory_bytes'])} of {size(node['memory_bytes'])}",
                f"{size(node['free_disk_bytes'])} of {size(node['disk_bytes'])}",
                _gpus(node["gpus"]),
            ]
            for node in found
        ],
        "There are no nodes.",
        as_json=found,
        json_flag=json_flag,
        spare=["CORES", "GPUS"],
    )
    replicas = [(node["name"], replica) for node in found for replica in node["replicas"]]
    if json_flag or not replicas:
        return
    out.print()
    print_table(
        ["REPLICA", "SERVICE", "STATE", "MEMORY", "GPUS", "NODE"],
        [
            [
                replica["id"],
                escape(replica["access_path"]),
                state_text(replica["state"]),
                size(replica["memory_bytes"]),
                ", ".join(map(str, replica["gpus"])) or "-",
                escape(name),
            ]
            for name, replica in replicas
        ],
        "",
        as_json=None,
        json_flag=False,
        spare=["NODE", "GPUS"],
    )


def _gpus(gpus: list[Json]) -> str:
    """Each with its name, and how full its memory is where that is known."""
    shown = (
        f"{escape(gpu['name'])} ({size(gpu['used_memory_bytes'])} of {size(gpu['memory_bytes'])})"
        for gpu in gpus
    )
    return ", ".join(shown) or "-"
