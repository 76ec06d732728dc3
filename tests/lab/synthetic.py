"""A made-up result, for tests of what is told about one."""

from plantfed_lab.results import (
    Accuracy,
    AgentResult,
    BrokerResult,
    DemoResult,
    ModelResult,
    Package,
    ReportedScore,
    Site,
    Traffic,
    mean_accuracy,
)


def made_up_result(
    n_agents: int = 5,
    gain: float = 0.1,
    schedule: str = "async",
    updates: int = 0,
    *,
    thin: bool = False,
) -> DemoResult:
    agents = tuple(made_up_agent(number, gain, updates) for number in range(1, n_agents + 1))
    return DemoResult(
        plantfed="1.2.3",
        versions={"python": "3.11.7"},
        started="2026-11-22T18:26:05+00:00",
        federation="presses",
        seed=4,
        schedule=schedule,
        thin=thin,
        network="mlp",
        algorithm={"mode": "fedapm", "max_norm": None},
        other_mode="auto",
        compression={"kind": "low-rank" if thin else "dense"},
        broker=BrokerResult(kind="mosquitto", url="mqtt://127.0.0.1:1883"),
        releases=12,
        updates=sum(a.updates for a in agents),
        seconds=34.0,
        total_seconds=56.0,
        model=ModelResult(
            checksum="bb3ed96738ff7d6b", k=12, shared_parameters=5472, personal_parameters=726
        ),
        accuracy=mean_accuracy(agents),
        bytes=Traffic(up=1_000_000, down=2_000_000),
        messages=Traffic(up=100, down=200),
        staleness_counts=(3, 2, *([0] * 30), 1),
        reported=tuple(
            ReportedScore(k=k, seconds=float(k), mean=None if k == 3 else k / 20)
            for k in range(1, 13)
        ),
        packages=(
            Package(name="numpy", version="2.4.6", megabytes=57.3),
            Package(name="plantfed", version="1.2.3", megabytes=None),
        ),
        agents=agents,
    )


def made_up_agent(number: int, gain: float, updates: int = 0) -> AgentResult:
    return AgentResult(
        id=f"plant-{number:02d}",
        updates=updates or number,
        rounds=number,
        staleness=number / 2,
        bytes_up=1000 * number,
        bytes_down=2000 * number,
        messages_up=number,
        messages_down=2 * number,
        accuracy=Accuracy(local=0.5, of_global=0.3, of_other_mode=0.45, personal=0.5 + gain),
        site=Site(
            settings_lines=15 + 60 * (number % 2),
            settings_files=("agent.toml", "password"),
            train_rows=400,
            test_rows=800,
            classes=("normal", "<IDV(1)>"),
        ),
    )
