"""Cluster-based normalization layers; torch is the only import.

>>> import torch
>>> from cbnorm.norms import create_norm
>>> layer = create_norm("ucb", 64, num_components=3)
>>> layer(torch.randn(8, 64, 4, 4)).shape
torch.Size([8, 64, 4, 4])
"""

from cbnorm.norms.batch import BatchNorm
from cbnorm.norms.conditional import ClusterBatchNorm, ConditionalBatchNorm
from cbnorm.norms.context import cluster_ids
from cbnorm.norms.convert import convert_norm
from cbnorm.norms.mn import MixtureNorm
from cbnorm.norms.mode import ModeNorm
from cbnorm.norms.registry import NORMS, apply_norm, create_norm, takes_clusters
from cbnorm.norms.scb import SCBNorm
from cbnorm.norms.scb_base import SCBNormBase
from cbnorm.norms.ucb import UCBNorm

__all__ = [
    "NORMS",
    "BatchNorm",
    "ClusterBatchNorm",
    "ConditionalBatchNorm",
    "MixtureNorm",
    "ModeNorm",
    "SCBNorm",
    "SCBNormBase",
    "UCBNorm",
    "apply_norm",
    "cluster_ids",
    "convert_norm",
    "create_norm",
    "takes_clusters",
]
