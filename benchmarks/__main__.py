"""Prints the table of every part's speed, and writes it as JSON: ``python -m benchmarks [PART ...]``."""

import argparse
import json
import platform
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import torch

from benchmarks import decoder, network, samples, silhouette
from benchmarks.measure import as_markdown

PARTS = {"decoder": decoder.rows, "silhouette": silhouette.rows, "samples": samples.rows, "network": network.rows}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}, memory; all by default")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write the figures")
    arguments = parser.parse_args()
    chosen = arguments.parts or [*PARTS, "memory"]
    if unknown := set(chosen) - {*PARTS, "memory"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}, memory")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = describe_machine(device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    rows = []
    for part in (part for part in chosen if part != "memory"):
        measured = PARTS[part](device)
        print(f"\n{as_markdown(measured)}", flush=True)
        rows += [{**asdict(row), "rate": row.rate, "ratio": row.ratio, "share": row.share} for row in measured]
    memory = network.peak_memory(device) if "memory" in chosen else []
    for name, peak in memory:
        print(f"peak memory, {name}: {peak / 2**30:.2f} GiB", flush=True)
    figures = {"machine": machine, "rows": rows, "peak_memory_bytes": dict(memory)}
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\nfigures in {arguments.json}")


def describe_machine(device: str) -> dict[str, str]:
    """Return what the figures belong to."""
    processor = f"{torch.get_num_threads()} threads of {platform.machine()}"
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device == "cuda" else processor,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "NumPy": np.__version__,
    }


if __name__ == "__main__":
    main()
