"""Every harness that ``make proof`` runs. To add one: a module in ``shards/`` and a line here."""

from __future__ import annotations

from tests.proof.shard import Shard
from tests.proof.shards import decoders, faults, guided, http_fuzz, kills, power, rot, simulation

__all__ = ["SHARDS"]

SHARDS: dict[str, Shard] = {
    s.name: s
    for s in (
        power.SHARD,
        faults.SHARD,
        simulation.SHARD,
        rot.SHARD,
        http_fuzz.SHARD,
        kills.SHARD,
        decoders.SHARD,
        guided.SHARD,
    )
}
