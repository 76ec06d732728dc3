"""What PlantFed costs: ``make bench``, or ``python -m benchmarks [NAME ...] [--quick]``."""

import os

# one thread for numpy, as the programs have it: before any module here imports it
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
