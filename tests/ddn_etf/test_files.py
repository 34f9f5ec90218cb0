from __future__ import annotations

import errno
import os
import stat

import pytest

from ddn_etf.files import WriteError, write_atomically


def test_text_and_bytes(tmp_path):
    write_atomically(tmp_path / "text", "NC1 ‖W‖\n")
    write_atomically(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_text("utf-8") == "NC1 ‖W‖\n"
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "text"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "other").write_text("")
    write_atomically(tmp_path / "file", "")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "other")]
    assert modes[0] == modes[1]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        WriteError, match=r"cannot write .*file \(No space left on device\)"
    ) as raised:
        write_atomically(path, "new")
    assert raised.value.errno == errno.ENOSPC
    assert str(raised.value).startswith("cannot write")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_missing_folder(tmp_path):
    with pytest.raises(WriteError, match="No such file or directory"):
        write_atomically(tmp_path / "absent" / "file", "")


def test_a_file_larger_than_the_process_may_write(tmp_path):
    """The limit of the operating system on the size of files, in a process of its own."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "file"
    path.write_text("old")
    child = os.fork()
    if child == 0:  # pragma: no cover
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomically(path, "x" * 5000)
        except WriteError as error:
            os._exit(0 if error.errno == errno.EFBIG else 2)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
