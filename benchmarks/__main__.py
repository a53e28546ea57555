"""The job of `snakemake benchmarks`: python -m benchmarks RECORD MARKDOWN FIGURE CODE, the digest of what it runs."""

import sys
import time
from pathlib import Path

import torch

from abi.base import machine
from abi.base.errors import AbiError
from abi.base.files import write_text
from abi.base.job import Job, hardware
from abi.base.manifests.speed import SpeedManifest, Targets
from abi.plan.yaml_files import read_yaml
from abi.report import speed
from benchmarks import growth, rows


def main(record: str, markdown: str, figure: str, code: str) -> None:
    """Measure everything in one thread and write it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    began = time.perf_counter()
    given = read_yaml(Path(__file__).with_name("targets.yaml"), Targets)
    running = Job("measure_speed", given.plain(), code, [], 1)
    here = machine.Machine(hardware=hardware(), threads=1, load=machine.load(), gflops=machine.gemm_gflops())
    lines = [line.model_copy(update={"targets": given.benchmarks.get(line.name, {})}) for line in rows.measured()]
    curves = growth.measured()
    made = SpeedManifest(
        machine=here,
        load_after=machine.load(),
        elapsed_s=time.perf_counter() - began,
        benchmarks=lines,
        growth=curves,
        provenance=running.provenance(),
    )
    write_text(markdown, speed.page(made))
    write_text(figure, speed.drawing(made))
    made.write(record)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except AbiError as error:
        raise SystemExit(f"abi: {error}") from None
