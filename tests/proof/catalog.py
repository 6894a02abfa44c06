"""Every harness that ``make proof`` runs. To add one: a module in ``shards/`` and a line here."""

from __future__ import annotations

from tests.proof.shard import Shard
from tests.proof.shards import (
    backends,
    churn,
    clocks,
    crashes,
    decoders,
    disks,
    drains,
    faults,
    flood,
    full,
    guided,
    http_fuzz,
    kills,
    limits,
    named,
    power,
    powercuts,
    rot,
    simulation,
    slow,
    spoiled,
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
        spoiled.SHARD,
        http_fuzz.SHARD,
        kills.SHARD,
        crashes.SHARD,
        full.SHARD,
        limits.SHARD,
        disks.SHARD,
        decoders.SHARD,
        guided.SHARD,
        backends.SHARD,
        slow.SHARD,
        flood.SHARD,
        drains.SHARD,
        clocks.SHARD,
        churn.SHARD,
        named.SHARD,
    )
}
