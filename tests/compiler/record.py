"""Export everything from torch and record what torch makes of it; run by hand:

PYTHONPATH=. PYTHON_WITH_TORCH -m tests.compiler.record
"""

import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import torch
from tests.compiler import torch_modules
from tests.compiler.training import ARCHITECTURES, EXPORTERS

FOLDER = Path(__file__).parent / "recorded"
OPSETS = {"dynamo": 20, "script": 17}
OPSETS_OF_SMALL = {"dynamo": 22, "script": 13}


def main() -> None:
    failed = []
    with ZipFile(FOLDER / "architectures.zip", "w") as archive:
        for name, shape in ARCHITECTURES.items():
            for exporter in EXPORTERS:
                try:
                    module = torch_modules.architecture(name)
                    x = torch.randn(4, *shape.sample)
                    encoded = torch_modules.export(module, x, exporter, OPSETS[exporter])
                except Exception as error:
                    failed.append(f"{name} by {exporter}: {type(error).__name__} {error}"[:300])
                    continue
                write(archive, f"{name}.{exporter}.onnx", encoded)
            begin, after_head, after_body = torch_modules.trained(name)
            results = {f"begin.{n}": a for n, a in begin.items()}
            results |= {f"head.{n}": a for n, a in after_head.items()}
            results |= {f"body.{n}": a for n, a in after_body.items()}
            momentum = torch_modules.trained_with_momentum(name)
            results |= {f"momentum.{n}": a for n, a in momentum.items()}
            write(archive, f"{name}.npz", npz(results))
    with ZipFile(FOLDER / "operators.zip", "w") as archive:
        for name in torch_modules.SMALL:
            for exporter in EXPORTERS:
                for opset in (OPSETS_OF_SMALL[exporter], 17):
                    try:
                        module, x = torch_modules.small(name)
                        encoded = torch_modules.export(module, x, exporter, opset)
                    except Exception as error:
                        said = f"{name} by {exporter} {opset}: {type(error).__name__} {error}"
                        failed.append(said[:300])
                        continue
                    write(archive, f"{name}.{exporter}.onnx", encoded)
                    break
            loss, found, given = torch_modules.gradients(name)
            results = {f"gradient.{n}": a for n, a in found.items()} | given
            write(archive, f"{name}.npz", npz({**results, "loss": np.array(loss)}))
    sys.stderr.write(f"torch {torch.__version__}\n" + "\n".join(failed) + "\n")


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    written = BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def write(archive: ZipFile, name: str, content: bytes) -> None:
    archive.writestr(ZipInfo(name), content, ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
