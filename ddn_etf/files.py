"""Files that are either whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from ddn.errors import DeclarativeNodeError

__all__ = ["WriteError", "write_atomically"]


class WriteError(DeclarativeNodeError, OSError):
    """A file could not be written; what stood in its place before is untouched."""

    def __str__(self) -> str:
        return str(self.strerror)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that at every moment its old content or its new content is there, whole.

    The content goes to a temporary file in the same folder, is forced to the disk, and takes the
    name of the file by a rename, which file systems do at once or not at all.

    Args:
        path: the file; its folder exists.
        content: text is written as UTF-8.

    Raises:
        WriteError: a full disk, a missing folder or missing permission. The file is as it was, and
            no temporary file is left.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private to its owner; this one is to be like any other file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise WriteError(
            error.errno,
            f"cannot write {path} ({error.strerror}); what was there before is kept. Free some "
            "space on that disk, or choose a folder on another one",
        ) from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _umask() -> int:
    """What the process takes away from the permissions of new files; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
