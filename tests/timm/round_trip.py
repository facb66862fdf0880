#!/usr/bin/env python3
"""Weights to timm and back, with the real timm (not part of `cargo test`: it needs PyTorch).

    python tests/timm/round_trip.py target/release/ablate [MODEL ...]

For each timm model (default: every deit3_* that fits into memory comfortably):

1. in: timm's random weights, saved by torch.save and as safetensors, with timm's and the official
   names, are evaluated by `ablate eval`; top-1, top-5 and loss must be those that timm computes on
   the same images;
2. out: a stage starts from that file (`init`), trains one epoch and is exported with
   `ablate weights export`; `timm.create_model(MODEL).load_state_dict(...)` must take the file as it
   is (strict), and timm's metrics must be those that the run reports.

Exit code 1 and a line `FAILED` where something differs by more than float32's rounding.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

MODELS = ["deit3_small_patch16_224", "deit3_medium_patch16_224", "deit3_base_patch16_224"]
CLASSES, TRAIN, VAL = 7, 2, 3  # classes, images of each
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def images(folder: Path, side: int) -> None:
    """Low-frequency colour fields, PNG, at the model's size: no resizing, no decoder differences."""
    draw = numpy.random.default_rng(1)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for label in range(CLASSES):
            (folder / split / f"class{label}").mkdir(parents=True)
            for index in range(count):
                small = draw.integers(0, 256, (6, 6, 3), dtype=numpy.uint8)
                image = Image.fromarray(small).resize((side, side), Image.BICUBIC)
                image.save(folder / split / f"class{label}" / f"{index}.png")


def timm_metrics(model: torch.nn.Module, folder: Path) -> dict:
    model.eval()
    logits, labels = [], []
    for label in range(CLASSES):
        for index in range(VAL):
            pixels = numpy.asarray(Image.open(folder / "val" / f"class{label}" / f"{index}.png"))
            x = (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - MEAN) / STD
            with torch.no_grad():
                logits.append(model(x[None])[0])
            labels.append(label)
    logits, labels = torch.stack(logits), torch.tensor(labels)
    order = logits.argsort(dim=1, descending=True)
    hits = lambda k: (order[:, :k] == labels[:, None]).any(dim=1).double().mean().item() * 100
    loss = torch.nn.functional.cross_entropy(logits.double(), labels).item()
    return {"top1": hits(1), "top5": hits(5), "loss": loss}


def ablate(program: str, *args: str, cwd: Path) -> str:
    done = subprocess.run([program, *args], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"FAILED {' '.join(args)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def compare(what: str, ours: dict, theirs: dict) -> bool:
    worst = max(abs(ours[name] - theirs[name]) for name in theirs)
    good = worst < 2e-5
    print(f"{'ok' if good else 'FAILED'} {what}: largest difference of top1, top5, loss {worst:.1e}")
    return good


def check(program: str, name: str, folder: Path) -> bool:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES)
    for parameter in model.parameters():  # no constants: a swapped or forgotten tensor must show
        parameter.data.add_(torch.randn_like(parameter) * 0.02)
    side = model.patch_embed.img_size[0]
    data = folder / "data"
    images(data, side)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save({"model": state, "epoch": 3}, folder / "weights.pth")
    save_file(state, folder / "weights.safetensors")
    good = True
    reference = timm_metrics(model, data)
    ablate(program, "weights", "import", "weights.pth", "--out", "official.safetensors", cwd=folder)
    for file in ("weights.pth", "weights.safetensors", "official.safetensors"):
        text = ablate(program, "eval", file, "--data", f"fields={data}", "--format", "json", cwd=folder)
        answer = json.loads(text)
        good &= compare(f"{name}: ablate eval {file}", answer.get("metrics", answer), reference)

    arch = name.removeprefix("deit3_").removesuffix(f"_{side}")
    (folder / "out.yaml").write_text(f"""
name: out
title: Weights to timm
recipe: deit3_finetune_384_vit_s
set:
  model: {{arch: vit_{arch}}}
  data: {{name: fields, root: {data}}}
  train: {{resolution: {side}, epochs: 1, batch_size: 14}}
  schedule.warmup_epochs: 0
  mix.groups: 1
  optimizer.lr: 1e-4
  schedule.min_lr: 1e-5
stages:
  finetune: {{init: weights.pth}}
seeds: 1
""")
    ablate(program, "run", "out.yaml", "--quiet", cwd=folder)
    query = "SELECT run, metric, value FROM v_results WHERE metric IN ('top1', 'top5', 'loss')"
    rows = json.loads(ablate(program, "query", query, "--format", "json", cwd=folder))
    run = rows[0]["run"]
    ours = {row["metric"]: row["value"] for row in rows}
    ablate(program, "weights", "export", run, "--out", "trained.safetensors", cwd=folder)
    fresh = timm.create_model(name, num_classes=CLASSES)
    fresh.load_state_dict(load_file(folder / "trained.safetensors"))
    moved = (fresh.blocks[0].attn.qkv.weight - model.blocks[0].attn.qkv.weight).abs().max().item()
    if moved == 0:
        print(f"FAILED {name}: training changed nothing")
        good = False
    good &= compare(f"{name}: timm on exported weights", ours, timm_metrics(fresh, data))
    return good


def main() -> None:
    program = str(Path(sys.argv[1]).resolve())
    print(f"timm {timm.__version__}, PyTorch {torch.__version__}")
    good = True
    for name in sys.argv[2:] or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            good &= check(program, name, Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
