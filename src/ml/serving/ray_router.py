"""Which replica of a service on Ray Serve gets a request: for an adapter, one that has it loaded.

Ray Serve imports this into every process that sends requests to replicas: its proxies, and the
replicas themselves, see `ml.serving.ray_hand_over`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ray.serve.request_router import (
    LocalityMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from ml.generation.adapter_leases import AdapterLeases
from ml.json_text import JsonObject
from ml.serving.adapter_places import Place, in_order

__all__ = ["AdapterRouter", "routing_stats"]


def routing_stats(adapters: AdapterLeases | None) -> JsonObject:
    """Return what a replica tells `AdapterRouter` of itself every few seconds."""
    if adapters is None:
        return {}
    return {"loaded": adapters.loaded(), "room": adapters.room()}


class AdapterRouter(LocalityMixin, RequestRouter):  # type: ignore[misc]
    """Sends a request that names an adapter, as Ray's model id, by `adapter_places.in_order`.

    All others go to the less busy of two replicas, as by Ray's own router.
    """

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Return replicas in the order in which they are to be asked."""
        known: dict[ReplicaID, RunningReplica] = self.curr_replicas
        if pending_request is not None and (
            adapter := pending_request.metadata.multiplexed_model_id
        ):
            pending_request.routing_context.should_backoff = True  # when all of them are full
            return [[one] for one in self._in_order(adapter, candidate_replicas)]
        near = [known[one] for one in self.apply_locality_routing(pending_request)]
        return [random.sample(near, min(2, len(near)))]

    def _in_order(self, adapter: str, replicas: Sequence[RunningReplica]) -> list[RunningReplica]:
        by_name = {one.replica_id.unique_id: one for one in replicas}
        places = [
            Place(
                name,
                one.routing_stats.get("loaded", ()),
                one.routing_stats.get("room", 1),
                self.replica_queue_len_cache.get(one.replica_id) or 0,
            )
            for name, one in by_name.items()
        ]
        return [by_name[place.name] for place in in_order(adapter, places)]
