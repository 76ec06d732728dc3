"""Names of what the graphs of a compiled model take and give besides the network's own.

A step of parameter p with gradient g of the mean loss is

    p <- p - lr * (g + dual + k * (p - anchor))

and with momentum m

    velocity <- m * velocity + g + dual + k * (p - anchor),   p <- p - lr * velocity

as in ``torch.optim.SGD``.  Parameters and statistics are inputs under their own names.  The head
has its own k: where both parts are trained at once, only one of them is pulled at.  Weight decay mu
with a pull rho towards u is k = mu + rho and anchor = rho u / (mu + rho).
"""

RESERVED = "plantfed."
"""No name of a model file begins so."""

LEARNING_RATE = "plantfed.lr"
HEAD_PULL = "plantfed.k_head"
BODY_PULL = "plantfed.k_body"
MOMENTUM = "plantfed.momentum"
TARGET = "plantfed.target"

LOSS = "plantfed.loss"
"""Output: float32 (), mean loss of the batch before the step."""

ROW_LOSS = "plantfed.row_loss"
"""Output of ``evaluate``: float32 (batch,); for reconstruction the anomaly score."""

OUTPUT = "plantfed.output"


def anchor(parameter: str) -> str:
    """Input: what k pulls towards, of the parameter's shape."""
    return f"plantfed.anchor.{parameter}"


def dual(parameter: str) -> str:
    """Input: added to the gradient, of the parameter's shape."""
    return f"plantfed.dual.{parameter}"


def velocity(parameter: str) -> str:
    """Input: what momentum has gathered, of the parameter's shape."""
    return f"plantfed.velocity.{parameter}"


def after(name: str) -> str:
    """Output: a parameter, statistic or velocity after the step, of its shape."""
    return f"plantfed.after.{name}"


def pull(*, personal: bool) -> str:
    """Input: k of a parameter, float32 ()."""
    return HEAD_PULL if personal else BODY_PULL
