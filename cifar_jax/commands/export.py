"""python main.py export: a trained network, to take along."""

import argparse
from collections.abc import Sequence

from cifar_jax.commands.command import (
    Command,
    Options,
    add_network,
    open_network,
    refuse_overrides,
    to_path,
)
from cifar_jax.commands.console import interruptible, note
from cifar_jax.errors import ConfigError

FORMATS = ("safetensors", "stablehlo", "onnx", "torch")


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="safetensors: a folder of weights and card of a finished run (the default); "
        "stablehlo: a program for jax.export.deserialize, which reads it for six months; onnx: "
        "needs the extra of that name; torch: a state dict with the original's names. All but the "
        "first are one file, in float32. All are read back and compared",
    )
    parser.add_argument(
        "--output",
        type=to_path,
        help="folder, as my/network, or file: .stablehlo, .onnx; .safetensors, .pt or .pth "
        "for torch",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float"),
        help="of stablehlo and onnx: images [N, 32, 32, 3], RGB, N free, as uint8 (the default) or "
        "float32 in [0, 1]; they normalise them and give logits [N, 10]",
    )
    parser.add_argument("--limits", help="safetensors: what its users should know besides")


def run(options: Options, overrides: Sequence[str], command: str) -> None:
    """Write a trained network in one of the formats."""
    refuse_overrides(overrides, options)
    if options.format == "safetensors":
        unused, why = ("weights", "checkpoint", "input"), "is not for --format safetensors"
    elif options.format == "torch":
        unused, why = ("limits", "input"), "is not for --format torch"
    else:
        unused, why = ("limits",), "is for --format safetensors"
    if given := [name for name in unused if getattr(options, name) is not None]:
        raise ConfigError(f"--{given[0]}: {why}")
    if options.format == "safetensors":
        _export_folder(options)
    else:
        _export_file(options)


def _export_folder(options: Options) -> None:
    if options.workdir is None or options.output is None:
        raise ConfigError("--workdir and --output are required, as in --output my/network")
    from cifar_jax.runtime.cards import export
    from cifar_jax.runtime.environment import require_device
    from cifar_jax.runtime.formats import ENDINGS

    suffix = options.output.suffix
    if kinds := [kind for kind, endings in ENDINGS.items() if suffix in endings]:
        raise ConfigError(
            f"--output {options.output}: must be a folder for --format safetensors; "
            f"{suffix} is of --format {kinds[0]}"
        )

    interruptible()
    require_device(gpu=False)
    card = export(options.workdir, options.output, limits=options.limits or "", report=note)
    print(f"{options.output}: {card['parameters']:,} parameters, {card['accuracy']:.2%}")
    print("read back: its weights are those of the run, bit for bit")


def _export_file(options: Options) -> None:
    if options.output is None:
        raise ConfigError("--output is required, as in --format onnx --output network.onnx")
    from cifar_jax.runtime.environment import require_device
    from cifar_jax.runtime.formats import BATCHES, write

    interruptible()
    require_device(gpu=False)
    net = open_network(options)
    done = write(net, options.output, options.format, input=options.input or "uint8")
    print(f"{options.output}: {done.size:,} bytes")
    if options.format == "torch":
        augment = net.config.augment
        print(f"images are normalised by mean {list(augment.mean)} and std {list(augment.std)}")
        print("read back: its arrays are the network's, bit for bit")
        return
    sizes = " and ".join(map(str, BATCHES))
    print(
        f"read back: its logits differ by at most {done.difference:.1e} from the network's, whose "
        f"largest is {done.largest:.3g}, in batches of {sizes}"
    )


EXPORT = Command(
    "write a trained network as safetensors, StableHLO, ONNX or for PyTorch",
    run,
    _add_options,
    fields="",
)
