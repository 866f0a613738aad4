"""Reading and tagging what MLflow keeps of registered models, with none of our rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from training.registry_store import configure, connect, reachable, sqlite_file
from training.registry_version import Version, version_of


class RegistryClient:
    """One MLflow store, connected when it is first asked.

    Args:
        tracking_uri: `sqlite:///<file>` or the address of an MLflow server.
    """

    def __init__(self, tracking_uri: str) -> None:
        configure()
        self.tracking_uri = tracking_uri
        self._connected: Any = None

    def _tag(self, version: Version, tags: Mapping[str, str]) -> None:
        with reachable(self.tracking_uri):
            for key, value in tags.items():
                self._client.set_model_version_tag(version.name, version.version, key, value)

    def _notes(self, name: str) -> dict[str, str]:
        """The tags of a registered model; none when there is no such model."""
        if self._is_new:
            return {}
        with reachable(self.tracking_uri):
            from mlflow.exceptions import MlflowException

            try:
                return dict(self._client.get_registered_model(name).tags)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise

    def _note(self, name: str, tags: Mapping[str, str | None]) -> None:
        """Sets tags of a registered model; None removes one."""
        known = self._notes(name)
        for key, value in tags.items():
            if value is not None:
                self._client.set_registered_model_tag(name, key, value)
            elif key in known:
                self._client.delete_registered_model_tag(name, key)

    @property
    def _client(self) -> Any:
        if self._connected is None:
            self._connected = connect(self.tracking_uri)
        return self._connected

    @property
    def _is_new(self) -> bool:
        """A file store that nobody wrote to yet: reading must not create it."""
        file = sqlite_file(self.tracking_uri)
        return file is not None and not file.exists()

    def _aliased(self, name: str, alias: str) -> Version | None:
        return self._one(lambda client: client.get_model_version_by_alias(name, alias))

    def _numbered(self, name: str, version: str) -> Version | None:
        return self._one(lambda client: client.get_model_version(name, version))

    def _one(self, ask: Callable[[Any], Any]) -> Version | None:
        if self._is_new:
            return None
        with reachable(self.tracking_uri):
            from mlflow.exceptions import MlflowException

            try:
                return version_of(ask(self._client))
            except MlflowException as error:
                # What MLflow answers for an unknown model, alias and number.
                if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    return None
                raise

    def _search(self, query: str) -> list[Version]:
        if self._is_new:
            return []
        with reachable(self.tracking_uri):
            found = [version_of(one) for one in self._client.search_model_versions(query)]
        return sorted(found, key=lambda one: int(one.version), reverse=True)
