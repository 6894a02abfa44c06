"""Every harness that ``make proof`` runs. To add one: a module in ``shards/`` and a line here."""

from __future__ import annotations

from tests.proof.shard import Shard
from tests.proof.shards import (
    decoders,
    disks,
    faults,
    full,
    http_fuzz,
    kills,
    limits,
    power,
    powercuts,
    rot,
    simulation,
)

__all__ = ["SHARDS"]

SHARDS: dict[str, Shard] = {
    s.name: s
    for s in (
        power.SHARD,
        powercuts.SHARD,
        faults.SHARD,
        simulation.SHARD,
        rot.SHARD,
        http_fuzz.SHARD,
        kills.SHARD,
        full.SHARD,
        limits.SHARD,
        disks.SHARD,
        decoders.SHARD,
    )
}
