"""A finished run's objects of DVC's cache as one file: with the lock that names them, and a hash of everything.

The file is a ZIP: ``manifest.json``, dvc.lock and the parameters by their paths, and every object under ``objects/``.
Equal runs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.runs.objects import DIRECTORY, LockedObjects, has_its_name, listed, md5, names, path_of
from pessimism.runs.revisions import file_at, resolve

FORMAT = "a finished run of pessimism, 1"
MANIFEST = "manifest.json"
OBJECTS = "objects/"
_NAME = re.compile(rf"[0-9a-f]{{32}}({re.escape(DIRECTORY)})?")
_OF_ALL = (1980, 1, 1, 0, 0, 0)  # the time that every member carries
_READ_ONLY = 0o444  # as DVC leaves objects


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        format: which this is.
        commit: whose dvc.lock and parameters these are.
        sha256: hash of every other member by its name.
    """

    format: str
    commit: str
    sha256: dict[str, str]


def write(file: Path, params: Params, locked: LockedObjects) -> Manifest:
    """Write the objects that dvc.lock names to a new file.

    Raises:
        DataError: the file is there already, its directory is not, or lock and parameters are not those of the last
            commit.
    """
    if not file.parent.is_dir():
        raise DataError(f"found no directory {file.parent}; expected one for {file.name}: make it")
    if file.exists():
        raise DataError(f"found {file}, which is there already; expected a new file: name another, or remove it")
    commit = resolve("HEAD")
    described = [layout.LOCK, *_parameter_files(params)]
    changed = [str(path) for path in described if file_at(commit, path) != path.read_bytes()]
    if changed:
        raise DataError(
            f"found {', '.join(changed)} other than in the last commit; expected a committed run, which others can "
            "check out: commit it"
        )
    objects = dict.fromkeys(entry for name in locked.outputs for entry in names(locked.store, name))
    members = {str(path): path for path in described} | {
        f"{OBJECTS}{name}": path_of(locked.store, name) for name in sorted(objects)
    }
    manifest = Manifest(FORMAT, commit, {name: _sha256(path) for name, path in members.items()})
    partial = file.with_name(f"{file.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            archive.writestr(_member(MANIFEST), json.dumps(asdict(manifest), indent=2))
            for name, path in members.items():
                with path.open("rb") as source, archive.open(_member(name), "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target)
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def _parameter_files(params: Params) -> list[Path]:
    return [layout.PARAMS, layout.scale_file(params.scale_name), layout.protocol_file(params.protocol_name)]


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _OF_ALL)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def read(file: Path, locked: LockedObjects) -> tuple[int, int]:
    """Put the objects of an archive into DVC's cache, after all of it has been compared with its hashes.

    Returns:
        How many were put there, and how many had been there already.

    Raises:
        DataError: the file is no such archive, it is damaged or lacks an object, it belongs to another dvc.lock than
            the one here, or the cache holds other bytes under the name of an object.
    """
    with _opened(file) as archive:
        manifest = _manifest(file, archive)
        _compare_members(file, archive, manifest)
        _compare_lock(file, archive, manifest)
        objects = [name.removeprefix(OBJECTS) for name in manifest.sha256 if name.startswith(OBJECTS)]
        _compare_objects(file, archive, objects, locked)
        new = [name for name in objects if not _is_there(path_of(locked.store, name), name)]
        for name in new:
            with archive.open(f"{OBJECTS}{name}") as source:
                _put(source, path_of(locked.store, name))
    return len(new), len(objects) - len(new)


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    expected = "expected a whole file of `pessimism export-run`: fetch it again"
    try:
        archive = zipfile.ZipFile(file)
    except FileNotFoundError as error:
        raise DataError(f"found no file {file}; expected one that `pessimism export-run` wrote") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{file}: {error}; {expected}") from error
    with archive:
        try:
            yield archive
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: encrypted, or packed anew
            raise DataError(f"{file}: {error}; {expected}") from error


def _manifest(file: Path, archive: zipfile.ZipFile) -> Manifest:
    try:
        found = Manifest(**json.loads(archive.read(MANIFEST)))
        described = {str(layout.LOCK), str(layout.PARAMS)} <= set(found.sha256)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: found no {MANIFEST} of ours; expected a file of `pessimism export-run`") from error
    if not described:
        raise DataError(f"{file}: its {MANIFEST} lacks {layout.LOCK} or {layout.PARAMS}; expected both: fetch it again")
    if found.format != FORMAT:
        raise DataError(f"{file}: found {found.format!r}; expected {FORMAT!r}: export it by this version")
    return found


def _compare_members(file: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    """The manifest lists every member, and each has the hash that stands there; objects also that of their name."""
    if sorted(archive.namelist()) != sorted([MANIFEST, *manifest.sha256]):
        raise DataError(f"{file}: found other members than its {MANIFEST} lists; expected these: fetch it again")
    for name, expected in manifest.sha256.items():
        with archive.open(name) as member:
            found = hashlib.file_digest(member, "sha256").hexdigest()  # type: ignore[arg-type]
        if found != expected:
            raise DataError(f"{file}: {name}: found SHA-256 {found[:12]}; expected {expected[:12]}: fetch it again")
        if name.startswith(OBJECTS):
            _compare_name(file, archive, name)


def _compare_name(file: Path, archive: zipfile.ZipFile, member: str) -> None:
    name = member.removeprefix(OBJECTS)
    with archive.open(member) as content:
        found = md5(content)
    if _NAME.fullmatch(name) is None or found != name.removesuffix(DIRECTORY):
        raise DataError(f"{file}: {member}: found MD5 {found}; expected the object's name: fetch it again")


def _compare_lock(file: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    here = layout.LOCK.read_bytes() if layout.LOCK.is_file() else None
    if archive.read(str(layout.LOCK)) != here:
        raise DataError(
            f"{file}: found the {layout.LOCK} of commit {manifest.commit[:12]}; expected the one here, of "
            f"{resolve('HEAD')[:12]}: `git checkout {manifest.commit[:12]}`, then import again"
        )


def _compare_objects(file: Path, archive: zipfile.ZipFile, objects: list[str], locked: LockedObjects) -> None:
    """Everything that dvc.lock names is there, and nothing else."""
    needed = set(locked.outputs)
    for name in locked.outputs:
        if name.endswith(DIRECTORY) and name in objects:
            needed |= set(listed(archive.read(f"{OBJECTS}{name}")))
    if needed != set(objects):
        raise DataError(
            f"{file}: found {len(set(objects) - needed)} objects that {layout.LOCK} does not name and "
            f"{len(needed - set(objects))} missing; expected those that it names: export it again"
        )


def _is_there(path: Path, name: str) -> bool:
    """Whether the cache has this object already.

    Raises:
        DataError: it has other bytes under this name.
    """
    if not path.is_file():
        return False
    if not has_its_name(path, name):
        raise DataError(f"found other bytes in {path}; expected those of its name, or nothing: remove it")
    return True


def _put(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as target:
            shutil.copyfileobj(source, target)
        partial.chmod(_READ_ONLY)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
