"""DeiT in float, with timm's parameter names and timm's logits (``vision_transformer.py``, ``deit.py`` of timm 1.0)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.configs import DeiTConfig

NORM_EPSILON = 1e-6


class PatchEmbed(nn.Module):
    """(batch, channels, size, size) -> (batch, patches, embed_dim)."""

    def __init__(self, config: DeiTConfig):
        super().__init__()
        self.proj = nn.Conv2d(config.channels, config.embed_dim, config.patch_size, config.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, config: DeiTConfig):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, embed_dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, embed_dim // self.heads).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, embed_dim))


class Mlp(nn.Module):
    def __init__(self, config: DeiTConfig):
        super().__init__()
        hidden = config.mlp_ratio * config.embed_dim
        self.fc1, self.fc2 = nn.Linear(config.embed_dim, hidden), nn.Linear(hidden, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm encoder block."""

    def __init__(self, config: DeiTConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=NORM_EPSILON)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=NORM_EPSILON)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class DeiT(nn.Module):
    """(batch, channels, size, size) normalised images -> (batch, classes) logits; distilled: the mean of both heads, as timm does."""

    def __init__(self, config: DeiTConfig):
        super().__init__()
        self.config = config
        extra = 2 if config.distilled else 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        if config.distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (config.image_size // config.patch_size) ** 2 + extra, config.embed_dim))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.embed_dim, eps=NORM_EPSILON)
        self.head = nn.Linear(config.embed_dim, config.classes)
        if config.distilled:
            self.head_dist = nn.Linear(config.embed_dim, config.classes)
        self.apply(self._initialise)
        for token in (*self.tokens(), self.pos_embed):
            nn.init.trunc_normal_(token, std=0.02)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02 if module.in_features > 128 else module.in_features**-0.5)
            nn.init.zeros_(module.bias)

    def tokens(self) -> list[Tensor]:
        """The learned tokens before the patches, (1, 1, embed_dim) each."""
        return [self.cls_token, self.dist_token] if self.config.distilled else [self.cls_token]

    def heads(self) -> list[nn.Linear]:
        """One head for each learned token; the logits are their mean."""
        return [self.head, self.head_dist] if self.config.distilled else [self.head]

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        x = torch.cat([*(token.expand(len(x), -1, -1) for token in self.tokens()), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return torch.stack([head(x[:, token]) for token, head in enumerate(self.heads())]).mean(0)

    def normalized(self, images: Tensor) -> Tensor:
        """(batch, size, size, channels) uint8 images as ``forward`` takes them."""
        images = images.float()
        mean, std = images.new_tensor(self.config.mean), images.new_tensor(self.config.std)
        return (images / 255 - mean).div_(std).permute(0, 3, 1, 2)

    def forward_bytes(self, images: Tensor) -> Tensor:
        """Logits of (batch, size, size, channels) uint8 images."""
        return self(self.normalized(images))
