#!/usr/bin/env python3
"""Training speed of `ablate` beside timm on PyTorch (eager), pair by pair.

    python3 benches/compare_torch.py --ablate target/release/ablate [--model micro tiny deit] [--rounds 5]

The interpreter needs torch and timm. Both sides run the same Vision Transformer (same widths, depth,
heads, tokens, LayerScale, one stochastic depth rate in every block), the same batch of random images and
one-hot targets, binary cross-entropy, clipping by the global norm and AdamW, and time whole steps:
forward, backward, update. A round runs every side once, in turn, and gives one ratio a pair; the table
shows the median ratio over the rounds. PyTorch comes twice: as it is, and with an allocator tuned likewise
(`--torch-allocator`: the best of a short trial, or a named one). Our side runs as workers do, with
MIMALLOC_PURGE_DELAY=-1.

PyTorch's processes stay alive and asleep between rounds, so that its start-up disturbs nobody.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

# Name, arguments of `ablate bench train`, and the same for timm.
MODELS = {
    "micro": ("d64 L4 h2, 65 tokens, batch 64", "vit_micro_patch8", 64, 64, dict(patch=8, dim=64, depth=4, heads=2)),
    "tiny": ("d192 L12 h3, 65 tokens, batch 64", "vit_tiny_patch4", 32, 64, dict(patch=4, dim=192, depth=12, heads=3)),
    "deit": ("ViT-Ti/16 at 224, batch 8", "vit_tiny_patch16", 224, 8, dict(patch=16, dim=192, depth=12, heads=3)),
}
CLASSES = 1000
DROP_PATH = 0.05
# Threads of a process, processes at once.
SETTINGS = {"one thread": (1, 1), "two threads": (2, 1), "two one-thread workers": (1, 2)}

GLIBC = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
ALLOCATORS = {
    "default": {},
    "glibc tunables": {"GLIBC_TUNABLES": GLIBC},
    # Version 2.0 reads the first name, later ones the second.
    "mimalloc": {"LD_PRELOAD": f"{LIBRARIES}/libmimalloc.so.2", "MIMALLOC_ALLOW_DECOMMIT": "0", "MIMALLOC_PURGE_DELAY": "-1"},
    "tcmalloc": {"LD_PRELOAD": f"{LIBRARIES}/libtcmalloc_minimal.so.4"},
    "jemalloc": {"LD_PRELOAD": f"{LIBRARIES}/libjemalloc.so.2", "MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"},
}


def worker(options):
    """A process of PyTorch's side: reads a number of seconds a line, answers with a median step."""
    import timm
    import torch
    from timm.layers import DropPath

    threads, side, batch, sizes = options["threads"], options["side"], options["batch"], options["sizes"]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=side, patch_size=sizes["patch"], embed_dim=sizes["dim"], depth=sizes["depth"],
        num_heads=sizes["heads"], num_classes=CLASSES, init_values=1e-4, no_embed_class=True,
        drop_path_rate=DROP_PATH,
    )
    for block in model.blocks:
        block.drop_path1, block.drop_path2 = DropPath(DROP_PATH), DropPath(DROP_PATH)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    images = torch.randn(batch, 3, side, side)
    targets = torch.nn.functional.one_hot(torch.randint(0, CLASSES, (batch,)), CLASSES).float()
    criterion = torch.nn.BCEWithLogitsLoss()

    def step():
        start = time.perf_counter()
        # Our side copies its images, too.
        loss = criterion(model(images.clone()), targets.clone())
        loss.item()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return time.perf_counter() - start

    step()
    print("ready", flush=True)
    for line in sys.stdin:
        count = int(line)
        for _ in range(2):
            step()
        print(json.dumps(statistics.median(step() for _ in range(count))), flush=True)


class Torch:
    """One or more processes of PyTorch's side."""

    def __init__(self, model, threads, processes, allocator):
        _, _, side, self.batch, sizes = MODELS[model]
        options = json.dumps(dict(threads=threads, side=side, batch=self.batch, sizes=sizes))
        environment = {**os.environ, **ALLOCATORS[allocator], "OMP_NUM_THREADS": str(threads)}
        self.children = [
            subprocess.Popen(
                pinned(index, processes) + [sys.executable, __file__, "--worker", options],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )
            for index in range(processes)
        ]
        for child in self.children:
            if child.stdout.readline().strip() != "ready":
                raise SystemExit(f"PyTorch with {allocator} did not start")

    def rate(self, steps):
        for child in self.children:
            child.stdin.write(f"{steps}\n")
            child.stdin.flush()
        return sum(self.batch / json.loads(child.stdout.readline()) for child in self.children)

    def cpu(self):
        """Processor seconds of the processes so far."""
        ticks = 0
        for child in self.children:
            fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Largest resident memory of a process so far, in MiB."""
        def peak(child):
            status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
            return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
        return max(peak(child) for child in self.children)

    def close(self):
        for child in self.children:
            child.stdin.close()
            child.wait()


class Ours:
    """`ablate bench train`, one or more at once."""

    def __init__(self, program, model, threads, processes, extra):
        _, arch, side, batch, _ = MODELS[model]
        self.command = [program, "bench", "train", "--arch", arch, "--resolution", str(side), "--batch", str(batch),
                        "--classes", str(CLASSES), "--drop-path", str(DROP_PATH), "--threads", str(threads),
                        "--optimizer", "adamw", "--format", "json", *extra]
        self.processes, self.last = processes, []

    def rate(self, steps):
        environment = {**os.environ, "MIMALLOC_PURGE_DELAY": "-1"}
        children = [
            subprocess.Popen(pinned(index, self.processes) + self.command + ["--steps", str(steps)],
                             stdout=subprocess.PIPE, text=True, env=environment)
            for index in range(self.processes)
        ]
        self.last = [json.loads(child.communicate()[0]) for child in children]
        return sum(figures["images_per_second"] for figures in self.last)


def pinned(index, processes):
    """Workers beside each other get a core each, on both sides."""
    return [] if processes == 1 else ["taskset", "-c", str(index)]


def best_allocator(model, seconds):
    """The allocator that helps PyTorch most on this model, in one thread."""
    sides = {name: Torch(model, 1, 1, name) for name in usable()}
    steps = steps_for(sides["default"], seconds / 2)
    rates = {name: statistics.median(r) for name, r in zip(sides, zip(*[[s.rate(steps) for s in sides.values()] for _ in range(3)]))}
    for side in sides.values():
        side.close()
    print("PyTorch's allocators, one thread, images/s: " + ", ".join(f"{n} {r:.1f}" for n, r in rates.items()), flush=True)
    del rates["default"]
    return max(rates, key=rates.get)


def usable():
    """Allocators that are installed here."""
    return [name for name, env in ALLOCATORS.items() if os.path.exists(env.get("LD_PRELOAD", "/"))]


def steps_for(side, seconds):
    return max(3, round(seconds * side.rate(3) / (side.batch * len(side.children))))


def busy():
    """Processor seconds of the whole machine so far, without what the hypervisor took."""
    fields = [int(f) for f in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) / os.sysconf("SC_CLK_TCK")


def quiet_rounds(options, sides, steps):
    """Rounds in which others took little of the machine; at most twice as many are tried."""
    def own():
        times = os.times()
        return times.children_user + times.children_system + times.user + times.system + sum(
            side.cpu() for side in sides if isinstance(side, Torch))

    rounds, foreign = [], []
    for _ in range(2 * options.rounds):
        clock, before = time.perf_counter(), busy() - own()
        rates = tuple(side.rate(steps) for side in sides)
        share = (busy() - own() - before) / (time.perf_counter() - clock)
        if share < options.foreign:
            rounds.append(rates)
            foreign.append(share)
        else:
            print(f"  a round dropped: others used {share:.2f} cores; {rates}", flush=True)
        if len(rounds) == options.rounds:
            break
    if not rounds:
        raise SystemExit("the machine was busy all the time")
    return rounds, max(foreign)


def compare(options, model, setting, allocator):
    threads, processes = SETTINGS[setting]
    ours = Ours(options.ablate, model, threads, processes, options.extra)
    plain = Torch(model, threads, processes, "default")
    tuned = Torch(model, threads, processes, allocator)
    steps = steps_for(plain, options.seconds)
    rounds, foreign = quiet_rounds(options, (ours, plain, tuned), steps)
    row = dict(
        model=model, setting=setting, allocator=allocator, steps=steps, rounds=rounds,
        ours=statistics.median(r[0] for r in rounds),
        plain=statistics.median(r[1] for r in rounds), tuned=statistics.median(r[2] for r in rounds),
        ratio_plain=statistics.median(r[0] / r[1] for r in rounds),
        ratio_tuned=statistics.median(r[0] / r[2] for r in rounds),
        low=min(r[0] / r[1] for r in rounds), high=max(r[0] / r[1] for r in rounds),
        share=ours.last[0]["flops_per_second"] / ours.last[0]["peak_flops_per_second"],
        memory=(ours.last[0]["peak_rss_bytes"] / 2**20, plain.memory(), tuned.memory()),
        foreign=foreign,
    )
    plain.close()
    tuned.close()
    return row


def table(rows):
    print("| model | setting | ablate | PyTorch | PyTorch, tuned | ratio (range) | ratio to tuned | allocator | memory MiB: ablate / PyTorch / tuned | of peak | others' cores |")
    print("|" + "---|" * 11)
    for r in rows:
        print(f"| {MODELS[r['model']][0]} | {r['setting']} | {r['ours']:.1f} | {r['plain']:.1f} | {r['tuned']:.1f} "
              f"| **{r['ratio_plain']:.2f}** ({r['low']:.2f}-{r['high']:.2f}) | **{r['ratio_tuned']:.2f}** | {r['allocator']} "
              f"| {r['memory'][0]:.0f} / {r['memory'][1]:.0f} / {r['memory'][2]:.0f} "
              f"| {r['share']:.0%} | {r['foreign']:.2f} |")


def machine():
    lines = subprocess.run(["lscpu"], capture_output=True, text=True).stdout.splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {k.strip(): v.strip() for k, v in facts.items()}
    simd = [flag for flag in ("avx2", "fma", "avx512f") if flag in facts.get("Flags", "").split()]
    return f"{facts.get('Model name')} (family {facts.get('CPU family')}), {os.cpu_count()} cores, {' '.join(simd)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ablate", default="target/release/ablate")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--setting", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one side in one round")
    parser.add_argument("--foreign", type=float, default=0.1, help="cores that others may use in a round")
    parser.add_argument("--torch-allocator", default="best", choices=["best", *ALLOCATORS])
    parser.add_argument("--extra", nargs="*", default=[], help="more arguments of `ablate bench train`")
    parser.add_argument("--json", help="append the rows to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(json.loads(options.worker))
    from importlib.metadata import version

    print(f"{datetime.date.today()}, {machine()}, {platform.system()} {platform.release()}; "
          f"load before {os.getloadavg()[0]:.2f}; torch {version('torch')}, timm {version('timm')}, "
          f"{subprocess.run([options.ablate, '--version'], capture_output=True, text=True).stdout.strip()}; up to "
          f"{options.rounds} rounds", flush=True)
    rows = []
    for model in options.model:
        allocator = options.torch_allocator
        if allocator == "best":
            allocator = best_allocator(model, options.seconds)
        for setting in options.setting:
            rows.append(compare(options, model, setting, allocator))
            if options.json:
                with open(options.json, "a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
