"""Runs and their exports into bundles (`packing`), and bundles into this machine (`unpacking`). The archive is `data.bundles`."""
