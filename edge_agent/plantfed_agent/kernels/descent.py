"""SGD in numpy, on the gradients of a kernel."""

from collections.abc import Sequence

from plantfed_agent.kernels.port import Batches, Kernel, Part, Rates
from plantfed_shared.parameters import Floats, Parameters, flatten


def descend(
    kernel: Kernel,
    names: Sequence[str],
    parameters: Parameters,
    parts: tuple[Part, ...],
    rates: Rates,
    batches: Batches,
) -> list[float]:
    """See :meth:`plantfed_agent.kernels.port.Kernel.descend`.

    Args:
        kernel: gives the gradients.
        names: of all its parameters, in order.
        parameters: see there.
        parts: see there.
        rates: see there.
        batches: see there.
    """
    of_parts = {p.name for part in parts for p in part.parameters}
    wanted = [name for name in names if name in of_parts]
    losses = []
    for x, y in batches:
        loss, found = kernel.loss_and_gradient(parameters, x, y, wanted)
        losses.append(loss)
        gradients = dict(zip(wanted, found, strict=True))
        for part in parts:
            _step(part, flatten([gradients[p.name] for p in part.parameters]), rates)
    return losses


def _step(part: Part, step: Floats, rates: Rates) -> None:
    vector, pull = part.trained, part.pull
    step += rates.weight_decay * vector
    if pull is not None:
        pulled = pull.strength * (vector - pull.towards)
        step += pulled if pull.dual is None else pull.dual + pulled
    step *= rates.learning_rate
    vector -= step
