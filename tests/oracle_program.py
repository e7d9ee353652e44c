"""llama.cpp's own converter over many checkpoints in one process, since importing torch and transformers takes most of its time.

Arguments: the converter's folder, then checkpoint, target and output type of each. The name of the pre-tokenizer is taken from
POINTSMAN_TEST_PRE, since the converter knows vocabularies by a hash of published ones.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Convert them all; the first failure ends the process."""
    folder, *rest = sys.argv[1:]
    sys.path.insert(0, folder)
    import convert_hf_to_gguf as converter

    pre = os.environ.get("POINTSMAN_TEST_PRE")
    if pre:
        converter.ModelBase.get_vocab_base_pre = lambda self, tokenizer: pre
        from conversion.base import TextModel

        TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    for checkpoint, target, form in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        sys.argv = ["convert", checkpoint, "--outfile", target, "--outtype", form, "--model-name", Path(checkpoint).name]
        converter.main()


if __name__ == "__main__":
    main()
