"""A recipe to search around that is quick to compile and to train: 20 steps an epoch."""

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
    """Generated images that are only flipped, and a network of one block."""
    return Config(
        data=DataConfig(source="synthetic", train_examples=1_000, validation_examples=200),
        model=ModelConfig(stem=8, stages=(8,), blocks=1),
        augment=AugmentConfig(
            shift_scale_rotate=0.0,
            brightness_contrast=0.0,
            hue_saturation_value=0.0,
            coarse_dropout=0.0,
            ricap=0.0,
            mixup=0.0,
            cutmix=0.0,
        ),
        optim=OptimConfig(learning_rate=0.1, warmup=0.1, ema_decay=0.9),
        train=TrainConfig(batch_size=50, patience=0),
        eval=EvalConfig(batch_size=200, tta="none"),
    )
