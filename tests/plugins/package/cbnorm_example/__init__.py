"""A norm, a norm with clusters, a model, a data set and an experiment for cbnorm."""
