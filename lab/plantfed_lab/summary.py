"""The result of a demo in a few lines of a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table

from plantfed_lab.results import DemoResult
from plantfed_lab.verdict import verdict
from plantfed_shared.wording import counted


def summary(result: DemoResult) -> RenderableType:
    """Mean and worst accuracy of the ways to train, what that says, and what it cost."""
    table = Table(title=None, show_edge=False, pad_edge=False)
    for name in ("accuracy", "mean", "worst machine"):
        table.add_column(name, justify="left" if name == "accuracy" else "right")
    ways = {
        "personal (PlantFed)": [a.accuracy.personal for a in result.agents],
        f"{result.other_mode} (simulated)": [a.accuracy.of_other_mode for a in result.agents],
        "local (alone)": [a.accuracy.local for a in result.agents],
        "global (FedAvg)": [a.accuracy.of_global for a in result.agents],
    }
    for name, values in ways.items():
        table.add_row(name, f"{sum(values) / len(values):.3f}", f"{min(values):.3f}")
    releases, updates = counted(result.releases, "release"), counted(result.updates, "update")
    thin = ", short messages (--thin)" if result.thin else ""
    network = f", {result.network}" if result.network != "mlp" else ""
    run = f"{releases}, {updates} in {result.seconds:.0f} s{network}{thin}"
    cost = f"{result.bytes.up / 1e6:.1f} MB up, {result.bytes.down / 1e6:.1f} MB down"
    return Group("", table, "", verdict(result), "", run, cost, f"model {result.model.checksum}")
