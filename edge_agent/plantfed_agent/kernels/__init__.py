"""Networks and their gradients, on numpy alone."""

from plantfed_agent.kernels.dense import DenseKernel, kernel_for
from plantfed_agent.kernels.port import Kernel, Truth

__all__ = ["DenseKernel", "Kernel", "Truth", "kernel_for"]
