"""``python -m benchmarks.training.with_torch JOB ROWS``: the same steps in torch, eagerly.

Run by a Python that has torch, and maybe nothing of PlantFed's.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.training.job import LEARNING_RATE, PULL, Arrays, anchor, drawn, dual, serve

torch: Any = import_module("torch")
READY_S = process_time()


def module(sample: list[int], layers: list[Any]) -> Any:
    """A torch.nn.Sequential."""
    nn, spatial = torch.nn, len(sample) - 1
    conv, pool = (nn.Conv1d, nn.MaxPool1d) if spatial == 1 else (nn.Conv2d, nn.MaxPool2d)
    makers: dict[str, Any] = {
        "linear": nn.Linear,
        "conv": lambda n_in, n_out, kernel: conv(n_in, n_out, kernel, padding=kernel // 2),
        "pool": pool,
        "relu": nn.ReLU,
        "flatten": nn.Flatten,
    }
    return nn.Sequential(*(makers[kind](*sizes) for kind, sizes in layers))


def main(path: str, rows: str) -> None:
    torch.set_num_threads(1)
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    with np.load(job["parameters"]) as file:
        initial = {name: torch.from_numpy(file[name]) for name in file.files}
    network = module(job["sample"], job["layers"])
    network.load_state_dict(initial)
    named = dict(network.named_parameters())
    own = list(named.values())
    anchors = [torch.from_numpy(anchor(initial[n].numpy())) for n in named]
    duals = [torch.from_numpy(dual(initial[n].numpy())) for n in named]
    cross_entropy = torch.nn.functional.cross_entropy

    def step(batch: Any) -> None:
        for parameter in own:
            parameter.grad = None
        cross_entropy(network(batch[0]), batch[1]).backward()
        with torch.no_grad():
            # one call for all parameters, as torch's own optimisers do
            slopes = [parameter.grad for parameter in own]
            torch._foreach_add_(slopes, duals)
            torch._foreach_add_(slopes, torch._foreach_sub(own, anchors), alpha=PULL)
            torch._foreach_add_(own, slopes, alpha=-LEARNING_RATE)

    def weights() -> Arrays:
        return {name: parameter.detach().numpy() for name, parameter in named.items()}

    batches = drawn(tuple(job["sample"]), job["classes"], int(rows))
    serve(READY_S, [tuple(map(torch.from_numpy, batch)) for batch in batches], step, weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
