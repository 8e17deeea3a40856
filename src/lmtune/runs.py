"""What lies in a run folder, and the rules by which a run is opened, sealed and resumed.

outputs/<name>/<date>/
    config.yaml  .hydra/  ledger.json  transplant.json  metrics.jsonl  samples.jsonl  samples.md  train.log
    checkpoint-<step>/   with manifest.json, written last
    model/  results.json  report.html
"""

import contextlib
import errno
import os
import re
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

from lmtune.errors import CheckpointError
from lmtune.records import (
    checksum,
    checksum_of,
    load_json,
    load_jsonl,
    number_names,
    render_json,
    render_json_line,
    sync,
    sync_folder,
    write_json,
    write_text,
)

MANIFEST = "manifest.json"
STATE = "trainer_state.json"
"""Trainer's record of where it is, in each checkpoint."""
STAGING = ".staging"
TRASH = ".trash"
LOCK = ".lock"
HEARTBEAT_LIMIT = 60
"""Seconds without a sign of life after which the holder of a run counts as dead, where the file system has no locks."""
PATIENCE = 65
"""Seconds to watch for that sign: clocks of other machines are not trusted."""


NO_LOCKS = frozenset([errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK])
"""What a file system without locks answers."""

OWN_FILES = frozenset(
    [
        *("config.yaml", ".hydra", "ledger.json", "results.json", "metrics.jsonl", "samples.jsonl", "samples.md"),
        *("train.log", "tracker.json", "transplant.json", STAGING, TRASH, LOCK, f"{LOCK}.json", f"{LOCK}.lease"),
    ]
)
"""What stands in a run folder before its first checkpoint."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def ledger_file(self) -> Path:
        return self.folder / "ledger.json"

    @property
    def transplant_file(self) -> Path:
        return self.folder / "transplant.json"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        return self.folder / "samples.jsonl"

    @property
    def samples_page(self) -> Path:
        return self.folder / "samples.md"

    @property
    def results_file(self) -> Path:
        return self.folder / "results.json"

    @property
    def report_file(self) -> Path:
        return self.folder / "report.html"

    @property
    def log_file(self) -> Path:
        return self.folder / "train.log"

    @property
    def tracker_file(self) -> Path:
        return self.folder / "tracker.json"

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    @property
    def staging_folder(self) -> Path:
        return self.folder / STAGING

    def lock(self) -> BaseFileLock:
        """Hold the run for this process alone, for as long as it lives; raise CheckpointError where another holds it.

        The operating system lets go of the lock when the process ends. Where the file system has no locks, a heartbeat
        in the folder stands for one.
        """
        holder = self.folder / f"{LOCK}.json"
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            lock = _lock(self.folder / LOCK)
            write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "started": started})
        except Timeout:
            raise CheckpointError(
                f"{self.folder} is in use by {_describe_holder(holder)}. Wait for it to end, or start a run of its own "
                "(leave out resume=)."
            ) from None
        except OSError as error:
            raise CheckpointError(
                f"{self.folder}: expected a folder to write in, found: {error.strerror}. Mend that, or give output=."
            ) from error
        return lock

    def withdraw(self) -> None:
        """Take back a run that has learned nothing, so that nobody resumes it: remove what was written into its folder."""
        self.config_file.unlink(missing_ok=True)  # first: it marks a run
        for file in self.folder.iterdir():
            if file.name in OWN_FILES:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        with contextlib.suppress(OSError):  # something of the user's, or of a tracker's, is in it
            self.folder.rmdir()

    def load_results(self) -> dict[str, Any]:
        """results.json, or an empty dict before there is one."""
        return load_json(self.results_file) if self.results_file.exists() else {}

    def load_config(self) -> dict[str, Any]:
        """config.yaml as plain values."""
        loaded = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        if not isinstance(loaded, dict):
            raise CheckpointError(
                f"{self.config_file} holds no configuration, so it was cut off or changed. Start the run anew."
            )
        return loaded

    def checkpoints(self) -> list[Path]:
        """checkpoint-<step> folders, newest first, whole or not."""
        found = [(step_of(folder), folder) for folder in self.folder.glob("checkpoint-*") if folder.is_dir()]
        return [folder for step, folder in sorted(found, reverse=True) if step >= 0]

    def find_tracker_id(self, name: str) -> str | None:
        """The id under which a tracker knows this run, once it has been told one."""
        return load_json(self.tracker_file).get(name) if self.tracker_file.exists() else None

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
        return sum(file.stat().st_size for folder in self.checkpoints() for file in folder.rglob("*") if file.is_file())

    def sweep(self) -> None:
        """Remove what an interrupted save left behind."""
        shutil.rmtree(self.staging_folder, ignore_errors=True)
        shutil.rmtree(self.folder / TRASH, ignore_errors=True)

    def discard(self, folder: Path) -> None:
        """Delete a checkpoint so that it is never seen half deleted: renamed first, removed then."""
        trash = self.folder / TRASH
        trash.mkdir(exist_ok=True)
        target = trash / f"{folder.name}-{os.getpid()}-{len(list(trash.iterdir()))}"
        folder.rename(target)
        shutil.rmtree(target, ignore_errors=True)

    def publish(self, staged: Path, manifest: dict[str, Any]) -> Path:
        """Seal a staged checkpoint and move it to its place in one step; it is whole there, or not there."""
        for record in (self.metrics_file, self.samples_file):
            if record.exists():
                sync(record)  # lines up to the checkpoint's step are never missing beside it
        seal(staged, manifest)
        return self.place(staged)

    def place(self, staged: Path) -> Path:
        """Move a finished folder out of the staging folder, in the place of one of the same name."""
        final = self.folder / staged.name
        if final.exists():
            self.discard(final)
        staged.rename(final)
        sync_folder(self.folder)
        return final

    def has_learned(self) -> bool:
        """True once the loss of a step has been logged."""
        return self.metrics_file.exists() and any("loss" in line for line in load_jsonl(self.metrics_file))

    def cut_back(self, step: int) -> None:
        """Drop lines of metrics.jsonl and samples.jsonl beyond `step`, so that nothing is recorded twice.

        Also the summary of the training, which is logged again however far it had come.
        """
        for file in (self.metrics_file, self.samples_file):
            if file.exists():
                kept = [line for line in load_jsonl(file) if line["step"] <= step and "train_runtime" not in line]
                write_text(file, "".join(render_json_line(line) for line in kept))


def claim_folder(root: Path, name: str, now: datetime) -> Path:
    """Make root/name/<date> and return it; a taken name gets -2, -3. Two processes never get the same one."""
    parent = root / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{parent.absolute()} cannot be made: {error.strerror}. Stand elsewhere, or give output=."
        ) from error
    stamp = now.strftime("%Y-%m-%d_%H-%M-%S")
    for candidate in number_names(stamp):
        try:
            (parent / candidate).mkdir()
        except FileExistsError:
            continue
        return parent / candidate
    raise AssertionError("unreachable: candidates do not end")


def find_newest(root: Path, fingerprint: str) -> Run | None:
    """The newest run below `root` with this configuration."""
    candidates = sorted(root.glob("**/config.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in candidates:
        try:
            found = Run(file.parent).load_results().get("fingerprint")
        except CheckpointError:
            continue  # a run whose record is broken is not one to go on with
        if found == fingerprint:
            return Run(file.parent)
    return None


def load_overrides(folder: str) -> list[str]:
    """What was typed when the run in `folder` was started, as Hydra recorded it (so already quoted)."""
    record = Path(folder).expanduser() / ".hydra" / "overrides.yaml"
    if not record.is_file():
        found = "no .hydra/overrides.yaml in it" if Path(folder).is_dir() else "no such folder"
        raise CheckpointError(
            f"resume={folder}: expected a run folder of lmtune train, found {found}. "
            "Give a folder such as outputs/<name>/<date>, or resume=auto."
        )
    return [str(line) for line in yaml.safe_load(record.read_text(encoding="utf-8")) or []]


def step_of(folder: Path) -> int:
    """The step in the name of a checkpoint folder, -1 for another name."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else -1


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Write manifest.json last: every file with its size and checksum, its own too, all of it on disk before."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    for file in paths:
        file.chmod(0o644)  # safetensors writes 0600, which another user (a container, a web server) cannot read
    with ThreadPoolExecutor(1) as disk:  # the disk writes while the processor reads
        written = [disk.submit(sync, file) for file in paths]
        files = {
            file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "xxh3_128": checksum(file)}
            for file in paths
        }
        for each in written:
            each.result()
    content = {**manifest, "files": files}
    write_json(folder / MANIFEST, {**content, "xxh3_128": checksum_of(render_json(content))})
    sync(folder / MANIFEST)
    sync_folder(folder)


def find_fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint, None if it is whole: every file there, of the size and checksum it had."""
    try:
        manifest = load_json(folder / MANIFEST)
    except (OSError, CheckpointError):
        return f"{MANIFEST} is missing or unreadable, so the save did not finish"
    if manifest.pop("xxh3_128", None) != checksum_of(render_json(manifest)):
        return f"{MANIFEST} does not have the checksum it was saved with"
    for name, expected in manifest.get("files", {}).items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["bytes"]:
            return f"{name} has {file.stat().st_size} bytes, expected {expected['bytes']}"
        if checksum(file) != expected["xxh3_128"]:
            return f"{name} does not have the checksum it was saved with"
    return None


def _lock(file: Path) -> BaseFileLock:
    """The operating system's lock on a file, or a heartbeat where there is none; raise Timeout where another has it."""
    lock: BaseFileLock = FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except OSError as error:  # Timeout is one too, without a number
        if error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLease(file.with_name(f"{file.name}.lease"), lease_duration=HEARTBEAT_LIMIT)
        lock.acquire(timeout=PATIENCE)
    return lock


def _describe_holder(file: Path) -> str:
    try:
        holder = load_json(file)
    except (OSError, CheckpointError):
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')}, which started {holder.get('started')}"
