"""Who looks after a running service: systemd, and whoever asks over HTTP."""

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plantfed_shared.health_settings import HealthSection
from plantfed_shared.service_manager import ServiceManager
from plantfed_shared.vitals import Vitals


@contextmanager
def watched(health: HealthSection, state_dir: Path) -> Iterator[Vitals]:
    """What a service's loop is to tell how it does, while the context lasts.

    Args:
        health: of its settings.
        state_dir: of the service.

    Raises:
        BrokerError: the health endpoint's port is taken.
    """
    # a watchdog ends a hung service by SIGABRT: then its log says where it hung
    faulthandler.enable()
    address = health.address
    vitals = Vitals(ServiceManager(os.environ), state_dir, watched=address is not None)
    if address is None:
        yield vitals
        return
    # costs two megabytes that an agent without it need not have
    from plantfed_shared.health_endpoint import health_endpoint

    with health_endpoint(address, vitals):
        yield vitals
