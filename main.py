"""The command: ``python main.py [train|eval|summary|data] --config configs/200k.py``."""

import sys

from cifar_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
