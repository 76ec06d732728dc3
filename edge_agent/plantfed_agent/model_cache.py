"""Compiled models on this machine's disk, by digest, and whether they compute what they should."""

import logging
import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from plantfed_shared.artefact import Artefact, digest_of, read_whole_file
from plantfed_shared.errors import LostModelError, ModelError, StorageError
from plantfed_shared.section import MAX_ARTEFACT_BYTES

log = logging.getLogger(__name__)

FOLDER = "models"
_DIGEST = re.compile("[0-9a-f]{32}")


class ModelCache:
    """A folder in the agent's state that holds one artefact, and a note on its self-test.

    Args:
        state_dir: of the agent.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER

    def digests(self) -> frozenset[bytes]:
        """Of the artefacts that are here whole; a damaged one is deleted, to be fetched anew."""
        whole = set()
        for path in self._folder.glob("*.pfm"):
            if not _DIGEST.fullmatch(path.stem):
                continue
            digest = bytes.fromhex(path.stem)
            with suppress(OSError):
                if _is_whole(path, digest):
                    whole.add(digest)
                else:
                    log.warning("%s is damaged: deleted, to be fetched anew", path)
                    path.unlink()
        return frozenset(whole)

    def keep(self, digest: bytes, content: bytes) -> None:
        """Write an artefact in the place of all others; it is there whole or not at all.

        Raises:
            StorageError: it cannot be written.
            ValueError: it has another digest, or is longer than any.
        """
        if digest_of(content) != digest or len(content) > MAX_ARTEFACT_BYTES:
            raise ValueError("an artefact that is not what was promised")
        path = self._path(digest)
        part = path.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            for other in self._folder.iterdir():
                if _DIGEST.fullmatch(other.stem) and other.stem != path.stem:
                    other.unlink()
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from None

    def load(self, digest: bytes) -> Artefact:
        """Read and verify an artefact.

        Raises:
            LostModelError: it is missing, cannot be read, or not what its digest says.
            ModelError: it is, and that is no artefact.
        """
        path = self._path(digest)
        hint = "It is fetched at the next start or round; if that does not help, look at the disk"
        try:
            content = read_whole_file(path, MAX_ARTEFACT_BYTES, "an artefact")
        except ModelError as error:
            raise LostModelError(error.what, where=str(path), hint=hint) from None
        if digest_of(content) != digest:
            raise LostModelError(
                "is not what its digest says: the file was changed or the disk is bad",
                where=str(path),
                hint=hint,
            )
        return Artefact.from_bytes(content, str(path))

    def passed(self, digest: bytes) -> bool:
        """Whether its self-test was passed on this machine with these versions."""
        try:
            return self._note(digest).read_text() == _machine()
        except (OSError, UnicodeDecodeError):
            return False

    def note_passed(self, digest: bytes) -> None:
        """Its self-test was passed; where that cannot be written it is done again."""
        with suppress(OSError):
            self._note(digest).write_text(_machine())

    def _path(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}.pfm"

    def _note(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}.tested"


def _is_whole(path: Path, digest: bytes) -> bool:
    try:
        return digest_of(read_whole_file(path, MAX_ARTEFACT_BYTES, "an artefact")) == digest
    except ModelError:
        return False


def _machine() -> str:
    """What a self-test is good for: this machine and the versions that compute."""
    return f"{platform.node()} {platform.machine()} onnxruntime {_version()}"


def _version() -> str:
    try:
        return version("onnxruntime")
    except PackageNotFoundError:
        return "-"
