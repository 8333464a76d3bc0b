"""`quantization_config` of a checkpoint's `config.json`, read into one small value. No torch here.

Two families are in use for Laguna: compressed-tensors (LLM Compressor's; FP8, INT4, INT8 and NVFP4, different groups
for different layers) and the older "fp8" (DeepSeek-V3's: blocks of 128 x 128 with `weight_scale_inv`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..fields import ConfigError, Fields, is_integer, shown

ALL = 0
"""As a block's number of rows or columns: every one."""

Kind = Literal["fp8", "int", "nvfp4"]
CLASS = "Linear"
FORMATS = ("pack-quantized", "float-quantized", "int-quantized", "naive-quantized", "nvfp4-pack-quantized")
MOST_GROUPS = 1024


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one matrix is stored: `bits` an element, and the (rows, columns) that share a scale."""

    kind: Kind
    bits: int
    block: tuple[int, int]

    def __str__(self) -> str:
        rows, columns = self.block
        shared = {(ALL, ALL): "one scale a tensor", (1, ALL): "one scale a row"}.get(self.block)
        shared = shared or (f"groups of {columns}" if rows == 1 else f"blocks of {rows} x {columns}")
        name = f"INT{self.bits}" if self.kind == "int" else self.kind.upper()
        return f"{name}, {shared}"


@dataclass(frozen=True, slots=True)
class Quantization:
    """What a checkpoint's configuration says of its number formats.

    `groups` are (targets, scheme), in the file's order; a target is a module's name, `re:` and a pattern that its name
    begins with, or its class. `kept` are the targets left alone. `cache_fp8`: it declares scales for an FP8 cache.
    """

    method: str
    groups: tuple[tuple[tuple[str, ...], Scheme], ...]
    kept: tuple[str, ...]
    cache_fp8: bool

    def scheme_of(self, module: str) -> Scheme | None:
        """The scheme of a matrix by its module's name, None where it is left alone.

        A name beats a pattern, a pattern the class, as in compressed-tensors.
        """
        if any(matches(target, module) for target in self.kept):
            return None
        for rank in (by_name, by_pattern, by_class):
            for targets, scheme in self.groups:
                if any(rank(target, module) for target in targets):
                    return scheme
        return None

    def __str__(self) -> str:
        found = list(dict.fromkeys(str(scheme) for _, scheme in self.groups))
        return f"{self.method}: {'; '.join(found)}"


def by_name(target: str, module: str) -> bool:
    return target == module


def by_pattern(target: str, module: str) -> bool:
    return target.startswith("re:") and re.match(target[3:], module) is not None


def by_class(target: str, module: str) -> bool:
    return target == CLASS


def matches(target: str, module: str) -> bool:
    return by_name(target, module) or by_pattern(target, module)


def read_quantization(raw: Mapping[str, Any]) -> Quantization | None:
    """The quantisation that a raw `config.json` declares, None for a plain one. Raises ConfigError by field."""
    top = Fields(raw)
    fields = top.mapping("quantization_config") or top.mapping("compression_config")
    if fields is None or not fields.raw:
        return None
    method = fields.get("quant_method", "compressed-tensors" if fields.has("config_groups") else None)
    if method == "compressed-tensors":
        return compressed_tensors(fields)
    if method == "fp8":
        return block_fp8(fields)
    known = "'compressed-tensors' and 'fp8'"
    raise ConfigError(f"{fields.path}quant_method is {shown(method)}; known are {known}")


def block_fp8(fields: Fields) -> Quantization:
    """DeepSeek-V3's layout: every linear layer but `modules_to_not_convert`, each of which is the start of a name."""
    size = fields.items("weight_block_size") or [128, 128]
    if len(size) != 2 or not all(is_integer(side, 1) for side in size):
        raise ConfigError(f"{fields.path}weight_block_size is {shown(size)}, not two positive numbers")
    kept = texts(fields, "modules_to_not_convert")
    starts = tuple(f"re:(.*\\.)?{re.escape(name)}(\\.|$)" for name in kept)
    return Quantization("fp8", (((CLASS,), Scheme("fp8", 8, (size[0], size[1]))),), starts, False)


def compressed_tensors(fields: Fields) -> Quantization:
    layout = fields.get("format")
    if layout not in (None, "mixed-precision", *FORMATS):
        raise ConfigError(f"{fields.path}format is {shown(layout)}; known are {', '.join(FORMATS)}")
    refuse_what_changes_the_forward_pass(fields)
    named = fields.mapping("config_groups")
    if named is None or not 0 < len(named.raw) <= MOST_GROUPS:
        raise ConfigError(f"{fields.path}config_groups names no groups")
    groups = tuple(group(named, name) for name in named.raw)
    kept = texts(fields, "ignore")
    for target in (*kept, *(target for targets, _ in groups for target in targets)):
        check_pattern(target, fields.path)
    return Quantization("compressed-tensors", groups, kept, cache_scheme(fields))


def refuse_what_changes_the_forward_pass(fields: Fields) -> None:
    """Rotations that were folded into the weights are none of our business; those made at run time would be."""
    sparsity = fields.mapping("sparsity_config")
    if sparsity and sparsity.get("format", "dense") != "dense":
        raise ConfigError(f"{sparsity.path}format is {shown(sparsity.get('format'))}; only 'dense' is supported")
    transforms = fields.mapping("transform_config")
    schemes = transforms.mapping("config_groups") if transforms else None
    for name in schemes.raw if schemes else ():
        scheme = schemes.mapping(name) if schemes else None
        for item in scheme.items("apply") if scheme else []:
            where = item.get("location") if isinstance(item, Mapping) else None
            if where not in ("weight_input", "weight_output"):
                raise ConfigError(
                    f"{fields.path}transform_config applies at {shown(where)}; only weights' are supported"
                )


def group(groups: Fields, name: str) -> tuple[tuple[str, ...], Scheme]:
    fields = groups.mapping(name) or Fields({}, f"{groups.path}{name}.")
    targets = texts(fields, "targets")
    if not targets:
        raise ConfigError(f"{fields.path}targets is empty")
    weights = fields.mapping("weights")
    if weights is None:
        raise ConfigError(f"{fields.path}weights is missing: activations alone cannot be quantised")
    return targets, scheme(weights)


def scheme(weights: Fields) -> Scheme:
    """One group's `weights` as a scheme."""
    bits, number = weights.integer("num_bits"), weights.text("type", "int")
    if (number, bits) not in (("float", 8), ("float", 4), ("int", 4), ("int", 8)):
        raise ConfigError(
            f"{weights.path}num_bits is {bits} of type {shown(number)}; known are int 4, 8 and float 4, 8"
        )
    if weights.get("symmetric", True) is not True:
        raise ConfigError(
            f"{weights.path}symmetric is {shown(weights.get('symmetric'))}; zero points are not supported"
        )
    if weights.get("actorder") in ("group", True):
        raise ConfigError(f"{weights.path}actorder is {shown(weights.get('actorder'))}; columns must be in order")
    strategy = weights.text("strategy", "group" if weights.has("group_size") else "tensor")
    size = weights.integer("group_size", 16 if strategy == "tensor_group" else 0, least=-1)
    if number == "float" and bits == 4:
        if strategy != "tensor_group" or size != 16:
            raise ConfigError(
                f"{weights.path}strategy is {shown(strategy)} of {size}; 4-bit floats are NVFP4, groups of 16"
            )
        return Scheme("nvfp4", 4, (1, size))
    kind: Kind = "fp8" if number == "float" else "int"
    if strategy == "block":
        sides = weights.items("block_structure")
        if len(sides) != 2 or not all(is_integer(side, 1) for side in sides):
            raise ConfigError(f"{weights.path}block_structure is {shown(sides)}, not two positive numbers")
        return Scheme(kind, bits, (sides[0], sides[1]))
    if strategy == "group":
        if size < 1:
            raise ConfigError(f"{weights.path}group_size is {size}, not a positive number")
        return Scheme(kind, bits, (1, size))
    if strategy not in ("channel", "tensor"):
        raise ConfigError(f"{weights.path}strategy is {shown(strategy)}; known are block, group, channel and tensor")
    return Scheme(kind, bits, (1 if strategy == "channel" else ALL, ALL))


def cache_scheme(fields: Fields) -> bool:
    """Whether there is a scheme for the cache: eight-bit floats with one static scale a tensor, or none."""
    cache = fields.mapping("kv_cache_scheme")
    if cache is None:
        return False
    found = (cache.get("num_bits"), cache.get("type"), cache.get("strategy", "tensor"), cache.get("dynamic", False))
    if found != (8, "float", "tensor", False):
        raise ConfigError(f"{cache.path}* is {shown(found)}; known is an 8-bit float, one static scale a tensor")
    return True


def texts(fields: Fields, name: str) -> tuple[str, ...]:
    values = fields.items(name)
    for value in values:
        if not isinstance(value, str):
            raise ConfigError(f"{fields.path}{name} has {shown(value)}, not a text")
    return tuple(values)


def check_pattern(target: str, path: str) -> None:
    if target.startswith("re:"):
        try:
            re.compile(target[3:])
        except re.error as error:
            raise ConfigError(f"{path}: {shown(target)} is no regular expression: {error}") from error
