"""Which runs have the same recipe: they differ in their seeds alone."""

from collections.abc import Sequence

from cifar_jax.runtime.compatibility import FREE, changes
from cifar_jax.runtime.describe import describe_changes
from cifar_jax.runtime.records import Record

Recipe = list[Record]


def group(records: Sequence[Record]) -> list[Recipe]:
    """Sort runs into recipes.

    Runs that differ in their seeds, and in what decides no result, have one recipe. A seed that
    comes twice, as in a sweep on a CPU and another on a GPU, begins a recipe of its own, which gets
    the seeds of its folder.

    Args:
      records: of which the order decides, not the results: of the better run of each seed the mean
        would be too high.

    Returns:
      The recipes and the runs in each, in the order of ``records``.
    """
    recipes: list[Recipe] = []
    for record in records:
        fitting = [recipe for recipe in recipes if _is_another_seed(record, recipe)]
        beside = [r for r in fitting if r[0].run.path.parent == record.run.path.parent]
        if fitting:
            (beside or fitting)[0].append(record)
        else:
            recipes.append([record])
    return recipes


def _is_another_seed(record: Record, recipe: Recipe) -> bool:
    fields = {change.field for change in changes(recipe[0].config, record.config)}
    alike = not fields - FREE - {"train.seed"} and changed(recipe[0]) == changed(record)
    teachers = {teacher_sha256(other) for other in (*recipe, record)} - {None}
    seeds = {other.config.train.seed for other in recipe}
    return alike and len(teachers) <= 1 and record.config.train.seed not in seeds


def changed(record: Record) -> list[str]:
    """What was changed in the config after the run had begun; not known before it is finished."""
    return describe_changes(record.results["config_changes"]) if record.results else []


def teacher_sha256(record: Record) -> str | None:
    """SHA-256 of the teacher's weights; None without one, and before the run is finished."""
    return ((record.results or {}).get("teacher") or {}).get("file_sha256")
