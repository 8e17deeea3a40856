"""One run folder: its records, which files in it belong to the run, and how its parts are created and deleted."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import BaseFileLock

from lmtune.errors import CheckpointError, ConfigError
from lmtune.plain_yaml import load_yaml
from lmtune.runs import lines
from lmtune.runs.files import CHECKPOINT_FILE, HYDRA_RECORDS, RECORDS, RunFiles, step_of
from lmtune.runs.lock import LOCK_NAMES, lock_folder
from lmtune.runs.manifest import find_fault, find_surplus, load_manifest, seal
from lmtune.runs.mark import MARK, Mark, find_mark, parse_mark, write_mark
from lmtune.storage import (
    checksum_of,
    list_unfinished,
    load_json,
    measure_folder,
    number_names,
    render_json_line,
    sync,
    sync_folder,
    write_json,
    write_text,
)

SECTIONS = ("data", "model", "training")
"""Sections that tell the settings of a run from the config.yaml of another program."""


@dataclass(frozen=True, slots=True)
class Run(RunFiles):
    """One run folder: its records, its checkpoints, and which files in it belong to the run."""

    @property
    def staging_folder(self) -> Path:
        """Where parts of the run are written before they appear. The run's id makes the name unique."""
        return self.folder / f".staging-{self.mark.id}"

    @property
    def trash_folder(self) -> Path:
        """The folder in which parts of the run are deleted."""
        return self.folder / f".trash-{self.mark.id}"

    # Ownership of files

    @property
    def mark(self) -> Mark:
        """run.json; raise CheckpointError if it is missing or damaged."""
        mark = find_mark(self.folder)
        if mark is None:
            found = "is not as it was written" if (self.folder / MARK).exists() else "is not there"
            raise CheckpointError(f"{self.folder / MARK}, which tells what in its folder is the run's own, {found}.")
        return mark

    def claim(self, *names: str) -> None:
        """Claim names in the folder for the run; raise CheckpointError if one of them exists that the run has not made."""
        self.check_free(*names)
        mark = self.mark
        if not set(names) <= set(mark.made):
            write_mark(self.folder, mark.with_names(names))

    def check_free(self, *names: str) -> None:
        """Raise CheckpointError if one of these names exists in the folder and the run has not made it."""
        mark = self.mark
        for name in names:
            made = name in mark.made and name != self.model_folder.name  # its seal shows whose it is
            if os.path.lexists(self.folder / name) and not made and not self.owns(self.folder / name):
                raise CheckpointError(
                    f"{self.folder} holds {name}, which this run has not made and would have to replace. Move it elsewhere."
                )

    def owns(self, folder: Path) -> bool:
        """True for a sealed folder of this run that holds nothing but what was sealed."""
        manifest = load_manifest(folder) if folder.is_dir() and not folder.is_symlink() else None
        return manifest is not None and manifest.get("run") == self.mark.id and find_surplus(folder, manifest) is None

    def lock(self) -> BaseFileLock:
        """Lock the run for this process; raise CheckpointError if another holds the lock, or nothing can be written."""
        try:
            self.claim(*LOCK_NAMES)
            return lock_folder(self.folder)
        except OSError as error:
            raise CheckpointError(
                f"{self.folder}: expected a folder to write in, found: {error.strerror}. Change that, or give output=."
            ) from error

    def withdraw(self) -> None:
        """Remove a run that has learned nothing, so that nobody resumes it: only files that it has made."""
        self.sweep()
        mark = self.mark
        for name in HYDRA_RECORDS:
            (self.hydra_folder / name).unlink(missing_ok=True)
        for name in mark.made:
            path = self.folder / name
            remove_empty([path]) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        (self.folder / MARK).unlink()
        remove_empty(map(Path, mark.made_folders))

    def restore_mark(self) -> bool:
        """Restore a damaged or missing run.json from the newest checkpoint; True if that was done.

        Raises CheckpointError if no checkpoint holds a copy, and for a folder in place of a record.
        """
        for name in (MARK, *RECORDS):
            if (self.folder / name).is_dir():
                raise CheckpointError(
                    f"{self.folder / name}: expected a record of the run, found a folder. Move it elsewhere."
                )
        if find_mark(self.folder) is not None:
            return False
        sealed = list(self.manifests())
        marks = (parse_mark(manifest.get("mark", {})) for _, manifest in sealed)
        mark = next((each for each in marks if each is not None), None)
        if mark is None:
            raise CheckpointError(
                f"{self.folder}: expected a run folder with {MARK}, found none that is whole, and no checkpoint that holds a copy. "
                "Start the run anew, or go on from its weights with model.path=."
            )
        own = tuple(folder.name for folder, manifest in sealed if manifest.get("run") == mark.id)
        write_mark(self.folder, mark.with_names(own))
        return True

    # Records

    def load_results(self) -> dict[str, Any]:
        """results.json, or an empty dict before there is one."""
        return load_json(self.results_file) if self.results_file.exists() else {}

    def find_results(self) -> dict[str, Any]:
        """results.json, or an empty dict if it is missing or not as it was written."""
        try:
            text = self.results_file.read_text(encoding="utf-8")
            results = load_json(self.results_file)
        except (OSError, UnicodeDecodeError, CheckpointError):
            return {}
        return results if self._is_as_sealed(self.results_file, text) else {}

    def find_name(self) -> str:
        """The name of the run; that of the folder around it if its results are gone."""
        return str(self.find_results().get("name") or self.folder.absolute().parent.name)

    def write_results(self, results: dict[str, Any]) -> None:
        """Replace results.json; for a completed run, seal it by the mark."""
        name, mark = self.results_file.name, self.mark
        if name in (mark.checksums or {}):
            write_mark(self.folder, mark.with_checksum(name, None))
        write_json(self.results_file, results)
        if results.get("status") == "completed":
            self._seal_record(self.results_file)

    def load_config(self) -> dict[str, Any]:
        """The settings of the run: config.yaml, or the copy in its newest checkpoint if that is damaged."""
        return self.find_config() or self._load_sealed_config()

    @property
    def is_private(self) -> bool:
        """True if the run must not show any of its text."""
        return bool(self.load_config().get("private"))

    def find_config(self) -> dict[str, Any] | None:
        """config.yaml as plain values; None if it is missing, not as the run wrote it, or another program's."""
        try:
            text = self.config_file.read_text(encoding="utf-8")
            loaded = load_yaml(self.config_file)
        except (OSError, UnicodeDecodeError, ConfigError):
            return None
        is_ours = all(isinstance((loaded or {}).get(section), dict) for section in SECTIONS)
        return loaded if is_ours and self._is_as_sealed(self.config_file, text) else None

    def write_config(self, plain: dict[str, Any]) -> None:
        """Replace config.yaml, and seal it by the mark."""
        write_text(self.config_file, yaml.safe_dump(plain, allow_unicode=True, sort_keys=False))
        self._seal_record(self.config_file)

    def _load_sealed_config(self) -> dict[str, Any]:
        for _, manifest in self.manifests():
            if "told" in manifest:
                return dict(manifest["told"])
        raise CheckpointError(
            f"{self.config_file}: expected the settings of a run, found them missing or damaged, and no checkpoint that holds a "
            "copy. Start the run anew."
        )

    def _seal_record(self, file: Path) -> None:
        write_mark(self.folder, self.mark.with_checksum(file.name, checksum_of(file.read_text(encoding="utf-8"))))

    def _is_as_sealed(self, file: Path, text: str) -> bool:
        """False for a record of which the mark has the checksum of another text."""
        mark = find_mark(self.folder)
        stored = (mark.checksums or {}).get(file.name) if mark else None
        return stored in (None, checksum_of(text))

    def find_tracker_id(self, name: str) -> str | None:
        """The id of this run in a tracker, or None before it has one."""
        return self.load_tracker_ids().get(name)

    def load_tracker_ids(self) -> dict[str, Any]:
        """By tracker: the id of this run in it, or what it has measured; {} before the first."""
        return load_json(self.tracker_file) if self.tracker_file.exists() else {}

    def has_learned(self) -> bool:
        """True once the loss of a step has been logged."""
        return any("loss" in line for line in self.load_metrics())

    def load_metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl up to the first that is not of a step; [] before there are any."""
        return lines.load_metrics(self.metrics_file)

    def load_samples(self) -> list[dict[str, Any]]:
        """Lines of samples.jsonl up to the first that is not a step with its prompts and texts; [] before there are any."""
        return lines.load_samples(self.samples_file)

    def cut_back(self, step: int) -> None:
        """Drop lines of metrics.jsonl and samples.jsonl after `step`, so that nothing is recorded twice.

        Also drop the summary of the training, which is logged again in any case.
        """
        for file, found in ((self.metrics_file, self.load_metrics()), (self.samples_file, self.load_samples())):
            if file.exists():
                kept = [line for line in found if line["step"] <= step and "train_runtime" not in line]
                write_text(file, "".join(render_json_line(line) for line in kept))

    # Checkpoints

    def checkpoints(self) -> list[Path]:
        """checkpoint-<step> folders, newest first, complete or not."""
        found = [(step_of(folder), folder) for folder in self.folder.glob("checkpoint-*") if folder.is_dir()]
        return [folder for step, folder in sorted(found, reverse=True) if step >= 0]

    def manifests(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """(folder, manifest) of checkpoints with an intact manifest, newest first."""
        for folder in self.checkpoints():
            manifest = load_manifest(folder)
            if manifest is not None:
                yield folder, manifest

    def find_checkpoint(self) -> tuple[Path | None, list[str]]:
        """The newest checkpoint that verifies, and what was wrong with each newer one."""
        complaints: list[str] = []
        for folder in self.checkpoints():
            fault = find_fault(folder)
            if fault is None:
                return folder, complaints
            complaints.append(f"{folder.name}: {fault}")
        return None, complaints

    def measure_checkpoints(self) -> int:
        """Bytes that the checkpoints take."""
        return sum(map(measure_folder, self.checkpoints()))

    def sweep(self) -> None:
        """Remove what an interrupted save or write of a record left behind. Only the process that holds the lock may."""
        if find_mark(self.folder) is not None:
            for folder in (self.staging_folder, self.trash_folder):
                shutil.rmtree(folder, ignore_errors=True)
            for name in (*RECORDS, MARK):
                for path in list_unfinished(self.folder / name):
                    path.unlink(missing_ok=True)

    def discard(self, folder: Path) -> bool:
        """Delete a sealed folder so that it is never seen half deleted: rename it first, then remove it.

        Returns False, and does nothing, if it is not the run's own or holds files that are not.
        """
        if not self.owns(folder):
            return False
        trash = self.trash_folder
        trash.mkdir(exist_ok=True)
        target = trash / f"{folder.name}-{os.getpid()}-{len(list(trash.iterdir()))}"
        folder.rename(target)
        shutil.rmtree(target, ignore_errors=True)
        write_mark(self.folder, self.mark.without_name(folder.name))
        return True

    def is_damaged_own(self, folder: Path) -> bool:
        """True for a damaged checkpoint of this run: the run has made it, and it holds only names of checkpoint files."""
        sealed = {name for _, manifest in self.manifests() for name in manifest["files"]}
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
        return folder.name in self.mark.made and all(
            name in sealed or CHECKPOINT_FILE.fullmatch(name) for name in names
        )

    def set_aside(self, damaged: Path) -> Path:
        """Rename a damaged checkpoint or record of the run, so that nothing mistakes it for an intact one."""
        names = number_names(f"broken-{damaged.name}-{os.getpid()}")
        target = next(self.folder / name for name in names if not os.path.lexists(self.folder / name))
        damaged.rename(target)
        return target

    def publish(self, staged: Path, manifest: dict[str, Any], private: frozenset[str] = frozenset()) -> Path:
        """Seal a staged checkpoint and move it to its place in one step; it appears complete, or not at all."""
        for record in (self.metrics_file, self.samples_file):
            if record.exists():
                sync(record)  # so that lines up to the checkpoint's step are never missing
        mark = self.mark.with_names((staged.name,))
        seal(staged, {**manifest, "run": mark.id, "mark": mark.as_dict()}, private)
        return self.place(staged)

    def place(self, staged: Path) -> Path:
        """Move a sealed folder out of the staging folder, replacing one of the run's own of the same name.

        Raises FileExistsError if something is there that the run has not made.
        """
        final = self.folder / staged.name
        if os.path.lexists(final) and not self.discard(final):
            raise FileExistsError(errno.EEXIST, "holds something that this run has not made", str(final))
        self.claim(final.name)
        staged.rename(final)
        sync_folder(self.folder)
        return final


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, until one is not empty."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # something of the user's, or of another run's, is in it
            return
