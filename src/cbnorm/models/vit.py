"""The vision transformer of Table VII: the Keras example for CIFAR-100 that the paper builds on."""

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.models.dropout import Dropout, attention, dropout
from cbnorm.models.init import glorot_uniform
from cbnorm.models.places import NormFactory, Places
from cbnorm.norms import apply_norm, takes_clusters

SIZE, PATCH = 72, 6
TOKENS, WIDTH = (SIZE // PATCH) ** 2, 64
HEADS, HEAD_WIDTH = 4, 64
BLOCKS, BLOCK_DROPOUT = 8, 0.1
HEAD_DROPOUT = 0.5


class ViT(nn.Module):
    """144 patches of 6x6, eight blocks of attention and MLP, and a head that sees all tokens flattened.

    In the authors' code the norm layer works on the 32x32 image ahead of augmentation, which comes after
    resizing to 72x72. Here images arrive augmented: the model puts the norm first, then resizes. A learned
    map of each channel (SCB-Norm with known ids) commutes with both; batch statistics move slightly.

    Every head is 64 wide, so that attention works in 256 dimensions between projections from and to 64. Both
    layers of an MLP have GELU and dropout, its second too. Weights start as in Keras: Glorot-uniform with
    zero bias, fans counted over the whole (64, 4, 64) kernel of a projection, positions within ±0.05.

    Args:
        num_classes: Number of logits.
        norm: Makes the layer at the places in `placement`, given the number of channels.
        placement: 0 is the image, where the paper puts the norm under study (its BN row has batch
            normalization there); 1 to 17 are the layer normalizations in the order of the forward pass.
        ln_eps: Of the layers that stay layer normalization.
        image_size: Not used: images of any size are resized to 72x72.

    Shapes:
        images ``(N, 3, H, W)``; clusters ``(N,)`` int64 or None; logits ``(N, num_classes)``.

    Raises:
        ValueError: No such place.

    Example:
        >>> sum(p.numel() for p in ViT(100, nn.BatchNorm2d, placement=[]).parameters())
        21759012
    """

    def __init__(
        self,
        num_classes: int,
        norm: NormFactory,
        placement: Collection[int] = (0,),
        *,
        ln_eps: float = 1e-6,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        places = Places(norm, placement, lambda width: nn.LayerNorm(width, ln_eps))
        self.image_norm = places.image()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        # A linear layer on the 108 values of a patch, which is how Keras counts its fans.
        nn.init.xavier_uniform_(self.patches.weight.view(WIDTH, -1))
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]
        self.positions = nn.Parameter(torch.empty(TOKENS, WIDTH).uniform_(-0.05, 0.05))
        self.blocks = nn.ModuleList(Block(_token_norm(places), _token_norm(places)) for _ in range(BLOCKS))
        self.norm = _token_norm(places)
        self.head = mlp(TOKENS * WIDTH, (2048, 1024), HEAD_DROPOUT)
        self.linear = glorot_uniform(nn.Linear(1024, num_classes))
        places.check()

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Logits of a batch of images; `clusters` reaches the layers that take ids."""
        logits: Tensor = self.linear(self.features(images, clusters))
        return logits

    def features(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """What the linear layer sees: (N, 1024), the features of Fig. 14."""
        x = apply_norm(self.image_norm, images, clusters)
        x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False)
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x, clusters)
        x = apply_norm(self.norm, x, clusters).flatten(1)
        features: Tensor = self.head(dropout(x, HEAD_DROPOUT, self.training))
        return features


class Block(nn.Module):
    """Attention, then an MLP, each behind a norm and with a residual connection."""

    def __init__(self, attention_norm: nn.Module, mlp_norm: nn.Module) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, Attention()
        self.mlp_norm, self.mlp = mlp_norm, mlp(WIDTH, (2 * WIDTH, WIDTH), BLOCK_DROPOUT)

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Tokens ``(N, 144, 64)`` to the same shape."""
        x = x + self.attention(apply_norm(self.attention_norm, x, clusters))
        output: Tensor = x + self.mlp(apply_norm(self.mlp_norm, x, clusters))
        return output


class Attention(nn.Module):
    """Self-attention with four heads of 64; dropout acts on the attention weights."""

    def __init__(self) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.project = nn.Linear(WIDTH, 3 * inner)
        self.out = nn.Linear(inner, WIDTH)
        # Keras takes the fans of (64, 4, 64) kernels as 4·64 and 64·64, of (4, 64, 64) as 4·64 twice.
        for layer, fans in ((self.project, 256 + 4096), (self.out, 256 + 256)):
            bound = math.sqrt(6 / fans)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(N, T, 64)`` to the same shape."""
        queries, keys, values = (
            self.project(x).unflatten(-1, (3, HEADS, HEAD_WIDTH)).permute(2, 0, 3, 1, 4).unbind()
        )
        mixed = attention(queries, keys, values, BLOCK_DROPOUT if self.training else 0.0)
        output: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return output


class OverTokens(nn.Module):
    """Calls a layer for ``(N, C, T)`` with tokens ``(N, T, C)``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.takes_clusters = layer, takes_clusters(layer)

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Tokens in, tokens out."""
        return apply_norm(self.layer, x.transpose(1, 2), clusters).transpose(1, 2)


def _token_norm(places: Places) -> nn.Module:
    layer = places.next(WIDTH)
    return layer if isinstance(layer, nn.LayerNorm | nn.Identity) else OverTokens(layer)


def mlp(width: int, widths: Collection[int], dropped: float) -> nn.Sequential:
    """Linear layers, each with GELU and dropout."""
    layers: list[nn.Module] = []
    for after in widths:
        layers += [glorot_uniform(nn.Linear(width, after)), nn.GELU(), Dropout(dropped)]
        width = after
    return nn.Sequential(*layers)
