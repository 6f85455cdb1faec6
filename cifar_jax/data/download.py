"""The official archive from the data set's home."""

from pathlib import Path

from cifar_jax.data import archive, batches, transfer
from cifar_jax.data.dataset import DataError, Dataset, Report, verify
from cifar_jax.files import replace_durably, set_aside, writing

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"


def check(data_dir: Path) -> None:
    """Raises `Unavailable` where the host cannot be reached."""
    del data_dir
    transfer.check(URL)


def load(data_dir: Path, report: Report) -> Dataset:
    """Downloads ``cifar-10-binary.tar.gz`` into ``data_dir``, keeps it there, and reads it.

    Args:
      data_dir: the folder; a ``.part`` file in it is continued.
      report: told the progress.

    Returns:
      The verified data set.

    Raises:
      DataError: the host cannot be reached or does not serve the official archive.
    """
    path = fetched = data_dir / batches.ARCHIVE_NAME
    if path.exists():
        try:
            return verify(archive.read_tar(path))
        except DataError as error:
            report(f"cifar10: {error}; fetching it again")
            fetched = path.with_name(f"{path.name}.new")
    transfer.fetch(
        URL, fetched, size=batches.ARCHIVE_SIZE, sha256=batches.ARCHIVE_SHA256, report=report
    )
    if fetched != path:
        with writing(path):
            report(f"cifar10: the damaged archive is kept as {set_aside(path, 'damaged')}")
            replace_durably(fetched, path)
    return verify(archive.read_tar(path))
