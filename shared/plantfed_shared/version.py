"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version


def software_version() -> str:
    """Of the installed ``plantfed`` distribution; "0" when run from a source tree alone."""
    try:
        return version("plantfed")
    except PackageNotFoundError:
        return "0"
