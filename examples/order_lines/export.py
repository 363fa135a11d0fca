"""One folder for both runtimes: safetensors, config and tokenizer for vLLM, ONNX beside them for the embedded one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tokens
import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

ONNX_FILES = ("genai_config.json", "model.onnx", "model.onnx.data")


def export(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, precision: str = "fp32") -> None:
    """Write the folder. ONNX is built from the bfloat16 weights, so that both runtimes run the same model."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokens.save(tokenizer, folder)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "onnx"
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(folder), "-o", str(out)]
        subprocess.run([*command, "-p", precision, "-e", "cpu", "-c", scratch], check=True)
        for name in ONNX_FILES:
            if (out / name).exists():
                shutil.copy(out / name, folder / name)
    for path in folder.iterdir():
        path.chmod(0o644)
