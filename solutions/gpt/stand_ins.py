"""What may stand in for a task that a student got wrong, when those that build on it are graded.

These enter the sandbox, so they are made of PyTorch's own operations and show nothing of the reference solution.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class LayerNorm(nn.LayerNorm):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__(d, eps=eps, bias=bias)


def gelu(x):
    return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    def __init__(self, d_model, dropout=0.0, bias=True):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(d_model, 4 * d_model, bias=bias), nn.Linear(4 * d_model, d_model, bias=bias)
        self.after = nn.Dropout(dropout)

    def forward(self, x):
        return self.after(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model, bias=config.bias)
        self.attn = CausalSelfAttention(config.d_model, config.n_head, config.dropout, config.bias)
        self.ln_2 = nn.LayerNorm(config.d_model, bias=config.bias)
        self.mlp = nn.Module()
        self.mlp.c_fc = nn.Linear(config.d_model, 4 * config.d_model, bias=config.bias)
        self.mlp.c_proj = nn.Linear(4 * config.d_model, config.d_model, bias=config.bias)
        self.after = nn.Dropout(config.dropout)

    def forward(self, x):
        y = torch.add(x, self.attn(self.ln_1(x)))
        z = self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(y)), approximate="tanh"))
        return torch.add(y, self.after(z))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, wide = config, config.d_model
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(config.vocab_size, wide), "wpe": nn.Embedding(config.block_size, wide),
            "drop": nn.Dropout(config.dropout), "h": nn.ModuleList(),
            "ln_f": nn.LayerNorm(wide, bias=config.bias),
        })
        for _ in range(config.n_layer):
            part = nn.ModuleDict({
                "ln_1": nn.LayerNorm(wide, bias=config.bias),
                "attn": CausalSelfAttention(wide, config.n_head, config.dropout, config.bias),
                "ln_2": nn.LayerNorm(wide, bias=config.bias),
                "mlp": nn.ModuleDict({
                    "c_fc": nn.Linear(wide, 4 * wide, bias=config.bias),
                    "c_proj": nn.Linear(4 * wide, wide, bias=config.bias),
                }),
            })
            self.transformer["h"].append(part)
        self.lm_head = nn.Linear(wide, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        deep = 0.02 / math.sqrt(2 * config.n_layer)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=deep if name.endswith("c_proj.weight") else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids, targets=None):
        parts = self.transformer
        if ids.shape[1] > self.config.block_size:
            raise ValueError(f"{ids.shape[1]} is more than {self.config.block_size}")
        x = parts["drop"](parts["wte"](ids) + parts["wpe"].weight[: ids.shape[1]])
        for part in parts["h"]:
            x = x + part["attn"](part["ln_1"](x))
            z = part["mlp"]["c_proj"](F.gelu(part["mlp"]["c_fc"](part["ln_2"](x)), approximate="tanh"))
            x = x + F.dropout(z, self.config.dropout, self.training)
        logits = F.linear(parts["ln_f"](x), self.lm_head.weight)
        loss = None if targets is None else F.cross_entropy(logits.mT, targets)
        return logits, loss
