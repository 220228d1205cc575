import cbnorm._torchvision  # noqa: F401  (before torchvision, lightning and torchmetrics)
