"""A teacher for the compute-rich network: a wide residual network of dense convolutions, WRN-16-4.

    python main.py --config configs/wide_teacher.py --data.validation-examples 5000

2,748,890 parameters and 392.6 M multiply-adds, of which a student keeps none. It is for a GPU: two
CPU cores had not finished an epoch in 51 minutes, beside tests. Several seeds are meant to be
trained one after another (--side-by-side 1); side by side they have not been tried. Without images
that are held out (the command without its option) it can teach only students that hold none out.

Trained 2026-11-27 on one NVIDIA H200, jax 0.11.2, bfloat16, seed 0 only:

    python main.py --config configs/wide_teacher.py --model.dtype bfloat16 \
        --eval.batch-size 1000 --data.validation-examples 5000 --train.checkpoint-every 50

Epoch 91, averaged weights, no test-time augmentation: 95.00 % on the test set (n = 1), in 74
seconds. The GPU had to be given back in epoch 94 of 100, so the run was ended, and scored, on two
CPU cores with its checkpoint of epoch 91, the best on validation (95.36 %) of those whose figures
were kept; all 100 epochs have not been run. JSON: results/2026-11-27-h200-wide-teacher. It is
pretrained/wide_teacher, and teaches configs/200k_best.py. The recipe is a usual one, and no other
was tried.
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
    """Dense convolutions; flips, crops, holes; SGD; no label smoothing."""
    return Config(
        data=DataConfig(validation_examples=0),
        model=ModelConfig(
            architecture="wide", stem=16, stages=(64, 128, 256), blocks=2, dropout=0.0
        ),
        augment=AugmentConfig.only(
            flip=0.5,
            random_crop=1.0,
            border="reflect101",
            coarse_dropout=0.5,
            hole_min=8,
            hole_max=16,
        ),
        optim=OptimConfig(
            optimizer="sgd",
            learning_rate=0.1,
            schedule="linear",
            warmup=0.1,
            nesterov=True,
            weight_decay=5e-4,
            clip_norm=0.0,
            label_smoothing=0.0,
            ema_decay=0.99,
        ),
        train=TrainConfig(epochs=100, patience=0),
        eval=EvalConfig(tta="flip"),
    )
