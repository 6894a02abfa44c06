"""The daemon: puts the parts together, starts them in order, drains them in reverse. Nobody imports it but the command line."""

from sidecar.daemon.daemon import STOP_S, Daemon, run
from sidecar.daemon.heartbeat import BEAT_S

__all__ = ["BEAT_S", "STOP_S", "Daemon", "run"]
