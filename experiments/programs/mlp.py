"""A small network trained with hand-written SGD, for `ablate`: the Python standard library only.

Two spirals, which no straight line separates, made from a seed; one hidden layer; momentum and weight decay. It shows
the whole contract of docs/commands.md in one page: arguments, seed, reports, checkpoints, SIGTERM, results.
"""

import argparse
import json
import math
import os
import random
import signal
import sys

stop = False


def on_term(_signal, _frame):
    global stop
    stop = True


def report(**event):
    """Appends a report; one write, so that lines are whole."""
    with open(os.environ["ABLATE_EVENTS"], "a", encoding="utf-8") as events:
        events.write(json.dumps(event) + "\n")


def replace(path, text):
    """Puts a file in its place as a whole, on the disk."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def spirals(count, turns, noise, rng):
    points = []
    for index in range(count):
        label = index % 2
        radius = 0.1 + 0.9 * (index // 2) / (count // 2)
        angle = radius * turns * 2 * math.pi + label * math.pi
        x = radius * math.cos(angle) + rng.gauss(0, noise)
        y = radius * math.sin(angle) + rng.gauss(0, noise)
        points.append(((x, y), label))
    return points


def forward(model, point):
    hidden = [math.tanh(w[0] * point[0] + w[1] * point[1] + b) for w, b in zip(model["w1"], model["b1"])]
    logit = sum(w * h for w, h in zip(model["w2"], hidden)) + model["b2"]
    return hidden, logit


def loss_of(logit, label):
    # Binary cross-entropy that doesn't overflow.
    return max(logit, 0) - logit * label + math.log1p(math.exp(-abs(logit)))


def flat(model):
    return [*sum(model["w1"], []), *model["b1"], *model["w2"], model["b2"]]


def shaped(values, width):
    return {
        "w1": [[values[2 * i], values[2 * i + 1]] for i in range(width)],
        "b1": values[2 * width:3 * width],
        "w2": values[3 * width:4 * width],
        "b2": values[4 * width],
    }


def gradient(model, batch):
    width = len(model["b1"])
    total, sums = 0.0, [0.0] * (4 * width + 1)
    for point, label in batch:
        hidden, logit = forward(model, point)
        total += loss_of(logit, label)
        error = 1 / (1 + math.exp(-logit)) - label if logit > -500 else -label
        for i, h in enumerate(hidden):
            inner = error * model["w2"][i] * (1 - h * h)
            sums[2 * i] += inner * point[0]
            sums[2 * i + 1] += inner * point[1]
            sums[2 * width + i] += inner
            sums[3 * width + i] += error * h
        sums[4 * width] += error
    return total / len(batch), [value / len(batch) for value in sums]


def evaluate(model, points):
    right, loss = 0, 0.0
    for point, label in points:
        _, logit = forward(model, point)
        right += (logit > 0) == (label == 1)
        loss += loss_of(logit, label)
    return {"accuracy": 100 * right / len(points), "loss": loss / len(points)}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--lr", type=float, required=True)
    arguments.add_argument("--momentum", type=float, required=True)
    arguments.add_argument("--width", type=int, required=True)
    arguments.add_argument("--epochs", type=int, required=True)
    arguments.add_argument("--batch", type=int, required=True)
    args = arguments.parse_args()
    signal.signal(signal.SIGTERM, on_term)
    seed = int(os.environ["ABLATE_SEED"])
    checkpoint = os.path.join(os.environ["ABLATE_RUN_DIR"], "checkpoint.json")

    train = spirals(400, 1.25, 0.02, random.Random("train"))
    val = spirals(400, 1.25, 0.02, random.Random("val"))
    per_epoch = len(train) // args.batch
    rng = random.Random(f"init {seed}")
    values = [rng.gauss(0, 1.5) for _ in range(3 * args.width)]
    values += [rng.gauss(0, 1 / math.sqrt(args.width)) for _ in range(args.width)] + [0.0]
    velocity, first, total = [0.0] * len(values), 0, 0.0
    if os.path.exists(checkpoint):
        with open(checkpoint, encoding="utf-8") as file:
            state = json.load(file)
        values, velocity, first, total = state["values"], state["velocity"], state["step"], state["total"]
    report(kind="started", resumed_step=first, total_steps=args.epochs * per_epoch)

    for step in range(first, args.epochs * per_epoch):
        epoch, at = divmod(step, per_epoch)
        # The order of an epoch is drawn anew from its number, so a resumed run sees the same.
        order = list(range(len(train)))
        random.Random(f"order {seed} {epoch}").shuffle(order)
        batch = [train[index] for index in order[at * args.batch:(at + 1) * args.batch]]
        loss, slope = gradient(shaped(values, args.width), batch)
        total += loss
        velocity = [args.momentum * v + g for v, g in zip(velocity, slope)]
        values = [w - args.lr * v for w, v in zip(values, velocity)]
        if not math.isfinite(loss):
            report(kind="failed", **{"class": "diverged"}, message=f"loss is {loss} in step {step + 1}")
            sys.exit(1)
        if at + 1 == per_epoch:
            report(kind="epoch", epoch=epoch, step=step + 1, train_loss=total / per_epoch, lr=args.lr)
            total = 0.0
            if (epoch + 1) % 10 == 0 or epoch + 1 == args.epochs:
                metrics = evaluate(shaped(values, args.width), val)
                report(kind="evaluated", epoch=epoch, step=step + 1, metrics=metrics)
        if at + 1 == per_epoch or stop:
            state = {"values": values, "velocity": velocity, "step": step + 1, "total": total}
            replace(checkpoint, json.dumps(state))
            report(kind="checkpointed", step=step + 1, file="checkpoint.json")
        if stop:
            sys.exit(143)

    metrics = evaluate(shaped(values, args.width), val)
    replace(os.path.join(os.environ["ABLATE_RUN_DIR"], "model.json"), json.dumps(shaped(values, args.width)))
    replace(os.path.join(os.environ["ABLATE_RUN_DIR"], "metrics.json"), json.dumps(metrics))
    print(f"accuracy {metrics['accuracy']:.1f} %")


if __name__ == "__main__":
    main()
