"""
Layers: compression and encryption of whatever a storage type keeps.

``storage`` has the class that stands before a type, ``zstd`` and ``age`` are the layers, ``keys``
makes keys. Importing this package imports none of them: only ``settings`` is for every storage.
"""
