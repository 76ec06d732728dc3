"""What a plant has to install: the packages of an agent, with versions and sizes on disk."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

from plantfed_lab.results import Package

DISTRIBUTION = "plantfed"
EXTRA = "agent"


def agent_packages() -> tuple[Package, ...]:
    """``pip install 'plantfed[agent]'`` with everything it needs, the largest first.

    Packages that are not installed here are left out; sizes are those pip recorded.
    """
    found: dict[str, Package] = {}
    waiting = [(DISTRIBUTION, frozenset({EXTRA}))]
    while waiting:
        name, extras = waiting.pop()
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        canonical = installed.name.lower().replace("_", "-")
        if canonical in found:
            continue
        found[canonical] = Package(
            name=canonical, version=installed.version, megabytes=_megabytes(installed)
        )
        for text in installed.requires or []:
            requirement = Requirement(text)
            if _applies(requirement, extras):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return tuple(sorted(found.values(), key=lambda p: (-(p.megabytes or 0), p.name)))


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": e}) for e in extras | {""})


def _megabytes(installed: Distribution) -> float | None:
    sizes = [file.size for file in installed.files or [] if file.size is not None]
    # an editable install records nothing but its own link
    return round(sum(sizes) / 1e6, 2) if sum(sizes) > 30_000 else None
