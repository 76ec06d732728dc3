"""The networks in torch, how they are exported, and how torch trains them."""

import logging
import warnings
from fnmatch import fnmatchcase
from io import BytesIO
from typing import Any

import numpy as np
import torch
from tests.compiler.training import (
    ARCHITECTURES,
    LEARNING_RATE,
    MOMENTUM,
    PULL,
    STEPS,
    Tensors,
    batch,
    pulls,
)
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)
# torch's fast path is one operator of its own, which no exporter knows
torch.backends.mha.set_fastpath_enabled(False)


class Separable(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3, 6, 3, padding=1, groups=3), nn.Conv1d(6, 8, 1), nn.ReLU(),
            nn.Conv1d(8, 8, 3, stride=2, padding=2, dilation=2, groups=8), nn.Conv1d(8, 8, 1),
            nn.ReLU(), nn.AdaptiveAvgPool1d(1),
        )  # fmt: skip
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.skip = nn.Conv2d(4, 6, 1, stride=2, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = F.relu(self.norm1(self.first(x)))
        x = F.relu(self.norm2(self.second(x)) + self.skip(x))
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, cell, outputs, *, last):
        super().__init__()
        self.body, self.head, self.last = cell(4, 6, batch_first=True), nn.Linear(6, outputs), last

    def forward(self, x):
        y, _ = self.body(x)
        return self.head(y[:, -1] if self.last else y.mean(1))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x).mean(1))


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, 2, 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4, 6, 2, stride=2), nn.ReLU(),
            nn.ConvTranspose2d(6, 2, 3, stride=2, padding=1, output_padding=1),
        )  # fmt: skip

    def forward(self, x):
        return self.decoder(self.encoder(x))


def architecture(name: str) -> nn.Module:
    torch.manual_seed(5)
    made = {
        "mlp": lambda: nn.Sequential(
            nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)
        ),
        "mlp-norm": lambda: nn.Sequential(
            nn.Linear(9, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(0.0), nn.Linear(16, 8),
            nn.ReLU(), nn.Linear(8, 2),
        ),
        "cnn1d": lambda: nn.Sequential(
            nn.Conv1d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(6, 8, 3, stride=2), nn.ReLU(), nn.AvgPool1d(2, ceil_mode=False),
            nn.Flatten(), nn.Linear(8, 3),
        ),
        "separable": Separable,
        "cnn2d": lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.Flatten(),
            nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 3),
        ),
        "residual": Residual,
        "gru": lambda: Recurrent(nn.GRU, 2, last=False),
        "lstm": lambda: Recurrent(nn.LSTM, 3, last=True),
        "transformer": Transformer,
        "autoencoder": Autoencoder,
    }[name]()  # fmt: skip
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            # as after some training: fresh ones are all alike
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return made


def export(module: nn.Module, x: torch.Tensor, exporter: str, opset: int) -> bytes:
    """As a user would who wants names to stay and batches of any size."""
    module.eval()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            program = torch.onnx.export(
                module, (x,), dynamo=True, opset_version=opset, optimize=False, verbose=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
            for node in program.model.graph:
                node.metadata_props.clear()
            return program.model_proto.SerializeToString()
        written = BytesIO()
        torch.onnx.export(
            module, (x,), written, dynamo=False, opset_version=opset, do_constant_folding=False,
            input_names=["x"], dynamic_axes={"x": {0: "batch"}},
        )  # fmt: skip
        return written.getvalue()


LOSSES = {
    "cross-entropy": F.cross_entropy,
    "bce": F.binary_cross_entropy_with_logits,
    "mse": lambda y, t: F.mse_loss(y, t) / 2,
    "huber": lambda y, t: F.huber_loss(y, t, delta=1.0),
    "reconstruction": lambda y, t: F.mse_loss(y, t) / 2,
}


def trained(name: str) -> tuple[Tensors, Tensors, Tensors]:
    """Weights and statistics as they begin, after the head phase, and after the body phase."""
    module = architecture(name)
    begin = state(module)
    parameters = dict(module.named_parameters())
    found = [begin]
    toward = pulls(name, {n: begin[n] for n in parameters})
    patterns = ARCHITECTURES[name].personal
    head = [n for n in parameters if any(fnmatchcase(n, p) for p in patterns)]
    module.train()
    for phase, names in enumerate([head, [n for n in parameters if n not in head]]):
        for step in range(STEPS):
            take_step(module, name, phase * STEPS + step, names, toward)
        found.append(state(module))
    return found[0], found[1], found[2]


def take_step(module: nn.Module, name: str, step: int, names: list[str], toward: Any) -> None:
    x, right = (torch.from_numpy(a) for a in batch(name, step))
    parameters = dict(module.named_parameters())
    loss = LOSSES[ARCHITECTURES[name].loss](module(x), right)
    gradients = torch.autograd.grad(loss, [parameters[n] for n in names])
    with torch.no_grad():
        for n, gradient in zip(names, gradients, strict=True):
            p, anchor, dual = parameters[n], toward.anchor[n], toward.dual[n]
            slope = gradient + torch.from_numpy(dual) + PULL * (p - torch.from_numpy(anchor))
            p -= LEARNING_RATE * slope


def trained_with_momentum(name: str) -> Tensors:
    """All weights after STEPS steps of torch's own SGD with momentum."""
    module = architecture(name).train()
    optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE, momentum=MOMENTUM)
    for step in range(STEPS):
        x, right = (torch.from_numpy(a) for a in batch(name, step))
        optimizer.zero_grad()
        LOSSES[ARCHITECTURES[name].loss](module(x), right).backward()
        optimizer.step()
    return state(module)


def state(module: nn.Module) -> Tensors:
    return {
        n: np.array(t.detach().numpy())
        for n, t in module.state_dict().items()
        if t.dtype == torch.float32
    }


# ---------------------------------------------------------------- one for every operator


class Small(nn.Module):
    """x * w + b, then a function of it and of further parameters."""

    def __init__(self, sample, function, *parts, **given):
        super().__init__()
        low, high, offset = given.pop("range", (-1.5, 1.5, 0.0))
        self.w = nn.Parameter(torch.empty(sample).uniform_(low, high))
        self.b = nn.Parameter(torch.randn(sample) * 0.3 + offset)
        self.function = function
        self.parts = nn.ModuleList(parts)
        for name, tensor in given.items():
            setattr(self, name, nn.Parameter(tensor))

    def forward(self, x):
        return self.function(self, x * self.w + self.b)


def small(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(11)
    module = SMALL[name]()
    x = torch.randn(4, *(module.w.shape if isinstance(module, Small) else (3,)))
    if name == "embedding":
        return module, torch.randint(0, 5, (4, 3))
    return module, x.abs() if name in POSITIVE else x


def gradients(name: str) -> tuple[float, Tensors, Tensors]:
    """Half the mean square of the outputs, its gradients, and the batch."""
    module, x = small(name)
    module.train()
    right = torch.randn(*module(x).shape, generator=torch.Generator().manual_seed(3))
    loss = F.mse_loss(module(x), right) / 2
    loss.backward()
    found = {n: p.grad.numpy() for n, p in module.named_parameters()}
    return loss.item(), found, {"x": x.numpy(), "right": right.numpy()}


POSITIVE = {"log", "sqrt", "reciprocal", "pow"}
ABOVE = (0.5, 1.5, 2.5)

SMALL = {
    "abs": lambda: Small((6,), lambda m, a: a.abs()),
    "arithmetic": lambda: Small(
        (3, 4), lambda m, a: (a + m.v) * m.u - a / (m.u * m.u + 1), v=torch.randn(3, 1),
        u=torch.randn(4),
    ),
    "negative": lambda: Small((6,), lambda m, a: -a),
    "log": lambda: Small((6,), lambda m, a: a.log(), range=ABOVE),
    "sqrt": lambda: Small((6,), lambda m, a: a.sqrt(), range=ABOVE),
    "reciprocal": lambda: Small((6,), lambda m, a: a.reciprocal(), range=ABOVE),
    "pow": lambda: Small((6,), lambda m, a: a**2 + a**1.5, range=ABOVE),
    "waves": lambda: Small((6,), lambda m, a: a.sin() + a.cos() + a.exp()),
    "erf": lambda: Small((6,), lambda m, a: a.erf()),
    "larger": lambda: Small((6,), lambda m, a: torch.maximum(a, m.v), v=torch.randn(6)),
    "smaller": lambda: Small((6,), lambda m, a: torch.minimum(a, m.v), v=torch.randn(6)),
    "where": lambda: Small((6,), lambda m, a: torch.where(a > 0.1, a, m.v), v=torch.randn(6)),
    "clip": lambda: Small((6,), lambda m, a: a.clamp(-0.5, 0.6)),
    "elu": lambda: Small((6,), lambda m, a: F.elu(a, 1.3)),
    "gelu": lambda: Small((6,), lambda m, a: F.gelu(a)),
    "gelu-tanh": lambda: Small((6,), lambda m, a: F.gelu(a, approximate="tanh")),
    "hard-sigmoid": lambda: Small((6,), lambda m, a: F.hardsigmoid(a * 3)),
    "hard-swish": lambda: Small((6,), lambda m, a: F.hardswish(a * 3)),
    "leaky-relu": lambda: Small((6,), lambda m, a: F.leaky_relu(a, 0.2)),
    "log-softmax": lambda: Small((3, 4), lambda m, a: a.log_softmax(1)),
    "p-relu": lambda: Small((3, 4), lambda m, a: m.parts[0](a), nn.PReLU(3)),
    "relu": lambda: Small((6,), lambda m, a: a.relu()),
    "selu": lambda: Small((6,), lambda m, a: F.selu(a)),
    "sigmoid": lambda: Small((6,), lambda m, a: a.sigmoid()),
    "silu": lambda: Small((6,), lambda m, a: F.silu(a)),
    "softmax": lambda: Small((3, 4), lambda m, a: a.softmax(-1)),
    "softplus": lambda: Small((6,), lambda m, a: F.softplus(a)),
    "softsign": lambda: Small((6,), lambda m, a: F.softsign(a)),
    "tanh": lambda: Small((6,), lambda m, a: a.tanh()),
    "einsum": lambda: Small(
        (3, 4), lambda m, a: torch.einsum("bqd,dk->bqk", a, m.v), v=torch.randn(4, 5)
    ),
    "linear": lambda: Small((6,), lambda m, a: m.parts[0](a), nn.Linear(6, 3)),
    "linear-rows": lambda: Small((3, 4), lambda m, a: m.parts[0](a), nn.Linear(4, 5)),
    "attention": lambda: Small(
        (5, 6), lambda m, a: m.parts[0](a, a, a, need_weights=False)[0],
        nn.MultiheadAttention(6, 2, batch_first=True),
    ),
    "conv-2d": lambda: Small(
        (2, 7, 6), lambda m, a: m.parts[0](a),
        nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    ),
    "conv-groups": lambda: Small(
        (4, 7), lambda m, a: m.parts[0](a), nn.Conv1d(4, 6, 3, stride=2, groups=2)
    ),
    "conv-transpose": lambda: Small(
        (4, 5), lambda m, a: m.parts[0](a),
        nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
    ),
    "average-pool": lambda: Small(
        (2, 7, 6), lambda m, a: F.avg_pool2d(a, (3, 2), 2, (1, 0), count_include_pad=False)
    ),
    "average-pool-with-pads": lambda: Small((2, 7), lambda m, a: F.avg_pool1d(a, 3, 2, 1)),
    "global-average-pool": lambda: Small((2, 7), lambda m, a: F.adaptive_avg_pool1d(a, 1)),
    "global-max-pool": lambda: Small((2, 7, 3), lambda m, a: F.adaptive_max_pool2d(a, 1)),
    "max-pool": lambda: Small((2, 7, 6), lambda m, a: F.max_pool2d(a, 2)),
    "max-pool-overlap": lambda: Small((2, 7, 6), lambda m, a: F.max_pool2d(a, 3, 2, 1)),
    "max-pool-ceil": lambda: Small((2, 7), lambda m, a: F.max_pool1d(a, 2, ceil_mode=True)),
    "batch-norm": lambda: Small((3, 5), lambda m, a: m.parts[0](a.tanh()), nn.BatchNorm1d(3)),
    "instance-norm": lambda: Small(
        (3, 5), lambda m, a: m.parts[0](a), nn.InstanceNorm1d(3, affine=True)
    ),
    "group-norm": lambda: Small((4, 5), lambda m, a: m.parts[0](a), nn.GroupNorm(2, 4)),
    "layer-norm": lambda: Small((3, 5), lambda m, a: m.parts[0](a), nn.LayerNorm((3, 5))),
    "gru": lambda: Small((5, 4), lambda m, a: m.parts[0](a)[0], nn.GRU(4, 3, batch_first=True)),
    "lstm": lambda: Small(
        (5, 4), lambda m, a: m.parts[0](a)[1][1][0], nn.LSTM(4, 3, batch_first=True)
    ),
    "two-gru": lambda: Small(
        (5, 4), lambda m, a: m.parts[0](a)[1][1], nn.GRU(4, 3, num_layers=2, batch_first=True)
    ),
    "norms": lambda: Small(
        (3, 4), lambda m, a: a.norm(p=1, dim=2) + a.norm(p=2, dim=2) + a.logsumexp(2)
    ),
    "sums": lambda: Small((3, 4), lambda m, a: a.sum(1) + a.mean(1, keepdim=True)[:, 0]),
    "extremes": lambda: Small((3, 4), lambda m, a: a.amax(1) - a.amin(1)),
    "standardised": lambda: Small(
        (6,), lambda m, a: (a - a.mean(1, keepdim=True)) / (a.var(1, keepdim=True) + 0.1).sqrt()
    ),
    "concat": lambda: Small((3, 4), lambda m, a: torch.cat([a, a.tanh(), a[:, :2]], 1)),
    "expand": lambda: Small((4,), lambda m, a: a.unsqueeze(1).expand(-1, 3, 4)),
    "flatten": lambda: Small((3, 4), lambda m, a: a.flatten(1)),
    "select": lambda: Small((3, 4), lambda m, a: a[:, -1] + a[:, 0]),
    "index": lambda: Small((3, 4), lambda m, a: a[:, :, [3, 0, 0]]),
    "embedding": lambda: nn.Embedding(5, 4),
    "pad": lambda: Small((3, 4), lambda m, a: F.pad(a, (1, 2))),
    "reshape": lambda: Small((3, 4), lambda m, a: a.reshape(-1, 2, 6)),
    "upsample": lambda: Small((2, 3, 4), lambda m, a: F.interpolate(a, scale_factor=2.0)),
    "slice": lambda: Small((5, 4), lambda m, a: a[:, 1:4, ::2]),
    "flip": lambda: Small((5, 4), lambda m, a: a.flip(1)),
    "split": lambda: Small((5, 4), lambda m, a: a.split([2, 3], 1)[1].tanh()),
    "chunks": lambda: Small((4, 4), lambda m, a: torch.mul(*a.chunk(2, 1))),
    "squeeze": lambda: Small((1, 4), lambda m, a: a.squeeze(1)),
    "tile": lambda: Small((3, 4), lambda m, a: a.repeat(1, 2, 3)),
    "transpose": lambda: Small((2, 3, 4), lambda m, a: a.permute(0, 3, 1, 2)),
    "stack": lambda: Small((3, 4), lambda m, a: torch.stack([a, a * a], 1)),
}  # fmt: skip
