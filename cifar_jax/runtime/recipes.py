"""Which runs have the same recipe: they differ in their seeds alone."""

from collections.abc import Sequence

from cifar_jax.runtime.compatibility import FREE, changes
from cifar_jax.runtime.describe import describe_changes
from cifar_jax.runtime.records import Record

Recipe = list[Record]


def group(records: Sequence[Record]) -> list[Recipe]:
    """Sort runs into recipes.

    Runs that differ in their seeds, and in what decides no result, have one recipe. A sweep stays
    together: the runs of two folders that have a seed in common, as on a CPU and on a GPU, are two.

    Args:
      records: of which the order decides, not the results: of the better run of each seed the mean
        would be too high.

    Returns:
      The recipes and the runs in each, in the order of ``records``.
    """
    of_folders: list[Recipe] = []
    for record in records:
        folder = record.run.path.parent
        _add([record], [r for r in of_folders if r[0].run.path.parent == folder], of_folders)
    recipes: list[Recipe] = []
    for recipe in of_folders:
        _add(recipe, recipes, recipes)
    return recipes


def _add(more: Recipe, fitting: Sequence[Recipe], recipes: list[Recipe]) -> None:
    """Add runs to the first recipe that they have in common, without a seed in common."""
    for recipe in fitting:
        if _is_same(recipe, more):
            recipe += more
            return
    recipes.append(more)


def _is_same(recipe: Recipe, more: Recipe) -> bool:
    """Whether all are of one recipe, each with a seed of its own."""
    fields = {change.field for change in changes(recipe[0].config, more[0].config)}
    alike = not fields - FREE - {"train.seed"} and changed(recipe[0]) == changed(more[0])
    teachers = {teacher_sha256(record) for record in (*recipe, *more)} - {None}
    seeds = [record.config.train.seed for record in (*recipe, *more)]
    return alike and len(teachers) <= 1 and len(set(seeds)) == len(seeds)


def changed(record: Record) -> list[str]:
    """What was changed in the config after the run had begun; not known before it is finished."""
    return describe_changes(record.results["config_changes"]) if record.results else []


def teacher_sha256(record: Record) -> str | None:
    """SHA-256 of the teacher's weights; None without one, and before the run is finished."""
    return ((record.results or {}).get("teacher") or {}).get("file_sha256")
