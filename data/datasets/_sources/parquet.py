"""Parquet, in small batches through pyarrow (extra `data`). The class names that Hugging Face keeps in a file's metadata replace
the numbers of its label columns. Columns of bytes (images, sound) are left out. Not covered: folders of partitions.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from data.datasets._sources.base import LARGEST_RECORD_BYTES, Broken, Record, too_large
from data.datasets._sources.shapes import Shaper
from data.errors import InputError
from data.sanitise import one_line

BATCH_ROWS = 256
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Rows of a Parquet file, as dicts by column. labelled: a file without a label column is an error."""

    shaper: Shaper
    labelled: bool = False

    def records(self, file: BinaryIO, name: str) -> Iterator[Record | Broken]:
        """Every row in order. Raises InputError where the file is damaged or no Parquet, or its columns are wrong."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise InputError("reading Parquet needs pyarrow", "install the extra: pip install 'pointsman[data]'") from error
        try:
            table = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            schema = table.schema_arrow
            columns = [
                column.name for column in schema if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type))
            ]
            self.shaper.require(name, columns, self.labelled)
            names = _class_names(schema.metadata or {})
            number = 0
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                yield from _rows(batch, number, names)
                number += batch.num_rows
        except (pa.ArrowException, OSError, EOFError) as error:
            raise InputError(f"{name} is no sound Parquet file: {one_line(str(error), 160)}", "check that it is whole") from error


def _rows(batch: Any, before: int, names: Mapping[str, list[str]]) -> Iterator[Record | Broken]:
    for place in range(batch.num_rows):
        number = before + place + 1
        try:
            row = batch.slice(place, 1).to_pylist()[0]
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            yield Broken(number, f"cannot be read: {one_line(str(error), 100)}")
            continue
        size = sum(len(value) for value in row.values() if isinstance(value, str))
        if size > LARGEST_RECORD_BYTES:
            yield Broken(number, too_large(size))
        else:
            yield Record(number, {key: _named(value, names.get(key)) for key, value in row.items()})


def _named(value: Any, names: list[str] | None) -> Any:
    if names is None or not isinstance(value, int) or not 0 <= value < len(names):
        return value
    return names[value]


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of ClassLabel columns (https://huggingface.co/docs/datasets/about_dataset_features), where they are told."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {
            str(column): [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
        }
    except (ValueError, AttributeError, RecursionError):
        return {}
