"""Hypothesis without a deadline (a slow machine is no failure), and with the same examples always.

What is random belongs into the soak: a test that fails once in a while helps nobody.
"""

from hypothesis import settings

settings.register_profile("plantfed", deadline=None, derandomize=True)
settings.load_profile("plantfed")
