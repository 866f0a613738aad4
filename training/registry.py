"""The model registry: versions, their champion and how it changes, over MLflow.

MLflow keeps runs, files, versions and aliases; this module adds the rules that it lacks:

- One fit is one version. A version carries the fingerprint of what it was fitted from, and
  registering that fingerprint again returns the version that is there.
- A version's files are checked against their sha256 manifest, and the manifest against the sha256
  in the version's tags, before anything loads or promotes them.
- A version goes through training, validated, promoted or rejected, archived.
- Aliases have no compare-and-set in MLflow: whoever writes last wins. Promotion therefore holds an
  OS lock and reads the champion again before and after. On several machines without a common disk
  only the second reading protects.

Aliases: `champion` is served, `previous` is what a rollback returns to, `challenger` is the newest
version registered.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.registry_files import local_folder, private_folder, verify
from training.registry_runs import as_metrics, read_text, store_fit
from training.registry_store import (
    RegistryUnreachable,
    configure,
    connect,
    reachable,
    sqlite_file,
)
from training.registry_version import (
    TRANSITIONS,
    RegistryError,
    Version,
    check_tags,
    listing,
    version_of,
)

if TYPE_CHECKING:
    from training.gate import Verdict

__all__ = ["Registry", "RegistryError", "RegistryUnreachable", "Version"]


class Registry:
    """Versions of models in one MLflow store.

    Args:
        tracking_uri: `sqlite:///<file>` or the address of an MLflow server.
        artifact_root: Folder or URI for model files. A server that is reached by HTTP chooses the
            place itself unless this is a URI.

    Every method raises RegistryUnreachable when the store does not answer.
    """

    def __init__(self, tracking_uri: str, artifact_root: str | Path) -> None:
        configure()
        self.tracking_uri = tracking_uri
        self._artifact_root = str(artifact_root)
        self._connected: Any = None

    def register(
        self,
        name: str,
        folder: Path,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        fingerprint: str,
        curve: Sequence[Sequence[Any]] = (),
        files: Mapping[str, str] | None = None,
    ) -> Version:
        """Stores a fitted model as a new version, the challenger, in state `training`.

        Args:
            name: The registered model; created when absent.
            folder: Model folder with its manifest.
            tags: All of REQUIRED_TAGS but the fingerprint, and any others. `tables` is JSON,
                `interval_end` an ISO time with zone.
            params: Settings of the fit.
            metrics: Numbers known at this point.
            fingerprint: Names what the model was fitted from.
            curve: As `Model.learning_curve`; logged with the epoch as step.
            files: Name -> text of files kept beside the model; see `file`.

        Returns:
            The new version, or the one that has this fingerprint already.

        Raises:
            RegistryError: A required tag is missing or unreadable.
            ModelFileError: The folder does not match its manifest.
        """
        tags = dict(tags) | {"fingerprint": fingerprint}
        check_tags(name, tags)
        manifest = verify(folder, None)
        tags |= {"manifest_sha256": manifest, "status": "training"}
        with reachable(self.tracking_uri), self._lock(name):
            existing = self._find(name, fingerprint)
            if existing is None:
                run, source = store_fit(
                    self._client,
                    self._experiment(name),
                    f"{name} {tags['interval_end']}",
                    folder,
                    tags=tags,
                    params=params,
                    metrics=metrics,
                    curve=curve,
                    files=files or {},
                )
                self._ensure_model(name)
                # Tags come with the version, so that a kill leaves no version without them.
                made = self._client.create_model_version(name, source, run_id=run, tags=tags)
                existing = version_of(made)
            if existing.status == "training":
                self._client.set_registered_model_alias(name, "challenger", existing.version)
            return existing

    def champion(self, name: str) -> Version | None:
        """The version that serves, or None before the first promotion."""
        return self._aliased(name, "champion")

    def champion_as_of(self, name: str, end: datetime) -> Version | None:
        """The version that serves an interval: the champion, or the one of its time.

        For an interval that ends before the champion's own data, that is the newest version fitted
        on data before the interval's end that the gate let through, whether or not it ever served:
        so intervals that run late or again get what they would have got in their turn.
        """
        champion = self.champion(name)
        if champion is None or champion.interval_end <= end:
            return champion
        passed = [
            version
            for version in self.versions(name)
            if version.interval_end <= end and version.tags.get("gate_verdict") == "promote"
        ]
        return max(
            passed, key=lambda version: (version.interval_end, int(version.version)), default=None
        )

    def challenger(self, name: str) -> Version | None:
        """The newest version registered; after its promotion it is the champion too."""
        return self._aliased(name, "challenger")

    def previous(self, name: str) -> Version | None:
        """The champion before this one."""
        return self._aliased(name, "previous")

    def get(self, name: str, version: str | None = None) -> Version:
        """One version; without a number the champion, even when newer versions exist.

        Raises:
            RegistryError: There is no such version, or no champion yet.
        """
        if version is None:
            found, missing = self.champion(name), "champion yet"
        else:
            found, missing = self._numbered(name, version), f"version {version}"
        if found is None:
            raise RegistryError(f"{name} has no {missing}. {listing(self.versions(name))}")
        return found

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, newest first."""
        return self._search(f"name = '{name}'")

    def fetch(self, version: Version) -> Path:
        """The version's model folder on this machine, verified.

        Returns:
            The stored folder itself when it is on a local disk, otherwise a cached download. Do
            not change it.

        Raises:
            ModelFileError: A file is missing, changed or not in the manifest.
        """
        manifest = version.tags["manifest_sha256"]
        with reachable(self.tracking_uri):
            folder = local_folder(version.source, manifest, self.tracking_uri)
        verify(folder, manifest)
        return folder

    def log_metrics(self, version: Version, metrics: Mapping[str, float], step: int = 0) -> None:
        """Adds metrics to the version's MLflow run; finite ones only, others are left out."""
        with reachable(self.tracking_uri):
            self._client.log_batch(version.mlflow_run, metrics=as_metrics(metrics, step))

    def attach(self, version: Version, file: Path, folder: str) -> None:
        """Adds a file to a folder of the version's MLflow run, in place of one of that name."""
        with reachable(self.tracking_uri):
            self._client.log_artifact(version.mlflow_run, str(file), folder)

    def file(self, version: Version, name: str) -> str | None:
        """A text file that was registered with a version; None when there is none."""
        with reachable(self.tracking_uri):
            return read_text(self._client, version.mlflow_run, name)

    def describe(self, version: Version, card: str) -> None:
        """Makes a Markdown text the version's description."""
        with reachable(self.tracking_uri):
            self._client.update_model_version(version.name, version.version, card)

    def card(self, version: Version) -> str:
        """The version's description as it stands now; empty without one."""
        with reachable(self.tracking_uri):
            found = self._client.get_model_version(version.name, version.version)
        return found.description or ""

    def record_verdict(
        self, version: Version, verdict: Verdict, *, test_set: str | None = None
    ) -> Version:
        """Writes the gate's decision to the version and moves it to validated or rejected.

        Args:
            version: The version that was judged.
            verdict: The decision with its numbers.
            test_set: Name of the frozen test set that both models were judged on.

        Returns:
            The version as it is now. A version that is promoted already keeps its state.

        Raises:
            RegistryError: The version is promoted or archived and the verdict rejects it.
        """
        numbers = asdict(verdict)
        promote, reason, reference = (
            numbers.pop(key) for key in ("promote", "reason", "reference")
        )
        tags = {
            "gate_verdict": "promote" if promote else "reject",
            "gate_reason": reason,
            "gate_reference": reference,
            **{f"gate_{key}": f"{value:.10g}" for key, value in numbers.items()},
        }
        if test_set is not None:
            tags["gate_test_set"] = test_set
        version = self.get(version.name, version.version)
        if version.status != "promoted" or not promote:
            version = self._move(version, "validated")
            if not promote:
                version = self._move(version, "rejected")
        self._tag(version, tags)
        return self.get(version.name, version.version)

    def promote(self, version: Version, *, forced: bool = False) -> Version:
        """Makes a version the champion; the old one becomes `previous`.

        The champion moves forward only: not to a version fitted on older data, and only to one
        that the gate let through. A person may force both, to roll back for example.

        Args:
            version: The version to promote.
            forced: Whether a person asked for it.

        Returns:
            The champion.

        Raises:
            RegistryError: The version is older, was not validated, or another promotion came
                between.
            ModelFileError: Its files are not what was registered; the champion stays.
        """
        name = version.name
        with reachable(self.tracking_uri), self._lock(name):
            version = self.get(name, version.version)
            old = self.champion(name)
            if old is None or old.version != version.version:
                self._check_promotion(version, old, forced=forced)
                self.fetch(version)
                if old is not None:
                    self._retire(self.previous(name), keep=(old, version))
                    self._client.set_registered_model_alias(name, "previous", old.version)
                self._require_champion(name, old)
                # The state first: a kill in between is then mended by promoting again.
                self._tag(version, {"status": "promoted"} | ({"forced": "true"} if forced else {}))
                self._client.set_registered_model_alias(name, "champion", version.version)
            self._require_champion(name, version)
            return self.get(name, version.version)

    def _check_promotion(self, version: Version, old: Version | None, *, forced: bool) -> None:
        if forced:
            return
        where = f"{version.name} version {version.version}"
        if version.status not in {"validated", "promoted"}:
            raise RegistryError(
                f"{where} is {version.status}, and only a validated version is promoted. Let the "
                "gate judge it first, or force it by hand."
            )
        if old is not None and version.interval_end < old.interval_end:
            raise RegistryError(
                f"{where} was fitted on data before {version.tags['interval_end']}, the champion "
                f"(version {old.version}) on data before {old.tags['interval_end']}. The champion "
                "moves forward only; force it by hand to go back."
            )

    def _require_champion(self, name: str, expected: Version | None) -> None:
        """Re-reads the champion: nobody else may have moved it."""
        found = self.champion(name)
        if (found and found.version) != (expected and expected.version):
            raise RegistryError(
                f"Another promotion of {name} came between: the champion is version "
                f"{found.version if found else 'none'}, expected "
                f"{expected.version if expected else 'none'}. Look at both and promote again."
            )

    def _retire(self, version: Version | None, *, keep: Sequence[Version]) -> None:
        """Archives the version that stops being `previous`."""
        kept = {one.version for one in keep}
        if version is not None and version.version not in kept and version.status == "promoted":
            self._move(version, "archived")

    def _move(self, version: Version, status: str) -> Version:
        allowed = TRANSITIONS[version.status]
        if status != version.status and status not in allowed:
            raise RegistryError(
                f"{version.name} version {version.version} is {version.status} and cannot become "
                f"{status}; next can be {' or '.join(allowed) or 'nothing'}."
            )
        self._tag(version, {"status": status})
        return self.get(version.name, version.version)

    def _tag(self, version: Version, tags: Mapping[str, str]) -> None:
        with reachable(self.tracking_uri):
            for key, value in tags.items():
                self._client.set_model_version_tag(version.name, version.version, key, value)

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

    def _find(self, name: str, fingerprint: str) -> Version | None:
        found = self._search(f"name = '{name}' and tags.fingerprint = '{fingerprint}'")
        return found[-1] if found else None

    def _experiment(self, name: str) -> str:
        """The experiment of a model; its runs are the model's fits."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = None
        if "://" in self._artifact_root:
            location = f"{self._artifact_root.rstrip('/')}/{name}"
        elif not self.tracking_uri.startswith("http"):  # a server says itself where files lie
            location = (Path(self._artifact_root).absolute() / name).as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Holds this model's OS lock; the kernel lets go when the holder dies."""
        file = sqlite_file(self.tracking_uri)
        if file is None:
            store = hashlib.sha256(self.tracking_uri.encode()).hexdigest()[:16]
            path = private_folder() / f"{store}.{name}.lock"
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            path = file.parent / f".{file.name}.{name}.lock"
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
