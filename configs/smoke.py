"""The first try: a small network on generated images, in less than a minute on two CPU cores.

    python main.py --config configs/smoke.py

Eight epochs with a checkpoint each. No data set is needed. The images are easy: this checks an
installation and says nothing about CIFAR-10.
"""

from cifar_jax.config import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    """Every part of the real recipe, made small."""
    return Config(
        data=DataConfig(source="synthetic", train_examples=1_000, validation_examples=200),
        model=ModelConfig(stem=8, stages=(8, 16), blocks=1),
        optim=OptimConfig(learning_rate=0.1, warmup=0.1, ema_decay=0.98),
        train=TrainConfig(epochs=8, batch_size=50, keep_checkpoints=8, patience=0),
        eval=EvalConfig(batch_size=200),
    )
