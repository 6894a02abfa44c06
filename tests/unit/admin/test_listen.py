"""Sockets of the admin plane."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from sidecar.admin.listen import bind_tcp, bind_unix, shown
from sidecar.errors import SidecarError


def test_the_any_address_of_ipv6_takes_ipv4_too():
    with bind_tcp("[::]:0") as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
        assert shown(sock).startswith("[::]:")


@pytest.mark.parametrize("listen", ["127.0.0.1:notaport", "127.0.0.1:99999", "192.0.2.1:0", "no.such.host.invalid:1"])
def test_an_address_that_cannot_be_bound_is_named(listen):
    with pytest.raises(SidecarError, match=r"admin\.listen"):
        bind_tcp(listen)


def test_a_unix_socket_appears_with_its_mode_and_its_folder_is_made(tmp_path):
    path = str(tmp_path / "new" / "a.sock")
    with bind_unix(path, 0o600):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700
        assert not os.path.exists(path + ".new")
    (tmp_path / "new" / "a.sock.new").touch()  # from a crash
    bind_unix(path, 0o660).close()


def test_a_path_that_is_too_long_or_cannot_be_written_is_named(tmp_path):
    with pytest.raises(SidecarError, match="longer than 100"):
        bind_unix("/" + "a" * 101, 0o600)
    (tmp_path / "file").touch()
    with pytest.raises(SidecarError, match="cannot bind"):
        bind_unix(str(tmp_path / "file" / "a"), 0o600)
