"""An object store that speaks S3 on this machine: moto's, in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Iterator

import httpx

from tests.support.processes import free_port

__all__ = ["ObjectStore", "object_store", "there_is_an_object_store"]

BUCKET = "trainer"


def there_is_an_object_store() -> bool:
    """Return whether what the store and its client need is installed here: make test-s3."""
    return all(importlib.util.find_spec(name) for name in ("moto", "flask_cors", "s3fs"))


class ObjectStore:
    """The store, with one bucket; `variables` are the credentials for it."""

    def __init__(self) -> None:
        self._port = free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.url = f"s3://{BUCKET}/folder"
        self.variables = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "an-id",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, or start it again with what it had."""
        from moto.moto_server.werkzeug_app import (  # type: ignore[import-not-found]
            DomainDispatcherApplication,
            create_backend_app,
        )
        from werkzeug.serving import make_server

        application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", self._port, application, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def make_bucket(self) -> None:
        """Make the bucket, if it is not there."""
        httpx.put(f"{self.endpoint}/{BUCKET}").raise_for_status()

    def require_valid_keys(self) -> None:
        """Refuse keys that it did not give out, as these are, from now on."""
        httpx.post(f"{self.endpoint}/moto-api/reset-auth", content=b"0").raise_for_status()

    def reset(self) -> None:
        """Forget all that it has, and take any keys."""
        httpx.post(f"{self.endpoint}/moto-api/reset-auth", content=b"inf").raise_for_status()
        httpx.post(f"{self.endpoint}/moto-api/reset").raise_for_status()


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a store with its bucket."""
    store = ObjectStore()
    store.start()
    try:
        store.make_bucket()
        yield store
    finally:
        store.stop()
