"""A run small enough to be killed many times: two epochs of four chunks, six seconds in all.

python main.py --config tests/faults/tiny.py
"""

from cifar_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)


def get_config() -> Config:
    """Generated images, a network of 1,530 parameters, a checkpoint each epoch."""
    return Config(
        data=DataConfig(source="synthetic", train_examples=160, validation_examples=40),
        model=ModelConfig(stem=8, stages=(8, 16), blocks=1),
        augment=AugmentConfig(shift_scale_rotate=0.0, ricap=0.0, mixup=0.0, cutmix=0.0),
        optim=OptimConfig(learning_rate=0.1, warmup=0.1, ema_decay=0.9),
        train=TrainConfig(epochs=3, batch_size=20, chunk_steps=2, patience=0, keep_checkpoints=2),
        eval=EvalConfig(batch_size=64, tta="flip"),
    )
