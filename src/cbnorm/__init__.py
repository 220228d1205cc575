"""Cluster-based normalization: layers, and the reproduction of arXiv 2403.16798v2.

Importing the package imports nothing else, so that the command line answers at once;
``cbnorm.norms`` and ``cbnorm.mixtures`` need torch alone.
"""

__version__ = "0.1.0"
