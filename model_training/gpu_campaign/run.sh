#!/usr/bin/env bash
# Everything that needs a GPU, in one command; README.md beside this file says what, and what it needs.
#   model_training/gpu_campaign/run.sh [--minutes 12] [--out FOLDER] [--rehearse --device cpu]
# PYTHON is the interpreter that has PyTorch (default: .venv's, else python3). FILES is the folder that `pack` made
# (default: runs/gpu_files); wheels in it are installed beside its packages, without a network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python="${PYTHON:-$([ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null && echo .venv/bin/python || echo python3)}"
files="${FILES:-runs/gpu_files}"
if compgen -G "$files/wheels/*.whl" >/dev/null; then
  site=runs/gpu_site
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$files"/wheels/*.whl
  export PYTHONPATH="$PWD/$site${PYTHONPATH:+:$PYTHONPATH}"
fi
# So that asking for a GPU does not start CUDA in the process whose forks use it.
export PYTORCH_NVML_BASED_CUDA_CHECK=1
exec "$python" -m model_training.gpu_campaign run --files "$files" "$@"
