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
- A champion that a person chose stays until that person lets go; see `training.registry_moves`.

Aliases: `champion` is served, `previous` is what a rollback returns to, `challenger` is the newest
version registered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.registry_client import RegistryClient
from training.registry_files import local_folder, remove_local, verify
from training.registry_moves import HOLD, NOBODY, PROMOTING, SETTLED, Move, move
from training.registry_runs import as_metrics, read_text, store_fit
from training.registry_store import (
    RegistryUnreachable,
    ensure_model,
    experiment_of,
    model_lock,
    reachable,
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


class Registry(RegistryClient):
    """Versions of models in one MLflow store.

    Args:
        tracking_uri: `sqlite:///<file>` or the address of an MLflow server.
        artifact_root: Folder or URI for model files. A server that is reached by HTTP chooses the
            place itself unless this is a URI.

    Every method raises RegistryUnreachable when the store does not answer.
    """

    def __init__(self, tracking_uri: str, artifact_root: str | Path) -> None:
        super().__init__(tracking_uri)
        self._artifact_root = str(artifact_root)

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
        with reachable(self.tracking_uri), model_lock(self.tracking_uri, name):
            existing = self._find(name, fingerprint)
            if existing is None:
                run, source = store_fit(
                    self._client,
                    experiment_of(self._client, name, self.tracking_uri, self._artifact_root),
                    f"{name} {tags['interval_end']}",
                    folder,
                    tags=tags,
                    params=params,
                    metrics=metrics,
                    curve=curve,
                    files=files or {},
                )
                ensure_model(self._client, name)
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
        on data before the interval's end that the gate let through or a person chose, whether or
        not it ever served: so intervals that run late or again get what they would have got in
        their turn.
        """
        champion = self.champion(name)
        if champion is None or champion.interval_end <= end:
            return champion
        passed = [
            version
            for version in self.versions(name)
            if version.interval_end <= end
            and (version.tags.get("gate_passed") == "true" or "decided_at" in version.tags)
        ]
        return max(
            passed, key=lambda version: (version.interval_end, int(version.version)), default=None
        )

    def rival(self, challenger: Version, end: datetime) -> Version | None:
        """What a challenger is held against: the champion of its time, or the one it replaced.

        So a challenger that is judged again after its promotion meets the same one.
        """
        champion = self.champion_as_of(challenger.name, end)
        if champion is None or champion.version != challenger.version:
            return champion
        replaced = champion.tags.get("replaced", NOBODY)
        return None if replaced == NOBODY else self._numbered(challenger.name, replaced)

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

    def prune(self, name: str, keep: int, spare: Collection[str] = ()) -> list[str]:
        """Deletes old versions with their runs and their files on this machine.

        Args:
            name: The registered model.
            keep: How many of the newest versions stay.
            spare: Further versions that stay; those that have an alias do so anyway.

        Returns:
            The deleted versions.
        """
        with reachable(self.tracking_uri), model_lock(self.tracking_uri, name):
            aliased = (self.champion(name), self.previous(name), self.challenger(name))
            stay = {*spare, *(version.version for version in aliased if version is not None)}
            old = [one for one in self.versions(name)[keep:] if one.version not in stay]
            for version in old:
                # The version last, so that a kill leaves nothing that is never deleted.
                self._client.delete_run(version.mlflow_run)
                remove_local(version.source)
                self._client.delete_model_version(name, version.version)
        return [version.version for version in old]

    def card(self, version: Version) -> str:
        """The version's description as it stands now; empty without one."""
        with reachable(self.tracking_uri):
            found = self._client.get_model_version(version.name, version.version)
        return found.description or ""

    def record_verdict(
        self,
        version: Version,
        verdict: Verdict,
        *,
        passed: bool = True,
        test_set: str | None = None,
    ) -> Version:
        """Writes the gate's decision to the version and moves it to validated or rejected.

        A version that is or was champion keeps its state.

        Args:
            version: The version that was judged.
            verdict: The decision with its numbers.
            passed: Whether the gate itself may promote what it finds better.
            test_set: Name of the frozen test set that both models were judged on.

        Returns:
            The version as it is now.
        """
        tags = verdict.tags() | {"gate_passed": str(verdict.promote and passed).lower()}
        if test_set is not None:
            tags["gate_test_set"] = test_set
        version = self.get(version.name, version.version)
        if version.status not in {"promoted", "archived"}:
            version = self._move(version, "validated")
            if not verdict.promote:
                version = self._move(version, "rejected")
        self._tag(version, tags)
        return self.get(version.name, version.version)

    def promote(self, version: Version) -> Version:
        """Makes a version the champion in the gate's name; the old one becomes `previous`.

        The champion moves forward only: not to a version fitted on older data, only to one that was
        validated, and not away from one that a person chose.

        Args:
            version: The version to promote.

        Returns:
            The champion. Its move is recorded by `unsettled` and `settle`.

        Raises:
            RegistryError: The version is older, was not validated, a person decides on this model,
                or another promotion came between.
            ModelFileError: Its files are not what was registered; the champion stays.
        """
        name = version.name
        with reachable(self.tracking_uri), model_lock(self.tracking_uri, name):
            version = self.get(name, version.version)
            old = self.champion(name)
            if old is None or old.version != version.version:
                self._check_promotion(version, old)
                self.fetch(version)
                if old is not None:
                    self._follow(old, version)
                self._require_champion(name, old)
                # The notes first: a kill in between is then mended by promoting again.
                settled = NOBODY if old is None else old.version
                self._note(name, {SETTLED: settled, PROMOTING: version.version})
                self._tag(version, {"status": "promoted", "replaced": settled})
                self._client.set_registered_model_alias(name, "champion", version.version)
            self._require_champion(name, version)
            return self.get(name, version.version)

    def held(self, name: str) -> str | None:
        """The version a person chose, or `none`; None while the gate decides.

        Whoever deletes the tag `hold` of the registered model lets the gate decide again.
        """
        return self._notes(name).get(HOLD)

    def unsettled(self, name: str) -> Move | None:
        """A move of the champion that nobody recorded yet."""
        champion = self.champion(name)
        return move(name, champion and champion.version, self._notes(name))

    def settle(self, made: Move) -> None:
        """Draws the consequences of a move, and remembers that they are drawn.

        A person's choice holds the model: the version before becomes `previous`, and the gate
        leaves the champion alone. The promotions of the gate have that behind them.

        Does nothing when the champion has moved again; the next `unsettled` tells of both.
        """
        with reachable(self.tracking_uri), model_lock(self.tracking_uri, made.name):
            if self.unsettled(made.name) != made:
                return
            if made.by_person:
                self._accept(made)
            self._note(made.name, {SETTLED: made.after or NOBODY, PROMOTING: None})

    def _accept(self, made: Move) -> None:
        """Does what follows from a person's choice."""
        champion = self.champion(made.name)
        before = self._numbered(made.name, made.before) if made.before else None
        if champion is not None:
            if before is not None:
                self._follow(before, champion)
            tags = {
                "status": "promoted",
                # MLflow does not say who it was; what people write there themselves stays.
                "decided_by": champion.tags.get("decided_by", "a person"),
                "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            self._tag(champion, tags)
        self._note(made.name, {HOLD: made.after or NOBODY})

    def _follow(self, old: Version, new: Version) -> None:
        """Makes the old champion `previous`."""
        self._retire(self.previous(old.name), keep=(old, new))
        self._client.set_registered_model_alias(old.name, "previous", old.version)

    def _check_promotion(self, version: Version, old: Version | None) -> None:
        where = f"{version.name} version {version.version}"
        by_hand = "move the alias `champion` by hand in MLflow"
        if version.status not in {"validated", "promoted"}:
            raise RegistryError(
                f"{where} is {version.status}, and only a validated version is promoted. Let the "
                f"gate judge it first, or {by_hand}."
            )
        if old is not None and version.interval_end < old.interval_end:
            raise RegistryError(
                f"{where} was fitted on data before {version.tags['interval_end']}, the champion "
                f"(version {old.version}) on data before {old.tags['interval_end']}. The champion "
                f"moves forward only; to go back, {by_hand}."
            )
        made = self.unsettled(version.name)
        if self.held(version.name) is not None or (made is not None and made.by_person):
            raise RegistryError(
                f"A person decides which version of {version.name} serves; {where} stays what it "
                f"is. To choose it, {by_hand}; to let the gate decide again, delete the tag "
                f"`{HOLD}` of the model."
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

    def _find(self, name: str, fingerprint: str) -> Version | None:
        found = self._search(f"name = '{name}' and tags.fingerprint = '{fingerprint}'")
        return found[-1] if found else None
