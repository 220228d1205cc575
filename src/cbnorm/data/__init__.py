"""Data sets: fetched and verified, split, and handed out as batches that live on the device.

Import from the modules: :mod:`~cbnorm.data.catalog` (what exists; imports no torch),
:mod:`~cbnorm.data.sources` (fetch and verify), :mod:`~cbnorm.data.images` (splits),
:mod:`~cbnorm.data.augment`, :mod:`~cbnorm.data.batches` and :mod:`~cbnorm.data.streams`.
"""
