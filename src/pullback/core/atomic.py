"""Atomic writing of files (complete or absent), with one-line errors.

A sealed file starts with its checksum, which detects changed bits.
"""

import errno
import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED_SECONDS = 7 * 24 * 3600
"""A temporary file of another machine is taken for abandoned when nothing was written to it for this long."""

MACHINE = re.sub(r"[^A-Za-z0-9_]", "-", platform.node()) or "unknown"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


DIGEST_BYTES = 32


class DamagedError(ValueError):
    """A sealed file that is truncated or changed."""


class StoreError(ValueError):
    """A file that is missing, truncated, foreign, changed, holds what it may not, or cannot be written."""


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """A temporary path in the same folder, flushed to the disk and renamed to ``path`` on success, removed on failure.

    Temporary files of killed processes for the same path are removed first.

    Raises:
        StoreError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{MACHINE}.{os.getpid()}.tmp")
    written = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        try:
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                written = temporary.stat().st_size
                temporary.unlink()
    except OSError as error:
        other = error.filename and Path(error.filename)
        if other and other.parent != path.parent and other not in path.parents:
            raise  # it is about another file
        raise StoreError(refusal(path, error, written)) from error


def write_atomic(path: Path | str, content: bytes | str) -> None:
    """Write a file, text in UTF-8, atomically.

    Raises:
        StoreError: the folder cannot be written or the disk is full.
    """
    with atomic(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_sealed(path: Path, content: bytes) -> None:
    """Write the SHA-256 of some content, then the content."""
    write_atomic(path, hashlib.sha256(content).digest() + content)


def read_sealed(path: Path) -> bytes:
    """The content of a sealed file.

    Raises:
        DamagedError: it is cut short or changed.
    """
    found = path.read_bytes()
    if hashlib.sha256(found[DIGEST_BYTES:]).digest() != found[:DIGEST_BYTES]:
        raise DamagedError(f"{path} is damaged ({len(found)} bytes)")
    return found[DIGEST_BYTES:]


def _to_disk(path: Path) -> None:
    # A file system over a network may say only now that it is full.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of ``path`` whose process is gone; one that may be at work on another machine stays."""
    mine = re.compile(rf"\.{re.escape(path.name)}\.(?P<machine>.*)\.(?P<process>\d+)\.tmp")
    for other in path.parent.iterdir():
        found = mine.fullmatch(other.name)
        if found is None:
            continue
        with suppress(OSError):
            old = time.time() - other.stat().st_mtime > ABANDONED_SECONDS
            if old or (found["machine"] == MACHINE and not _alive(int(found["process"]))):
                other.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def refusal(path: Path, error: OSError, written: int = 0) -> str:
    """Error message of a failed write: file, cause, remedy."""
    why = error.strerror or str(error)
    # os.path answers where pathlib raises: behind a folder that nobody may enter.
    there = next((folder for folder in path.parents if os.path.exists(folder)), path.parent)
    if error.errno in FULL:
        unfinished = f" now that its unfinished {size(written)} are removed" if written else ""
        return (
            f"{path} cannot be written ({why}): {free_space(there)}{unfinished}. Make room there, or "
            "raise the quota, and run again; nothing that was finished is lost"
        )
    if error.errno in REFUSED:
        return f"{path} cannot be written ({why}): let {there} be a folder that you may write to, and run again"
    if os.path.isfile(there):
        return f"{path} cannot be written ({why}): {there} is a file, wanted a folder; move it away and run again"
    return f"{path} cannot be written ({why}): check its folder and its disk, and run again"


def free_space(folder: Path) -> str:
    """Free space on the file system of a folder, as text."""
    state = os.statvfs(folder)
    words = f"{size(shutil.disk_usage(folder).free)} are free on the file system of {folder}"
    return words + (", and no room for another file (inodes)" if state.f_files and not state.f_favail else "")


def size(count: float) -> str:
    """A number of bytes as text with a unit."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.4g} TB"
