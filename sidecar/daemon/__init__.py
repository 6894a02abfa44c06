"""The daemon: puts the parts together, starts them in order, drains them in reverse. Nobody imports it but the command line."""

from sidecar.daemon.daemon import STOP_S, Daemon
from sidecar.daemon.heartbeat import BEAT_S
from sidecar.daemon.process import run

__all__ = ["BEAT_S", "STOP_S", "Daemon", "run"]
