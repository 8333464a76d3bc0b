"""The number formats of released checkpoints: how a configuration names them, and what their bytes mean.

    scheme ─► which tensors are quantised and how (`quantization_config` as a `Quantization`)
    fp8 · packed · nvfp4 ─► bytes and scales to numbers; pure functions of tensors

Everything is dequantised tensor by tensor while loading (`weights`), so the forward pass knows no format. Scales follow
one rule, `scales.spread`: each covers a block of rows and columns, and a block at the edge may be cut short.

Sources: compressed-tensors 0.12 (pack-quantized, float-quantized, nvfp4-pack-quantized), DeepSeek-V3's FP8 layout
(`weight_scale_inv`), OCP Microscaling Formats v1.0 (e2m1, e4m3).
"""

from .scheme import Quantization, Scheme, read_quantization

__all__ = ["Quantization", "Scheme", "read_quantization"]
