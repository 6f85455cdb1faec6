"""The official binary archive, or the folder of its files, that the user already has."""

from collections.abc import Mapping
from pathlib import Path

from cifar_jax.data import batches
from cifar_jax.data.dataset import DataError, Dataset, Report, Unavailable, verify
from cifar_jax.data.tar import read_members


def load(data_dir: Path, report: Report) -> Dataset:
    """Reads the archive or its folder in ``data_dir`` or ``data_dir/downloads/manual``.

    Args:
      data_dir: where to look.
      report: told of each damaged candidate that is passed over.

    Returns:
      The verified data set.

    Raises:
      Unavailable: there is neither.
      DataError: all that is there is damaged.
    """
    damage = None
    for folder in (data_dir, data_dir / "downloads" / "manual"):
        for name, read in ((batches.FOLDER_NAME, read_folder), (batches.ARCHIVE_NAME, read_tar)):
            path = folder / name
            if not path.exists():
                continue
            try:
                return verify(read(path))
            except DataError as error:
                damage = error
                report(f"cifar10: archive: {error}")
    if damage:
        raise damage
    raise Unavailable(f"no {batches.ARCHIVE_NAME} and no {batches.FOLDER_NAME} in {data_dir}")


def read_tar(path: Path, md5: Mapping[str, str] = batches.MD5, size: int = 30_730_000) -> Dataset:
    """Streams the batches out of the archive; nothing is extracted.

    Args:
      path: the .tar.gz.
      md5: MD5 of each batch file, the training batches in their order, then the test batch.
      size: bytes of each batch file.

    Returns:
      The data set, not verified as a whole.

    Raises:
      DataError: the archive is damaged; the message names the member.
    """
    members = {f"{batches.FOLDER_NAME}/{name}": size for name in md5}
    parts = {}
    for member, data in read_members(path, members):
        name = member.rpartition("/")[2]
        parts[name] = batches.decode(_checked(path, name, data, md5))
    return batches.assemble(parts, list(md5))


def read_folder(
    path: Path, md5: Mapping[str, str] = batches.MD5, size: int = 30_730_000
) -> Dataset:
    """Reads the batches from a folder of extracted files; otherwise as `read_tar`."""
    parts = {}
    for name in md5:
        try:
            found = (path / name).stat().st_size
            if found != size:
                raise DataError(f"{path / name} must have {size:,} bytes, has {found:,}")
            data = (path / name).read_bytes()
        except OSError as error:
            raise DataError(f"{path / name} cannot be read: {error.strerror}") from error
        parts[name] = batches.decode(_checked(path, name, data, md5))
    return batches.assemble(parts, list(md5))


def _checked(path: Path, name: str, data: bytes, md5: Mapping[str, str]) -> bytes:
    try:
        return batches.check(name, data, md5)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
