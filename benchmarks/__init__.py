"""What PlantFed costs: ``make bench``, or ``python -m benchmarks [NAME ...] [--quick]``."""
