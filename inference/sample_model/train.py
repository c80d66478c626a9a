"""Trains the sample model from nothing: `python -m inference.sample_model.train`.

20 to 40 minutes on two CPU cores. Needs PyTorch (requirements-train.txt). Tokenizer, data and weights follow from
SEED; the finished file is written by `export` and judged by `evaluate`, which needs no PyTorch.
Muon: Jordan et al. 2024 (momentum orthogonalised by a quintic Newton-Schulz iteration)."""

import argparse
import json
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from inference.sample_model import corpus, export
from inference.sample_model.evaluate import evaluate

SEED = 20261124
N_STEPS = 3600
MAX_TOKENS = 2048  # padded tokens a step
DIM, N_LAYERS, N_HEADS, N_KV_HEADS, FFN, CONTEXT, VOCAB = 256, 6, 4, 2, 512, 512, 1001
HEAD = DIM // N_HEADS
ROPE_BASE, EPSILON = 10_000.0, 1e-5


def train_tokenizer(random_: random.Random) -> Tokenizer:
    """Byte-level BPE of at most VOCAB tokens, trained on the text of 20,000 examples."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(corpus.SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    examples = (corpus.draw(random_, random_.randint(1, 4), unseen=False) for _ in range(20_000))
    texts = (text for example in examples for text in (example.prompt, example.answer))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn_norm = nn.Parameter(torch.ones(DIM))
        self.ffn_norm = nn.Parameter(torch.ones(DIM))
        self.attn_q = matrix(DIM, DIM)
        self.attn_k = matrix(N_KV_HEADS * HEAD, DIM)
        self.attn_v = matrix(N_KV_HEADS * HEAD, DIM)
        self.attn_output = matrix(DIM, DIM, 1 / math.sqrt(2 * N_LAYERS))
        self.ffn_gate = matrix(FFN, DIM)
        self.ffn_up = matrix(FFN, DIM)
        self.ffn_down = matrix(DIM, FFN, 1 / math.sqrt(2 * N_LAYERS))

    def forward(self, x: Tensor, rotation: Tensor, mask: Tensor) -> Tensor:
        """x (batch, tokens, DIM) -> the same shape."""
        n, t, _ = x.shape
        h = F.rms_norm(x, (DIM,), self.attn_norm, EPSILON)
        q = rotate(F.linear(h, self.attn_q).view(n, t, N_HEADS, HEAD), rotation)
        k = rotate(F.linear(h, self.attn_k).view(n, t, N_KV_HEADS, HEAD), rotation)
        v = F.linear(h, self.attn_v).view(n, t, N_KV_HEADS, HEAD)
        repeat = N_HEADS // N_KV_HEADS
        k, v = k.repeat_interleave(repeat, 2), v.repeat_interleave(repeat, 2)
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(HEAD) + mask
        mixed = scores.float().softmax(-1).to(v.dtype) @ v.transpose(1, 2)
        x = x + F.linear(mixed.transpose(1, 2).reshape(n, t, DIM), self.attn_output)
        h = F.rms_norm(x, (DIM,), self.ffn_norm, EPSILON)
        return x + F.linear(F.silu(F.linear(h, self.ffn_gate)) * F.linear(h, self.ffn_up), self.ffn_down)


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token_embd = nn.Parameter(torch.randn(VOCAB, DIM) * 0.02)
        self.blk = nn.ModuleList(Block() for _ in range(N_LAYERS))
        self.output_norm = nn.Parameter(torch.ones(DIM))
        angles = torch.outer(
            torch.arange(CONTEXT).float(), ROPE_BASE ** (-torch.arange(0, HEAD, 2).float() / HEAD)
        )
        self.register_buffer("rotation", torch.polar(torch.ones_like(angles), angles), persistent=False)

    def forward(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """Logits (n, VOCAB) at the positions where `wanted` (batch, tokens) is true."""
        t = ids.shape[1]
        mask = torch.full((t, t), float("-inf")).triu(1)
        x = self.token_embd[ids]
        for block in self.blk:
            x = block(x, self.rotation[:t, None], mask)
        return F.linear(F.rms_norm(x[wanted], (DIM,), self.output_norm, EPSILON), self.token_embd)


def matrix(n_out: int, n_in: int, gain: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(n_out, n_in) * gain / math.sqrt(n_in))


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotary positions on interleaved pairs (2i, 2i+1), as GGUF's llama architecture wants them."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


class Muon:
    """Momentum, orthogonalised per matrix; equal shapes go through the iteration as one batch."""

    def __init__(self, matrices: list[nn.Parameter], momentum: float = 0.95) -> None:
        groups = defaultdict(list)
        for each in matrices:
            groups[each.shape].append(each)
        self.groups = list(groups.values())
        self.momentum = momentum
        self.velocity = [torch.zeros(len(group), *group[0].shape) for group in self.groups]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for group, velocity in zip(self.groups, self.velocity, strict=True):
            gradient = torch.stack([each.grad for each in group if each.grad is not None])
            velocity.mul_(self.momentum).add_(gradient)
            update = orthogonalise(gradient.add(velocity, alpha=self.momentum))
            scale = max(1.0, update.shape[-2] / update.shape[-1]) ** 0.5
            for each, change in zip(group, update, strict=True):
                each.add_(change, alpha=-rate * scale)


def orthogonalise(g: Tensor, n_steps: int = 5) -> Tensor:
    """Nearest orthogonal matrices, roughly: (n, rows, columns) -> the same."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.mT if g.shape[-2] > g.shape[-1] else g
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(n_steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    x = x.float()
    return x.mT if g.shape[-2] > g.shape[-1] else x


def n_items(random_: random.Random, done: float) -> int:
    """Length of the next list at the fraction `done` of the training: short lists first."""
    if done < 0.06:
        return 1
    if done < 0.15:
        return random_.choice((1, 2, 2))
    return random_.choice((1, 2, 3, 4, 4))


def batches(tokenizer: Tokenizer, random_: random.Random, n_steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, is_answer), each (batch, tokens) and at most MAX_TOKENS in all; examples of like length together."""
    start_of_answer = tokenizer.token_to_id("<|assistant|>")
    buckets: dict[int, list[list[int]]] = defaultdict(list)
    step = 0
    while step < n_steps:
        example = corpus.draw(random_, n_items(random_, step / n_steps), unseen=False)
        ids = tokenizer.encode(example.text).ids
        width = -(-len(ids) // 16) * 16
        bucket = buckets[width]
        bucket.append(ids)
        if (len(bucket) + 1) * width > MAX_TOKENS:
            rows = torch.zeros(len(bucket), width, dtype=torch.long)
            answer = torch.zeros(len(bucket), width, dtype=torch.bool)
            for row, each in enumerate(bucket):
                rows[row, : len(each)] = torch.tensor(each)
                answer[row, each.index(start_of_answer) + 1 : len(each)] = True
            bucket.clear()
            yield rows, answer
            step += 1


def rate_at(step: int, n_steps: int) -> float:
    """Share of the full learning rate: warm-up over 30 steps, full, then linear to 1 % over the last half."""
    return min((step + 1) / 30, 1.0, 0.01 + 0.99 * 2 * (1 - step / n_steps))


def train(n_steps: int, log_every: int = 50) -> tuple[Llama, Tokenizer]:
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(random.Random(SEED))
    model = Llama()
    hidden = [each for each in model.blk.parameters() if each.ndim == 2]
    others = [each for each in model.parameters() if each.ndim == 1 or each is model.token_embd]
    muon = Muon(hidden)
    adam = torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)
    started, losses = time.monotonic(), []
    for step, (ids, answer) in enumerate(batches(tokenizer, random.Random(SEED + 1), n_steps)):
        wanted = torch.zeros_like(answer)
        wanted[:, :-1] = answer[:, 1:]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids, wanted)
        loss = F.cross_entropy(logits.float(), ids[answer])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = rate_at(step, n_steps)
        muon.step(0.02 * rate)
        adam.param_groups[0]["lr"] = 2e-3 * rate
        adam.step()
        model.zero_grad()
        losses.append(loss.item())
        if (step + 1) % log_every == 0:
            mean = sum(losses[-log_every:]) / log_every
            seconds = time.monotonic() - started
            print(f"step {step + 1}/{n_steps}  loss {mean:.4f}  {seconds:.0f} s", flush=True)  # noqa: T201
    return model, tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=N_STEPS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("aicleaner-sample-f16.gguf"))
    arguments = parser.parse_args()
    model, tokenizer = train(arguments.steps)
    export.write_gguf(arguments.out, model.state_dict(), tokenizer)
    print(json.dumps(evaluate(arguments.out), indent=1))  # noqa: T201 - on pairs that were held out


if __name__ == "__main__":
    main()
