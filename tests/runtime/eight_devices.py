"""What test_devices.py runs in processes of its own, with several virtual devices.

usage: python eight_devices.py FOLDER WHAT...; XLA_FLAGS has the number of devices. In the end it
prints what each has found, as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cifar_jax import augment, steps
from cifar_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    validate,
)
from cifar_jax.runtime.cards import write_folder
from cifar_jax.runtime.inputs import load_inputs
from cifar_jax.runtime.members import Members
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.train import train
from cifar_jax.runtime.trainer import Trainer

CONFIG = validate(
    Config(
        data=DataConfig(source="synthetic", train_examples=160, validation_examples=40),
        model=ModelConfig(stem=8, stages=(8, 16), blocks=1, convolutions="plain", dropout=0.2),
        augment=AugmentConfig(shift_scale_rotate=0.0, hue_saturation_value=0.0, ricap=0.0),
        optim=OptimConfig(learning_rate=0.1, warmup=0.1, ema_decay=0.9),
        train=TrainConfig(epochs=2, batch_size=16, chunk_steps=5, patience=0),
        eval=EvalConfig(batch_size=64, tta="none"),
    )
)


def taught(folder: Path) -> Config:
    """The same with a teacher, of weights that nobody has trained."""
    teacher = CONFIG.replace(train={"seed": 9})
    if not (folder / "teacher").exists():
        variables = Trainer(teacher).initial_state().variables
        write_folder(folder / "teacher", variables, teacher, {"accuracy": 0.1})
    return CONFIG.replace(distill={"teacher": str(folder / "teacher")})


def epoch(folder: Path) -> dict[str, Any]:
    """One epoch with a teacher: the sums, the weights, and whether devices talk to each other."""
    trainer = Trainer(taught(folder))
    resident = trainer.resident(load_inputs(CONFIG, report=print).train)
    state, sums = trainer.initial_state(), {}
    state, sums = trainer.train_epoch(state, 1, resident, Progress(2, 160))
    leaves = {str(i): np.asarray(x) for i, x in enumerate(jax.tree.leaves(state))}
    np.savez(folder / f"epoch{jax.device_count()}.npz", allow_pickle=False, **leaves)
    program: Any = trainer.train_chunk
    found = {"loss": sums["loss"], "correct": sums["correct"]}
    found |= {"flops": program.cost_analysis()["flops"]}
    return found | {"all_reduce": "all-reduce" in program.as_text()}


def batch(folder: Path) -> dict[str, Any]:
    """What the network sees of a batch that is spread over the devices, image by image.

    With the default ones, also where CONFIG does without; RICAP by itself. And whether devices talk
    to each other for pixel operations.
    """
    mesh = Mesh(np.array(jax.devices()), ("data",))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    train_images, labels = load_inputs(CONFIG, report=print).train

    @jax.jit
    def see(key, images, labels):
        images, labels = place = jax.lax.with_sharding_constraint((images, labels), spread)
        config = AugmentConfig(mixup=0.5, cutmix=0.5, ricap=0.0)
        seen = steps.augmented_batch(key, jax.numpy.int32(3), place, config, num_classes=10)
        targets = jax.nn.one_hot(labels, 10)
        return *seen[:2], *augment.ricap(key, steps.to_float(images), targets, beta=0.3)

    seen = see(jax.random.key(5), train_images[:16], labels[:16])
    np.savez(folder / f"batch{jax.device_count()}.npz", *map(np.asarray, seen))
    config = AugmentConfig(random_crop=1.0)
    pixels = jax.jit(
        lambda key, images: augment.augment_pixels(key, steps.to_float(images), config),
        in_shardings=(None, spread),
    )
    program: Any = pixels.lower(jax.random.key(5), train_images[:16]).compile()
    return {"talk": any(name in program.as_text() for name in ("all-", "collective-"))}


def members(folder: Path) -> dict[str, Any]:
    """Four members with one teacher, and how many devices they are on."""
    config = taught(folder)
    configs = [config.replace(train={"seed": seed}) for seed in range(4)]
    group = Members(configs, vectorized=True)
    resident = group.resident(load_inputs(CONFIG, report=print).train)
    states, sums = group.train_epoch(group.initial_states(), 1, resident, Progress(2, 640))
    leaves = {f"{m}-{i}": x for m, s in enumerate(states) for i, x in enumerate(jax.tree.leaves(s))}
    np.savez(folder / f"members{jax.device_count()}.npz", allow_pickle=False, **leaves)
    mesh = group.placement.mesh
    return {"loss": list(sums["loss"]), "devices": mesh.size if mesh else 1}


def rest(folder: Path) -> list[dict[str, Any]]:
    """The rest of the run that other devices have begun, without pictures: what has changed."""
    from cifar_jax.runtime import pictures  # matplotlib takes a second to import

    pictures.draw_pictures = lambda *_: None
    (workdir,) = (path for path in folder.glob("run*") if path.name != f"run{jax.device_count()}")
    return train(CONFIG, workdir)["environment_changes"]


def first_epoch(folder: Path) -> None:
    """A run that is interrupted after its first epoch."""
    line = Progress.line

    def stop_after_first(self, text):
        line(self, text)
        if text.startswith("epoch 2"):
            raise KeyboardInterrupt

    Progress.line = stop_after_first
    try:
        train(CONFIG, folder / f"run{jax.device_count()}")
    except KeyboardInterrupt:
        return
    finally:
        Progress.line = line
    raise AssertionError("it was not interrupted")


if __name__ == "__main__":
    print(json.dumps({what: globals()[what](Path(sys.argv[1])) for what in sys.argv[2:]}))
