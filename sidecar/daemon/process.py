"""The daemon's process: what it asks of the machine and of Python, its log from first to last, and its exit code."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable

from sidecar import log
from sidecar.config.load import load_settings
from sidecar.daemon.daemon import HEARD, Companion, Daemon
from sidecar.daemon.memory import give_back
from sidecar.errors import SidecarError

__all__ = ["run"]

SWITCH_INTERVAL_S = 0.0001  # LMDB gives up the GIL at each call; at 5 ms the writer would wait that long each time

_log = log.get_logger("daemon")


def run(
    config_path: str | None,
    *,
    companion: Companion | None = None,
    show_link: Callable[[str], None] | None = None,
) -> int:
    """Run the daemon until it is told to stop.

    Args:
        config_path: The configuration; None to look in the usual places.
        companion: Started on the daemon's loop before it accepts anything.
        show_link: Called once it accepts webhooks and no token is configured, with the front page's address and the
            token made for this process; None when nobody would see it. A secret, so it is in no log.

    Returns:
        The exit code: 0 after an orderly stop, 1 after a bug, 74 when the journal failed.

    Raises:
        SidecarError: It could not start; the error says why and what to do.
    """
    import uvloop  # noqa: PLC0415 - only the daemon needs it, not the commands that import this module's neighbours

    give_back()
    settings = load_settings(config_path, env=os.environ)
    log.start(settings.log)
    try:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        os.umask(0o077)
        _leave_no_core()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # too early: it would end us instead of meaning a reload
        return uvloop.run(Daemon(settings, config_path, show_link=show_link).serve(companion))
    except SidecarError:
        raise
    except Exception as e:  # noqa: BLE001 - the top of the daemon; a traceback ends in a text that may quote a secret
        _log.error("the daemon ends on a bug", error=log.bug_text(e))
        return 1
    finally:
        log.stop()
        _hear_nothing()


def _hear_nothing() -> None:
    """Ignore what comes from now on: it would kill us, exit code and all.

    Blocked meanwhile: one that comes while its handler is being replaced would be complained of on stderr.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_no_core() -> None:
    """Let no crash write our memory to a disk: every secret and many a request is in it.

    Source: core(5). Where cores are piped to a program, that program decides, by the limit that is handed to it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
