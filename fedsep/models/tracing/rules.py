"""What torch's operations do to the units that dimensions count."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fedsep.models.tracing.marks import Mark, reshaped, resolved, tie
from fedsep.models.tracing.tracer import Rule, Tracer, not_known, tensors_in, tie_all

_JOINS = "it concatenates units of several layers"


def elementwise(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Operands are aligned from the last dimension on, and count the same units where they have the same size."""
    shape, operands = outs[0].shape, [each for each in tensors_in((args, kwargs)) if each.dim()]
    found: list[Mark | None] = []
    for back in range(len(shape), 0, -1):
        size = shape[len(shape) - back]
        here = [each for each in operands if each.dim() >= back and each.shape[-back] == size != 1]
        found.append(_agreed(tracer, [(each, tracer.of(each)[-back]) for each in here]))
    tracer.mark(outs, tuple(found))


def _agreed(tracer: Tracer, operands: list[tuple[Tensor, Mark | None]]) -> Mark | None:
    """One dimension of several operands; constants of the module cannot be sliced along."""
    if not all(tracer.known(operand) for operand, _ in operands):
        reason = "it combines units with numbers that are no parameters (a buffer, or a constant)"
        tracer.hold([mark for _, mark in operands], reason)
    marks = [mark for operand, mark in operands if tracer.known(operand)]
    return tie_all(marks) if marks else None


def convolution(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """x (n, in, ...) with a kernel (out, in, ...), or (in, out, ...) if transposed."""
    x, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    units, kernel = tracer.of(x), tracer.of(weight)
    into, out = (kernel[1], kernel[0]) if not transposed else (kernel[0], kernel[1])
    for mark in kernel[2:]:
        tie(mark, None)
    if groups != 1:
        reason = "its number of groups is fixed in the layer, so that it cannot be run with fewer channels"
        tracer.hold([units[1], into, out], reason)
    else:
        tie(units[1], into)
    if bias is not None:
        tie(out, tracer.of(bias)[0])
    tracer.mark(outs, (units[0], out, *(None for _ in kernel[2:])))


def matmul(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """(..., i, k) by (..., k, j); addmm and baddbmm have an added term before."""
    added, (left, right) = (args[0], args[1:3]) if len(tensors_in(args)) > 2 else (None, args[:2])
    a, b = tracer.of(left), tracer.of(right)
    tie(a[-1], b[-2])
    marks = (*(tie_all(pair) for pair in zip(a[:-2], b[:-2], strict=True)), a[-2], b[-1])
    tracer.mark(outs, marks)
    if added is not None:
        elementwise(tracer, (added, outs[0]), {}, outs)


def normalised(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Batch normalisation: weight, bias and running statistics count channels."""
    channel = tracer.of(args[0])[1]
    for part in args[1:5]:
        if isinstance(part, Tensor):
            _agreed(tracer, [(args[0], channel), (part, tracer.of(part)[0])])
    tracer.mark(outs, tracer.of(args[0]))


def group_normalised(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Group normalisation: the number of groups must divide the channels that are kept."""
    normalised(tracer, args[:3], kwargs, outs)
    channel, groups = tracer.of(args[0])[1], args[6]
    if channel is not None and groups > 1:
        if channel.outer * channel.inner > 1:
            tracer.hold([channel], "it normalises groups of blocks of units")
        resolved(channel).group.divisors.append((groups, tracer.layer))


def layer_normalised(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Layer normalisation over the last dimensions."""
    units = tracer.of(args[0])
    for part in args[2:4]:
        if isinstance(part, Tensor):
            marks = tracer.of(part)
            for mine, other in zip(units[-len(marks) :], marks, strict=True):
                _agreed(tracer, [(args[0], mine), (part, other)])
    tracer.mark(outs, units)


def pooled(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Pooling and resizing of images: batch and channels stay."""
    marks = tracer.of(args[0])
    kept, reason = marks[:2] if len(marks) > 3 else marks[:-2] or marks[:1], "it pools over units"
    tracer.hold(marks[len(kept) :], reason)
    sizes = outs[0].shape[len(kept) :]
    over = [tracer.lost([mark], size, reason) for size, mark in zip(sizes, marks[len(kept) :], strict=True)]
    tracer.mark(outs, (*kept, *over))


def padded(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Padding, from the last dimension on; units cannot be padded."""
    marks, changed = list(tracer.of(args[0])), len(args[1]) // 2
    for back in range(1, changed + 1):
        if outs[0].shape[-back] != args[0].shape[-back]:
            reason = "it pads the channels with more of them"
            tracer.hold([marks[-back]], reason)
            marks[-back] = tracer.lost([marks[-back]], outs[0].shape[-back], reason)
    tracer.mark(outs, tuple(marks))


def viewed(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Any reshape, flattening included."""
    found = reshaped(args[0].shape, tracer.of(args[0]), outs[0].shape)
    if found is None:
        tracer.lose(args[:1], outs, f"it reshapes {tuple(args[0].shape)} to {tuple(outs[0].shape)} across units")
    else:
        tracer.mark(outs, found)


def restrided(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Pooled maps of one place a channel are given the strides of channels last; the numbers keep their order."""
    x, size, stride = args[:3]
    if x.dim() > 2 and x.shape == tuple(size) and x.shape[2:].numel() == 1 and list(stride[:2]) == [size[1], 1]:
        tracer.mark(outs, tracer.of(x))
    else:
        not_known("as_strided")(tracer, args, kwargs, outs)


def permuted(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """permute, transpose and t."""
    marks = list(tracer.of(args[0]))
    if len(args) == 2:
        marks = [marks[place] for place in args[1]]
    elif marks:
        one, other = args[1:3] if len(args) == 3 else (0, len(marks) - 1)
        marks[one], marks[other] = marks[other], marks[one]
    tracer.mark(outs, tuple(marks))


def expanded(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Dimensions of one are repeated; new ones come first."""
    marks = tracer.of(args[0])
    tracer.mark(outs, (*(None for _ in range(outs[0].dim() - len(marks))), *marks))


def embedded(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """A table's rows by index: the rows are inputs, the columns may be units."""
    row, column = tracer.of(args[0])
    tie(row, None)
    tracer.mark(outs, (*tracer.of(args[1]), column))


def reduced(name: str) -> Rule:
    """Sums, means and the like over some dimensions, which must not count units."""

    def rule(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
        marks, given = tracer.of(args[0]), args[1] if len(args) > 1 else kwargs.get("dim")
        listed: list[int] = [given] if isinstance(given, int) else list(given or range(len(marks)))
        over = {place % max(len(marks), 1) for place in listed}
        tracer.hold([marks[place] for place in sorted(over) if marks], f"its {name} goes over units, kept or not")
        keeps = outs[0].dim() == len(marks)
        left = tuple(None if place in over else mark for place, mark in enumerate(marks) if keeps or place not in over)
        tracer.mark(outs, left)

    return rule


def along(name: str) -> Rule:
    """Operations along one dimension that give as many dimensions: softmax, cumulative sums, slices."""

    def rule(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
        marks, place = list(tracer.of(args[0])), args[1] if len(args) > 1 else kwargs.get("dim", 0)
        whole_slice = name == "slice" and outs[0].shape == args[0].shape
        if marks and not whole_slice:
            reason = f"its {name} goes along units, kept or not"
            tracer.hold([marks[place]], reason)
            if name == "slice":
                marks[place] = tracer.lost([marks[place]], outs[0].shape[place], reason)
        tracer.mark(outs, tuple(marks))

    return rule


def joined(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """Concatenation: the dimension it goes along counts the units of several groups."""
    parts, place = args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0)
    place %= outs[0].dim()
    marks: list[Mark | None] = []
    for dimension in range(outs[0].dim()):
        here = [tracer.of(part)[dimension] for part in parts]
        if dimension == place:
            tracer.hold(here, _JOINS)
            marks.append(tracer.lost(here, outs[0].shape[place], _JOINS))
        else:
            marks.append(tie_all(here))
    tracer.mark(outs, tuple(marks))


def made(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
    """New tensors that hold no values of others."""


def _named(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


def _each(names: str, rule: Any) -> dict[str, Rule]:
    return {name: rule(name) for name in names.split()}


RULES: dict[str, Rule] = {
    **_named("""add sub rsub mul div pow maximum minimum where lerp addcmul addcdiv remainder fmod atan2 eq ne gt ge lt
        le relu relu6 hardtanh hardswish hardsigmoid gelu silu mish elu celu selu leaky_relu softplus sigmoid
        tanh threshold log_sigmoid_forward exp expm1 log log1p sqrt rsqrt reciprocal square abs neg sign sin
        cos erf floor ceil round clamp clamp_min clamp_max _prelu_kernel clone detach alias _to_copy
        contiguous lift_fresh native_dropout zeros_like ones_like full_like empty_like masked_fill
        logical_not logical_and logical_or""", elementwise),
    **_named("mm bmm addmm baddbmm", matmul),
    **_named("native_batch_norm _native_batch_norm_legit cudnn_batch_norm", normalised),
    **_named("""max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d
        upsample_bilinear2d avg_pool1d _adaptive_avg_pool3d avg_pool3d max_pool3d_with_indices upsample_nearest1d
        upsample_bicubic2d upsample_nearest3d""", pooled),
    **_named("view _unsafe_view reshape unsqueeze squeeze _reshape_alias", viewed),
    **_named("permute transpose t", permuted),
    **_each("mean sum amax amin var std logsumexp prod argmax max min linalg_vector_norm", reduced),
    **_each("_softmax _log_softmax cumsum slice", along),
    **_named("empty zeros ones full arange scalar_tensor", made),
    "as_strided": restrided,
    "convolution": convolution,
    "native_group_norm": group_normalised,
    "native_layer_norm": layer_normalised,
    "constant_pad_nd": padded,
    "expand": expanded,
    "embedding": embedded,
    "cat": joined,
}  # fmt: skip
"""By name in torch's ATen; operations in place have the rule of the others."""
