"""``report.html``: one file that a manager can read, print and send on."""

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from plantfed_lab.charts import accuracy_chart, learning_chart, staleness_chart
from plantfed_lab.results import AgentResult, DemoResult
from plantfed_lab.templating import fill
from plantfed_lab.verdict import SAME_POINTS, headline, too_short

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Way:
    """One of the three ways to train.

    Attributes:
        key: its colour in the page.
        name: for the reader.
        meaning: in one line.
        mean: accuracy over machines.
        worst: accuracy of the worst machine.
        worst_id: which that is.
    """

    key: str
    name: str
    meaning: str
    mean: float
    worst: float
    worst_id: str


def render_report(result: DemoResult) -> str:
    """The whole page; nothing in it is loaded from elsewhere."""
    agents = result.agents
    gained = sum(_points(a) > SAME_POINTS for a in agents)
    lost = sum(_points(a) < -SAME_POINTS for a in agents)
    return fill(
        "report.html.j2",
        r=result,
        headline=headline(result),
        too_short=too_short(result),
        stayed=STAYED[result.algorithm["mode"]],
        ways=_ways(result),
        gained=gained,
        lost=lost,
        points={a.id: _points(a) for a in agents},
        latest=max(agents, key=lambda a: a.staleness),
        kb_per_update=result.bytes.up / max(result.updates, 1) / 1e3,
        kb_float32=FLOAT32_BYTES * result.model.shared_parameters / 1e3,
        kb_float32_whole=FLOAT32_BYTES
        * (result.model.shared_parameters + result.model.personal_parameters)
        / 1e3,
        settings_lines=_range(a.site.settings_lines for a in agents),
        settings_files=_range(len(a.site.settings_files) for a in agents),
        megabytes=sum(p.megabytes or 0 for p in result.packages),
        charts={
            "accuracy": Markup(accuracy_chart(agents)),  # noqa: S704 - made by us, of numbers
            "learning": Markup(  # noqa: S704
                learning_chart(result.reported, result.accuracy.local, result.accuracy.of_global)
            ),
            "staleness": Markup(staleness_chart(result.staleness_counts)),  # noqa: S704
        },
    )


STAYED = {"auto": "no machine's own class prior", "fedapm": "no personal head"}
PERSONAL_PART = {
    "auto": "one model, and each machine's own classes: what each machine uses",
    "fedapm": "a shared body and a head of its own: what each machine uses",
}


def _ways(result: DemoResult) -> list[Way]:
    agents, other = result.agents, result.other_mode
    described = (
        ("personal", "Personal", PERSONAL_PART[result.algorithm["mode"]]),
        ("of_other_mode", f"Mode {other}", "simulated, same rows and number of updates"),
        ("local", "Alone", "same start, same number of own rounds, nothing exchanged"),
        ("of_global", "One global model", "FedAvg, same rows and number of updates"),
    )
    ways = []
    for key, name, meaning in described:
        accuracy = {a.id: float(getattr(a.accuracy, key)) for a in agents}
        worst_id = min(accuracy, key=accuracy.__getitem__)
        mean = sum(accuracy.values()) / len(accuracy)
        colour = key.removeprefix("of_").replace("_", "-")
        ways.append(Way(colour, name, meaning, mean, accuracy[worst_id], worst_id))
    return ways


def _points(agent: AgentResult) -> float:
    """Percentage points that taking part brought."""
    return 100 * (agent.accuracy.personal - agent.accuracy.local)


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"
