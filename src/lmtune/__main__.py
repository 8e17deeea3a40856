"""`python -m lmtune ...`, the form that launchers need: `torchrun --nproc_per_node 2 -m lmtune train ...`."""

from lmtune.cli.main import main

if __name__ == "__main__":
    main()
