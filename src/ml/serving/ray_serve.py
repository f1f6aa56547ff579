"""A service on Ray Serve: replicas of its application on the nodes of a cluster.

`serve SERVICE --on ray` starts it, or a config of Ray Serve's, which names `application` as its
import path; deploy/ray/ has one for each service that is worth it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.context import _get_global_client

from ml.errors import CONFIGURATION_EXIT_CODE, ConfigurationError
from ml.json_text import JsonObject
from ml.serving.factory import build_app
from ml.serving.output import say
from ml.serving.ray_hand_over import Asked, answer_asked, hand_over_adapters
from ml.serving.ray_router import AdapterRouter, routing_stats
from ml.serving.services import settings_of

if TYPE_CHECKING:
    from ray.serve import Application

    from ml.serving.app import ServiceApp
    from ml.serving.reply import Reply

__all__ = ["Replica", "application", "run_on_ray"]

#: Of every replica, unless a config says otherwise. Ray's own would cut what a node waits for.
_OPTIONS: JsonObject = {
    "max_ongoing_requests": 128,  # as many as a worker has places
    "max_queued_requests": 256,
    "graceful_shutdown_timeout_s": 200,
    "health_check_period_s": 5,
}
_BY_ADAPTER = RequestRouterConfig(
    request_router_class=f"{AdapterRouter.__module__}.{AdapterRouter.__name__}",
    request_routing_stats_period_s=2,
)
#: What is read beside a service's settings, wherever it is set.
_READ_ELSEWHERE = ("HF_HOME", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELS_PATH")
#: So many requests in a replica, those that wait in its queue too, are worth another replica.
_TARGET_ONGOING = 16
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Replica:
    """One copy of a service: Ray Serve gives it requests once its workflow is loaded.

    Attributes:
        app: set by `serve.ingress`.
    """

    app: ServiceApp

    async def check_health(self) -> None:
        """Raise if it cannot answer any more; Ray Serve then replaces it."""
        self.app.health.require_loaded()
        if fault := await self.app.workflow_check.fault():
            raise RuntimeError(fault)

    def record_routing_stats(self) -> JsonObject:
        """Tell those that choose a replica which adapters are loaded here."""
        model = self.app.workflow.text_generation
        return routing_stats(None if model is None else model.adapters)

    async def answer_asked(self, asked: Asked) -> AsyncGenerator[Reply | bytes, None]:
        """Answer what another replica hands over."""
        async with contextlib.aclosing(answer_asked(self.app.endpoints, asked)) as pieces:
            async for piece in pieces:
                yield piece


def application(arguments: Mapping[str, Any]) -> Application:
    """Return what a config of Ray Serve's runs, whose `args` name a `service`.

    Its settings are those of the nodes' own environment.
    """
    return _deployment(str(arguments["service"]), {}).bind()


def run_on_ray(service: str, options: argparse.Namespace) -> int:
    """Run a service on the cluster of this host, or of `RAY_ADDRESS`, until SIGTERM.

    The settings of this process are the replicas'. Returns the exit code.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        ray.init(address="auto", log_to_driver=False)
    except ConnectionError:
        say("serve: no Ray cluster: `ray start --head` here, or set RAY_ADDRESS")
        return 1
    [address] = options.bind
    listening = {"host": address.host, "port": address.port}
    keep_alive = {"keep_alive_timeout_s": int(options.keep_alive)}
    serve.start(proxy_location="EveryNode", http_options=listening | keep_alive)
    if (port := _get_global_client().http_config.port) != address.port:
        say(
            f"serve: Ray Serve has port {port} for all applications of this cluster already; give "
            "that to --bind, or end them all: python -m ray.serve.scripts shutdown"
        )
        return CONFIGURATION_EXIT_CODE
    deployment = _deployment(service, _variables(service)).options(**_scaling(options))
    try:
        serve.run(deployment.bind(), name=service, route_prefix="/")
        sys.stdout.write(f"{service} answers on port {address.port} of every node\n")
        sys.stdout.flush()
        signal.sigwait(_STOP_SIGNALS)
    except RuntimeError as error:
        say(f"serve: {error}")
        return 1
    finally:
        serve.delete(service)  # what the replicas have is answered first
        ray.shutdown()
    return 0


def _deployment(service: str, variables: Mapping[str, str]) -> Any:
    # Where HAProxy stands before the replicas, it chooses, and Ray takes no router of others.
    chooses = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1"

    def build() -> ServiceApp:
        os.environ.update(variables)
        try:
            app = build_app(service)
        except SystemExit as error:  # which would end the replica without a word to Ray
            raise ConfigurationError(f"{service} cannot start; see the replica's log") from error
        app.loads_before_serving = True
        if chooses:
            hand_over_adapters(app)
        return app

    options = _OPTIONS | ({"request_router_config": _BY_ADAPTER} if chooses else {})
    return serve.deployment(serve.ingress(build)(Replica), name=service, **options)


def _variables(service: str) -> dict[str, str]:
    """Return the variables of this process by which a service is configured."""
    settings = settings_of(service)
    names = {*settings.variables().values(), *_READ_ELSEWHERE}
    names |= {example.variable for example in settings.examples}
    return {name: os.environ[name] for name in names if name in os.environ}


def _scaling(options: argparse.Namespace) -> JsonObject:
    least, most = options.replicas
    found: JsonObject = {"ray_actor_options": {"num_cpus": options.cpus, "num_gpus": options.gpus}}
    if least == most:
        return found | {"num_replicas": least}
    scaling = {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": _TARGET_ONGOING,
    }
    return found | {"autoscaling_config": scaling}
