"""A teacher for the network of 150,690 parameters: the same one, twice as wide.

    python main.py --config configs/teacher.py --data.validation-examples 5000
    python main.py export --workdir runs/teacher-seed0 --output my/teacher
    python main.py --config configs/200k_tuned.py --distill.teacher my/teacher

573,370 parameters and 29.9 M multiply-adds, of which a student keeps none. Without images that are
held out (the first command without its option) it can teach only students that hold none out.

Measured 2026-11-26 on one NVIDIA H200, jax 0.11.2, bfloat16, seed 0 only:

    python main.py --config configs/teacher.py --model.dtype bfloat16 --eval.batch-size 1000 \
        --data.validation-examples 5000 --train.checkpoint-every 50 --workdir runs/teacher

Epoch 98 of 100, the best on validation (93.60 %), averaged weights, no test-time augmentation:
93.48 % on the test set (n = 1), in 78 seconds. JSON: results/2026-11-26-h200-taught/teacher. It is
pretrained/teacher. Three students at the rates of configs/200k_tuned.py were 0.3 to 0.8 points
above an untaught one on validation in 40 epochs (one seed; docs/recipes.md).
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
    """As 200k_tuned.py, wider, for half as long, without CutMix, label smoothing and teacher."""
    return Config(
        data=DataConfig(validation_examples=0),
        model=ModelConfig(stem=40, stages=(40, 80, 160, 320), dropout=0.0),
        augment=AugmentConfig.only(flip=0.5, random_crop=1.0, border="reflect101"),
        optim=OptimConfig(
            optimizer="muon",
            learning_rate=0.1,
            muon_learning_rate=0.005,
            muon_weight_decay=0.05,
            schedule="linear",
            warmup=0.2,
            nesterov=True,
            weight_decay=5e-4,
            clip_norm=0.0,
            label_smoothing=0.0,
            ema_decay=0.99,
        ),
        train=TrainConfig(epochs=100, patience=0),
        eval=EvalConfig(tta="flip"),
    )
