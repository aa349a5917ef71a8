#!/usr/bin/env bash
# All that needs a GPU, in one call: the tests marked gpu (the renderers' parity among them) and the table.
#   benchmarks/gpu.sh [FOLDER]     from the repository's root; figures and logs go to FOLDER (default: gpu-results)
# The environment must have torch with CUDA, and for nvdiffrast nvcc and ninja. On a machine that reaches no package
# index, put wheels of what else pyproject.toml asks for on the path first; for all but torch:
#   python -m pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=$PWD/site
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

python -c 'import torch; print(torch.cuda.get_device_name(), torch.__version__)' 2>/dev/null ||
  { echo "gpu.sh: python has no torch here that sees a GPU" >&2; exit 1; }
mkdir -p "$out"
status=0
python -m pytest tests -m gpu -p no:cacheprovider 2>&1 | tee "$out/tests.log" || status=1
for part in decoder silhouette samples network memory; do # one process a part: what one leaves on the GPU touches no other
  python -m benchmarks "$part" --json "$out/$part.json" 2>&1 | tee "$out/$part.log" || status=1
done
exit $status
