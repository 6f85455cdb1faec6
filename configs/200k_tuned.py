"""The 150,690-parameter network, with a recipe for 200 epochs.

    python main.py --config configs/200k_tuned.py

Not yet run at 200 epochs, and not searched at that length: docs/gpu-queue.md has the commands.
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
    """Flips and crops; Muon for the 1x1 kernels; all training images, so the last epoch."""
    return Config(
        data=DataConfig(validation_examples=0),
        model=ModelConfig(dropout=0.0),
        augment=AugmentConfig(
            random_crop=1.0,
            border="reflect101",
            shift_scale_rotate=0.0,
            brightness_contrast=0.0,
            hue_saturation_value=0.0,
            coarse_dropout=0.0,
            ricap=0.0,
            mixup=0.0,
            cutmix=0.0,
        ),
        optim=OptimConfig(
            optimizer="muon",
            learning_rate=0.4,
            muon_learning_rate=0.02,
            schedule="linear",
            warmup=0.2,
            nesterov=True,
            weight_decay=5e-4,
            clip_norm=0.0,
            label_smoothing=0.05,
            ema_decay=0.999,
        ),
        train=TrainConfig(epochs=200, patience=0),
        eval=EvalConfig(tta="flip"),
    )
