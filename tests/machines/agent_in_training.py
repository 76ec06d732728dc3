"""An agent in the middle of its first round."""

from tests.federation_world import World, small_definition

from plantfed_agent.events import (
    Train,
)
from plantfed_agent.machine import AgentMachine


def machine_in_training() -> tuple[AgentMachine, Train, World]:
    """A machine that has just asked for a round; its outcome is for the test to give."""
    world = World(small_definition(), 1, training_s=10**6)
    agent = world.agents["m00"]
    tasks: list[Train] = []
    original = agent._do

    def do(action: object) -> bool:
        if isinstance(action, Train):
            tasks.append(action)
            return True
        return original(action)  # type: ignore[arg-type]

    agent._do = do  # type: ignore[method-assign, assignment]
    assert world.run(20, until=lambda: bool(tasks))
    assert agent.machine is not None
    return agent.machine, tasks[0], world
