"""The parts of export.merge that need no PyTorch: the checkpoint and the adapter on disk, checked, and the merged files."""
