"""Triton kernels of the contour renderer: what :mod:`._contour_kernels` computes, on an NVIDIA GPU.

Three launches render a batch, and two more and a fill with zeros give its gradient:

1. ``_find_outline``, a program a sample: writes the edges of the outline, directed, in the mesh's order.
2. ``_render_tiles``, a program a tile of pixels: adds up what the outline's edges that meet the tile do in each of its
   pixels. The layers over a pixel's corner come from whole numbers, as on the CPU: the edges left of the tile count
   once, at the tile's top; those that meet it count in each pixel. Pixels that a single stretch of outline passes are
   done with this; the others are written to a list.
3. ``_render_crowds``, a fixed number of programs that go through that list: cuts a pixel's pieces where they meet.

The gradient walks along the edges, as the CPU does, in ``_differentiate_stretches``, and goes through the list again in
``_differentiate_crowds``. A piece is a function of its edge and its pixel alone, so that no list of pieces is kept, and
nothing waits for the host: sizes depend on shapes only. Sums are taken in the mesh's order, so that a mask is the same
in every run. The gradient is added up with atomics, in the points' precision, and may differ in its last bits.

Beside mask and gradient, b samples of s x s pixels and e edges take b (5 s^2 + 28 e) bytes: 25 MB for 64 hands of 256 x
256 pixels.

Lengths and names are those of the CPU's kernels.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

_VERTEX, _TOP, _LEFT, _RIGHT, _BOTTOM = (tl.constexpr(side) for side in range(5))
_MARGIN, _TOUCH = tl.constexpr(1e-12), tl.constexpr(1e-14)
_CORNER_X, _CORNER_Y = tl.constexpr(0.4e-12), tl.constexpr(0.3e-12)
_CROWD = tl.constexpr(64)
_FARTHEST = tl.constexpr(1e200)
_NONE = tl.constexpr(2**31 - 1)  # after all indices

# The fields of an edge of the outline. The box is the cells that it meets, -1 and size being outside of the frame.
_UPPER, _LOWER, _SIGN, _FIRST_ROW, _LAST_ROW, _FIRST_COLUMN, _LAST_COLUMN = (tl.constexpr(field) for field in range(7))
_FIELDS = tl.constexpr(7)

# A pixel's state, where it is not the layers over the corner of a crowd's pixel.
_HIDDEN, _SHOWN = tl.constexpr(126), tl.constexpr(127)

_EDGE_BLOCK, _SCAN_BLOCK, _WALK_BLOCK = 1024, 128, 32
_CROWD_PROGRAMS = 4096
_EXACT = {"enable_fp_fusion": False}  # fused, what is the same in two places could be rounded in two ways


@triton.jit
@no_type_check
def _pixels(coordinates, size: tl.constexpr):
    return (coordinates.to(tl.float64) + 1.0) * (0.5 * size)


@triton.jit
@no_type_check
def _cell(coordinate, size: tl.constexpr):
    return tl.floor(tl.minimum(tl.maximum(coordinate, -1.0), size * 1.0)).to(tl.int32)


@triton.jit
@no_type_check
def _place(points, vertex, mask, size: tl.constexpr):
    x = tl.load(points + 3 * vertex, mask=mask, other=0.0)
    y = tl.load(points + 3 * vertex + 1, mask=mask, other=0.0)
    return _pixels(x, size), _pixels(y, size)


@triton.jit
@no_type_check
def _edge_ends(points, outline, edges: tl.constexpr, edge, mask, size: tl.constexpr):
    x0, y0 = _place(points, tl.load(outline + _UPPER * edges + edge, mask=mask, other=0), mask, size)
    x1, y1 = _place(points, tl.load(outline + _LOWER * edges + edge, mask=mask, other=0), mask, size)
    return x0, y0, x1, y1


@triton.jit
@no_type_check
def _is_front(points, faces, face, mask, size: tl.constexpr):
    xi, yi = _place(points, tl.load(faces + 3 * face, mask=mask, other=0), mask, size)
    xj, yj = _place(points, tl.load(faces + 3 * face + 1, mask=mask, other=0), mask, size)
    xk, yk = _place(points, tl.load(faces + 3 * face + 2, mask=mask, other=0), mask, size)
    return (xj - xi) * (yk - yi) > (yj - yi) * (xk - xi)


@triton.jit
@no_type_check
def _find_outline(
    points,
    faces,
    all_edges,
    outline,
    counts,
    crowds,
    vertices: tl.constexpr,
    edges: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
):
    """Write the outline's edges and their number, -1 for a sample that is not finite, and an empty list of crowds."""
    sample = tl.program_id(0).to(tl.int64)
    points += sample * vertices * 3
    outline += sample * _FIELDS * edges
    if sample == 0:
        tl.store(crowds, 0)
    broken = 0
    for start in range(0, vertices, block):
        vertex = start + tl.arange(0, block)
        x, y = _place(points, vertex, vertex < vertices, size)
        z = tl.load(points + 3 * vertex + 2, mask=vertex < vertices, other=0.0)
        finite = (tl.abs(x) < _FARTHEST) & (tl.abs(y) < _FARTHEST) & (tl.abs(z) < float("inf"))
        broken += tl.sum(tl.where(finite, 0, 1))
    count = tl.where(broken > 0, -1, 0)
    if broken == 0:
        for start in range(0, edges, block):
            edge = start + tl.arange(0, block)
            exists = edge < edges
            u = tl.load(all_edges + 4 * edge, mask=exists, other=0)
            v = tl.load(all_edges + 4 * edge + 1, mask=exists, other=0)
            forth = _is_front(points, faces, tl.load(all_edges + 4 * edge + 2, mask=exists, other=0), exists, size)
            back = _is_front(points, faces, tl.load(all_edges + 4 * edge + 3, mask=exists, other=0), exists, size)
            xu, yu = _place(points, u, exists, size)
            xv, yv = _place(points, v, exists, size)
            # Of an edge between front and back, the front's side is on the right of the way from v to u if it is forth.
            upper_is_u = (yu < yv) | ((yu == yv) & (forth == 0))
            first_row = _cell(tl.minimum(yu, yv), size)
            last_row = _cell(tl.maximum(yu, yv), size)
            first_column = _cell(tl.minimum(xu, xv), size)
            last_column = _cell(tl.maximum(xu, xv), size)
            visible = (last_row >= 0) & (first_row < size) & (first_column < size) & ((xu != xv) | (yu != yv))
            kept = exists & (forth != back) & visible
            at = outline + count + tl.cumsum(kept.to(tl.int32), 0) - 1
            tl.store(at + _UPPER * edges, tl.where(upper_is_u, u, v), mask=kept)
            tl.store(at + _LOWER * edges, tl.where(upper_is_u, v, u), mask=kept)
            tl.store(at + _SIGN * edges, tl.where(upper_is_u == forth, -1, 1), mask=kept)
            tl.store(at + _FIRST_ROW * edges, first_row, mask=kept)
            tl.store(at + _LAST_ROW * edges, last_row, mask=kept)
            tl.store(at + _FIRST_COLUMN * edges, first_column, mask=kept)
            tl.store(at + _LAST_COLUMN * edges, last_column, mask=kept)
            count += tl.sum(kept.to(tl.int32))
    tl.store(counts + sample, count)


@triton.jit
@no_type_check
def _in_row(x0, y0, x1, y1, row, size: tl.constexpr):
    """Cut an edge at a row: where it enters and leaves, x, y and column; of use only if it meets the row."""
    first_row, last_row = _cell(y0, size), _cell(y1, size)
    x_per_y = (x1 - x0) / tl.where(y1 > y0, y1 - y0, 1.0)
    upper_is_near = tl.abs(x0) + tl.abs(y0) < tl.abs(x1) + tl.abs(y1)
    near_x, near_y = tl.where(upper_is_near, x0, x1), tl.where(upper_is_near, y0, y1)
    low, high = tl.minimum(x0, x1), tl.maximum(x0, x1)
    from_x = tl.minimum(tl.maximum(near_x + x_per_y * (row - near_y), low), high)
    to_x = tl.minimum(tl.maximum(near_x + x_per_y * (row + 1 - near_y), low), high)
    from_x, from_y = tl.where(row == first_row, x0, from_x), tl.where(row == first_row, y0, row)
    to_x, to_y = tl.where(row == last_row, x1, to_x), tl.where(row == last_row, y1, row + 1)
    return from_x, from_y, _cell(from_x, size), to_x, to_y, _cell(to_x, size)


@triton.jit
@no_type_check
def _is_met(x0, y0, x1, y1, row, column, size: tl.constexpr):
    """Tell whether an edge has a piece in a pixel."""
    _, _, from_column, _, _, to_column = _in_row(x0, y0, x1, y1, row, size)
    within = (tl.minimum(from_column, to_column) <= column) & (column <= tl.maximum(from_column, to_column))
    return within & (_cell(y0, size) <= row) & (row <= _cell(y1, size))


@triton.jit
@no_type_check
def _piece(x0, y0, x1, y1, row, column, size: tl.constexpr):
    """Return an edge's piece in a pixel that it meets: its ends within the pixel, the sides it enters and leaves by."""
    from_x, from_y, from_column, to_x, to_y, to_column = _in_row(x0, y0, x1, y1, row, size)
    y_per_x = (y1 - y0) / tl.where(x1 != x0, x1 - x0, 1.0)
    upper_is_near = tl.abs(x0) + tl.abs(y0) < tl.abs(x1) + tl.abs(y1)
    near_x, near_y = tl.where(upper_is_near, x0, x1), tl.where(upper_is_near, y0, y1)
    left_y = tl.minimum(tl.maximum(near_y + y_per_x * (column - near_x), from_y), to_y)
    right_y = tl.minimum(tl.maximum(near_y + y_per_x * (column + 1 - near_x), from_y), to_y)
    begins, ends, to_right = column == from_column, column == to_column, from_column <= to_column
    ax = tl.where(begins, from_x - column, tl.where(to_right, 0, 1))
    bx = tl.where(ends, to_x - column, tl.where(to_right, 1, 0))
    ay = tl.where(begins, from_y, tl.where(to_right, left_y, right_y)) - row
    by = tl.where(ends, to_y, tl.where(to_right, right_y, left_y)) - row
    first, last = row == _cell(y0, size), row == _cell(y1, size)
    enters = tl.where(begins, tl.where(first, _VERTEX, _TOP), tl.where(to_right, _LEFT, _RIGHT))
    leaves = tl.where(ends, tl.where(last, _VERTEX, _BOTTOM), tl.where(to_right, _RIGHT, _LEFT))
    return ax, ay, bx, by, enters, leaves


@triton.jit
@no_type_check
def _left_crossing(ay, by, enters, leaves, sign):
    """Return where on the pixel's left side a piece begins or ends, and the layers gained downwards there."""
    y = tl.where(enters == _LEFT, ay, by)
    return y, tl.where(enters == _LEFT, -sign, tl.where(leaves == _LEFT, sign, 0))


@triton.jit
@no_type_check
def _render_tiles(
    points,
    outline,
    counts,
    masks,
    states,
    crowds,
    vertices: tl.constexpr,
    edges: tl.constexpr,
    size: tl.constexpr,
    tile: tl.constexpr,
    block: tl.constexpr,
):
    """Render a tile but for its crowds, and append these to the list."""
    tiles: tl.constexpr = (size + tile - 1) // tile
    program = tl.program_id(0)  # of neighbours, which run at the same time, most have the same sample's outline
    sample = (program // (tiles * tiles)).to(tl.int64)
    points += sample * vertices * 3
    outline += sample * _FIELDS * edges
    top, left = program // tiles % tiles * tile, program % tiles * tile
    row, column = top + tl.arange(0, tile)[:, None], left + tl.arange(0, tile)[None, :]
    pixel = sample * size * size + row * size + column
    in_frame = (row < size) & (column < size)
    count = tl.load(counts + sample)

    left_layers = 0
    layers = tl.zeros((tile, tile), tl.int32)
    pieces = tl.zeros((tile, tile), tl.int32)
    crossings = tl.zeros((tile, tile), tl.int32)
    headings = tl.zeros((tile, tile), tl.int32)
    area = tl.zeros((tile, tile), tl.float64)
    for start in range(0, count, block):
        edge = start + tl.arange(0, block)
        exists = edge < count
        signs = tl.load(outline + _SIGN * edges + edge, mask=exists, other=0)
        first_rows = tl.load(outline + _FIRST_ROW * edges + edge, mask=exists, other=0)
        last_rows = tl.load(outline + _LAST_ROW * edges + edge, mask=exists, other=0)
        first_columns = tl.load(outline + _FIRST_COLUMN * edges + edge, mask=exists, other=0)
        last_columns = tl.load(outline + _LAST_COLUMN * edges + edge, mask=exists, other=0)
        beside = (first_rows < top) & (top <= last_rows) & (last_columns < left)
        left_layers += tl.sum(tl.where(beside, signs, 0))
        meets = (first_rows < top + tile) & (last_rows >= top) & (first_columns < left + tile) & (last_columns >= left)
        meets = meets & exists
        k = tl.min(tl.where(meets, edge, _NONE))
        while k != _NONE:
            sign = tl.load(outline + _SIGN * edges + k)
            x0, y0, x1, y1 = _edge_ends(points, outline, edges, k, True, size)
            present = _is_met(x0, y0, x1, y1, row, column, size)
            ax, ay, bx, by, enters, leaves = _piece(x0, y0, x1, y1, row, column, size)
            _, _, from_column, _, _, _ = _in_row(x0, y0, x1, y1, row, size)
            first_row, last_row = _cell(y0, size), _cell(y1, size)
            # Where an edge begins or ends on the left of the tile, its neighbour may not meet the tile.
            crosses = (first_row < row) & (row <= last_row) & (from_column < column)
            ended = (row > last_row) & (_cell(x1, size) < left)
            begun = (row > first_row) & (first_row >= top) & (_cell(x0, size) < left)
            layers += sign * (crosses.to(tl.int32) + ended.to(tl.int32) - begun.to(tl.int32))

            dx, dy = sign * (bx - ax), sign * (by - ay)
            left_y, gain = _left_crossing(ay, by, enters, leaves, sign)
            area += tl.where(present, dy * (1.0 - 0.5 * (ax + bx)) + gain * (1.0 - left_y), 0.0)
            heading = (dx > 0).to(tl.int32) + (dx < 0) * 2 + (dy > 0) * 4 + (dy < 0) * 8
            headings = headings | tl.where(present, heading, 0)
            crossing = (enters != _VERTEX).to(tl.int32) + (leaves != _VERTEX).to(tl.int32)
            crossings += tl.where(present, crossing, 0)
            pieces += present.to(tl.int32)
            k = tl.min(tl.where(meets & (edge > k), edge, _NONE))

    layers += left_layers
    turns_back = ((headings & 3) == 3) & ((headings & 12) == 12)
    joined = ((crossings > 2) | turns_back) & (pieces <= _CROWD)
    shown = (joined == 0) & (pieces > 0) & ((layers == 0) | ((layers == 1) & (area < 0)))
    whole = tl.minimum(layers, 1).to(tl.float64)
    mask = tl.minimum(tl.maximum(whole + tl.where(shown, area, 0.0), 0.0), 1.0)
    mask = tl.where(count < 0, float("nan"), mask)
    tl.store(masks + pixel, mask.to(masks.dtype.element_ty), mask=in_frame)

    crowded = (joined & (layers <= pieces) & in_frame).to(tl.int32)
    if tl.sum(pieces) > 0:
        state = tl.where(crowded != 0, tl.maximum(layers, -_CROWD), tl.where(shown, _SHOWN, _HIDDEN))
        tl.store(states + pixel, state.to(tl.int8), mask=in_frame)
        row_crowds = tl.sum(crowded, 1)
        found = tl.sum(row_crowds)
        if found > 0:
            before = (tl.cumsum(row_crowds, 0) - row_crowds)[:, None] + tl.cumsum(crowded, 1)
            at = tl.atomic_add(crowds, found) + before
            tl.store(crowds + at, pixel.to(tl.int32), mask=crowded != 0)


@triton.jit
@no_type_check
def _gather(outline, points, count, row, column, edges: tl.constexpr, size: tl.constexpr, block: tl.constexpr):
    """Return the edges that have a piece in a pixel, in order, and how many there are."""
    slot = tl.arange(0, _CROWD)
    found = 0
    crowd = tl.zeros((_CROWD,), tl.int32)
    for start in range(0, count, block):
        edge = start + tl.arange(0, block)
        exists = edge < count
        first_row = tl.load(outline + _FIRST_ROW * edges + edge, mask=exists, other=_NONE)
        last_row = tl.load(outline + _LAST_ROW * edges + edge, mask=exists, other=0)
        first_column = tl.load(outline + _FIRST_COLUMN * edges + edge, mask=exists, other=0)
        last_column = tl.load(outline + _LAST_COLUMN * edges + edge, mask=exists, other=0)
        near = (first_row <= row) & (row <= last_row) & (first_column <= column) & (column <= last_column)
        if tl.sum(near.to(tl.int32)) > 0:
            x0, y0, x1, y1 = _edge_ends(points, outline, edges, edge, near, size)
            met = near & _is_met(x0, y0, x1, y1, row, column, size)
            k = tl.min(tl.where(met, edge, _NONE))
            while k != _NONE:
                crowd = tl.where(slot == found, k, crowd)
                found += 1
                k = tl.min(tl.where(met & (edge > k), edge, _NONE))
    return crowd, found


@triton.jit
@no_type_check
def _draw_in_x(x, side):
    return tl.where((side == _LEFT) | (side == _RIGHT), x, x + _MARGIN * (1.0 - 2.0 * x))


@triton.jit
@no_type_check
def _draw_in_y(y, side):
    return tl.where((side == _TOP) | (side == _BOTTOM), y, y + _MARGIN * (1.0 - 2.0 * y))


@triton.jit
@no_type_check
def _side(x, y, line_x, line_y, dx, dy):
    return (x - line_x) * dy - (y - line_y) * dx


@triton.jit
@no_type_check
def _pick(values, slot, index):
    return tl.sum(tl.where(slot == index, values, 0))


@triton.jit
@no_type_check
def _inside(t):
    """Move a cut at an end of a line, or outside of it, behind its end."""
    return tl.where((t > _TOUCH) & (1.0 - t > _TOUCH), t, 2.0)


@triton.jit
@no_type_check
def _show_parts(ax, ay, bx, by, enters, leaves, signs, slot, found, layers):
    """Return the integrals of dt and of t dt, t from 0 to 1, over the parts of each piece that bound the silhouette.

    The layers beside a part are counted along the straight line from the pixel's top left corner to its middle.
    """
    valid = slot < found
    x0, y0 = _draw_in_x(ax, enters), _draw_in_y(ay, enters)
    x1, y1 = _draw_in_x(bx, leaves), _draw_in_y(by, leaves)
    dx, dy = x1 - x0, y1 - y0
    touch = _TOUCH * (tl.abs(dx) + tl.abs(dy))
    corner_right = _side(_CORNER_X, _CORNER_Y, x0, y0, dx, dy) > 0
    gains = tl.where(valid, tl.where(corner_right, -signs, signs), 0)
    shown = tl.zeros((_CROWD,), tl.float64)
    moment = tl.zeros((_CROWD,), tl.float64)
    if layers + tl.sum(tl.minimum(gains, 0)) <= 0:
        for i in range(0, found):
            line_x, line_y = _pick(x0, slot, i), _pick(y0, slot, i)
            end_x, end_y = _pick(x1, slot, i), _pick(y1, slot, i)
            low = layers + tl.minimum(_pick(gains, slot, i), 0)
            line_dx, line_dy = end_x - line_x, end_y - line_y
            line_touch = _TOUCH * (tl.abs(line_dx) + tl.abs(line_dy))
            length = line_dx * line_dx + line_dy * line_dy
            length = tl.where(length > 0, length, 1.0)
            others = valid & (slot != i)

            begin = _side(x0, y0, line_x, line_y, line_dx, line_dy)
            end = _side(x1, y1, line_x, line_y, line_dx, line_dy)
            meets = others & (tl.minimum(begin, end) <= line_touch) & (tl.maximum(begin, end) >= -line_touch)
            at_begin = ((x0 - line_x) * line_dx + (y0 - line_y) * line_dy) / length
            at_end = ((x1 - line_x) * line_dx + (y1 - line_y) * line_dy) / length
            cut_begin = tl.where(meets & (tl.abs(begin) <= line_touch), _inside(at_begin), 2.0)
            cut_end = tl.where(meets & (tl.abs(end) <= line_touch), _inside(at_end), 2.0)
            upper = _side(line_x, line_y, x0, y0, dx, dy)
            lower = _side(end_x, end_y, x0, y0, dx, dy)
            parted = ((begin < 0) != (end < 0)) & (begin != 0) & (end != 0)
            parts = ((upper < 0) != (lower < 0)) & (upper != 0) & (lower != 0)
            crossed = meets & parted & parts
            cut_cross = tl.where(crossed, _inside(upper / tl.where(crossed, upper - lower, 1.0)), 2.0)

            t = line_x * 0.0
            shown_i = line_x * 0.0
            moment_i = line_x * 0.0
            while t < 1.0:
                after = tl.minimum(tl.where(cut_begin > t, cut_begin, 1.0), tl.where(cut_end > t, cut_end, 1.0))
                after = tl.minimum(after, tl.where(cut_cross > t, cut_cross, 1.0))
                following = tl.min(tl.minimum(after, 1.0))
                middle = 0.5 * (t + following)
                x, y = line_x + middle * line_dx, line_y + middle * line_dy
                to_x, to_y = x - _CORNER_X, y - _CORNER_Y
                begins_right = (x0 - _CORNER_X) * to_y >= (y0 - _CORNER_Y) * to_x
                ends_right = (x1 - _CORNER_X) * to_y >= (y1 - _CORNER_Y) * to_x
                side = _side(x, y, x0, y0, dx, dy)
                before = tl.where(tl.abs(side) <= touch, slot < i, (side > 0) != corner_right)
                gained = tl.sum(tl.where(others & (begins_right != ends_right) & before, gains, 0))
                share = tl.where(low + gained <= 0, following - t, 0.0)
                shown_i += share
                moment_i += share * middle
                t = following
            shown = tl.where(slot == i, shown_i, shown)
            moment = tl.where(slot == i, moment_i, moment)
    return shown, moment


@triton.jit
@no_type_check
def _won_on_left(ay, by, enters, leaves, signs, slot, found, layers):
    """Measure how much more of a pixel's left side is covered than if all of it were as its top end is."""
    y, gains = _left_crossing(ay, by, enters, leaves, signs)
    gains = tl.where(slot < found, gains, 0)
    won = tl.zeros((_CROWD,), tl.float64)
    if tl.sum(tl.abs(gains)) > 0:
        above = layers + tl.zeros((_CROWD,), tl.int32)
        for j in range(0, found):
            other_y, other_gain = _pick(y, slot, j), _pick(gains, slot, j)
            above += tl.where((other_y < y) | ((other_y == y) & (j < slot)), other_gain, 0)
        won = tl.where(above + tl.minimum(gains, 0) <= 0, gains * (1.0 - y), 0.0)
    return tl.sum(won)


@triton.jit
@no_type_check
def _render_crowds(
    points,
    outline,
    counts,
    masks,
    states,
    crowds,
    vertices: tl.constexpr,
    edges: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
):
    """Render the pixels in the list."""
    slot = tl.arange(0, _CROWD)
    for entry in range(tl.program_id(0), tl.load(crowds), tl.num_programs(0)):
        pixel = tl.load(crowds + 1 + entry)
        sample, row, column = (pixel // (size * size)).to(tl.int64), pixel // size % size, pixel % size
        points_of, outline_of = points + sample * vertices * 3, outline + sample * _FIELDS * edges
        layers = tl.load(states + pixel).to(tl.int32)
        crowd, found = _gather(outline_of, points_of, tl.load(counts + sample), row, column, edges, size, block)
        valid = slot < found
        signs = tl.load(outline_of + _SIGN * edges + crowd, mask=valid, other=0)
        x0, y0, x1, y1 = _edge_ends(points_of, outline_of, edges, crowd, valid, size)
        ax, ay, bx, by, enters, leaves = _piece(x0, y0, x1, y1, row, column, size)
        shown, moment = _show_parts(ax, ay, bx, by, enters, leaves, signs, slot, found, layers)
        area = tl.sum(tl.where(valid, signs * (by - ay) * (shown * (1.0 - ax) - moment * (bx - ax)), 0.0))
        area += tl.minimum(layers, 1) + _won_on_left(ay, by, enters, leaves, signs, slot, found, layers)
        area = tl.minimum(tl.maximum(area, 0.0), 1.0)
        tl.store(masks + pixel, area.to(masks.dtype.element_ty))


@triton.jit
@no_type_check
def _along_edge(at_x, at_y, x0, y0, x1, y1):
    """Tell where on an edge, 0 at its top and 1 at its bottom, a point lies."""
    dx, dy = x1 - x0, y1 - y0
    flat = tl.abs(dx) > dy
    t = tl.where(flat, at_x - x0, at_y - y0) / tl.where(flat, dx, tl.where(dy > 0, dy, 1.0))
    return tl.minimum(tl.maximum(t, 0.0), 1.0)


@triton.jit
@no_type_check
def _swept(x0, y0, x1, y1, ax, ay, bx, by, shown, moment, row, column):
    """Return the derivatives of a piece's area, before sign and weight, by the edge's upper and lower x and y."""
    begin = _along_edge(ax + column, ay + row, x0, y0, x1, y1)
    end = _along_edge(bx + column, by + row, x0, y0, x1, y1)
    by_lower = begin * shown + (end - begin) * moment
    by_upper = shown - by_lower
    return by_upper * (ay - by), by_upper * (bx - ax), by_lower * (ay - by), by_lower * (bx - ax)


@triton.jit
@no_type_check
def _add(gradient, upper, lower, upper_x, upper_y, lower_x, lower_y, mask):
    number = gradient.dtype.element_ty
    tl.atomic_add(gradient + 3 * upper, upper_x.to(number), mask=mask, sem="relaxed")
    tl.atomic_add(gradient + 3 * upper + 1, upper_y.to(number), mask=mask, sem="relaxed")
    tl.atomic_add(gradient + 3 * lower, lower_x.to(number), mask=mask, sem="relaxed")
    tl.atomic_add(gradient + 3 * lower + 1, lower_y.to(number), mask=mask, sem="relaxed")


@triton.jit
@no_type_check
def _differentiate_stretches(
    points,
    outline,
    counts,
    states,
    weights,
    gradient,
    vertices: tl.constexpr,
    edges: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
):
    """Add the gradient by the outline's edges but for what they do in crowds; that of a broken sample is NaN."""
    sample = tl.program_id(0).to(tl.int64)
    points += sample * vertices * 3
    outline += sample * _FIELDS * edges
    gradient += sample * vertices * 3
    pixels = sample * size * size
    start = tl.program_id(1) * block
    count = tl.load(counts + sample)
    if count < 0:
        for first in range(start, vertices, tl.num_programs(1) * block):
            vertex = first + tl.arange(0, block)
            nothing = tl.full((block,), float("nan"), gradient.dtype.element_ty)
            tl.store(gradient + 3 * vertex, nothing, mask=vertex < vertices)
            tl.store(gradient + 3 * vertex + 1, nothing, mask=vertex < vertices)
    if start < count:
        edge = start + tl.arange(0, block)
        exists = edge < count
        upper = tl.load(outline + _UPPER * edges + edge, mask=exists, other=0)
        lower = tl.load(outline + _LOWER * edges + edge, mask=exists, other=0)
        sign = tl.load(outline + _SIGN * edges + edge, mask=exists, other=0)
        x0, y0 = _place(points, upper, exists, size)
        x1, y1 = _place(points, lower, exists, size)
        last_row = tl.minimum(_cell(y1, size), size - 1)
        row = tl.maximum(_cell(y0, size), 0)
        _, _, column, _, _, _ = _in_row(x0, y0, x1, y1, row, size)
        upper_x = tl.zeros((block,), tl.float64)
        upper_y = tl.zeros((block,), tl.float64)
        lower_x = tl.zeros((block,), tl.float64)
        lower_y = tl.zeros((block,), tl.float64)
        walking = exists & (row <= last_row)
        while tl.max(walking.to(tl.int32)) > 0:
            here = walking & (column >= 0) & (column < size)
            _, _, _, _, _, to_column = _in_row(x0, y0, x1, y1, row, size)
            ax, ay, bx, by, _, _ = _piece(x0, y0, x1, y1, row, column, size)
            at = pixels + row * size + column
            here = here & (tl.load(states + at, mask=here, other=_HIDDEN) == _SHOWN)
            weight = (0.5 * size) * sign * tl.load(weights + at, mask=here, other=0.0).to(tl.float64)
            by_upper_x, by_upper_y, by_lower_x, by_lower_y = _swept(
                x0, y0, x1, y1, ax, ay, bx, by, 1.0, 0.5, row, column
            )
            upper_x += tl.where(here, weight * by_upper_x, 0.0)
            upper_y += tl.where(here, weight * by_upper_y, 0.0)
            lower_x += tl.where(here, weight * by_lower_x, 0.0)
            lower_y += tl.where(here, weight * by_lower_y, 0.0)
            row += (column == to_column).to(tl.int32)
            column += (column < to_column).to(tl.int32) - (column > to_column).to(tl.int32)
            walking = walking & (row <= last_row)
        _add(gradient, upper, lower, upper_x, upper_y, lower_x, lower_y, exists)


@triton.jit
@no_type_check
def _differentiate_crowds(
    points,
    outline,
    counts,
    states,
    crowds,
    weights,
    gradient,
    vertices: tl.constexpr,
    edges: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
):
    """Add the gradient by the pixels in the list."""
    slot = tl.arange(0, _CROWD)
    for entry in range(tl.program_id(0), tl.load(crowds), tl.num_programs(0)):
        pixel = tl.load(crowds + 1 + entry)
        sample, row, column = (pixel // (size * size)).to(tl.int64), pixel // size % size, pixel % size
        points_of, outline_of = points + sample * vertices * 3, outline + sample * _FIELDS * edges
        layers = tl.load(states + pixel).to(tl.int32)
        crowd, found = _gather(outline_of, points_of, tl.load(counts + sample), row, column, edges, size, block)
        valid = slot < found
        upper = tl.load(outline_of + _UPPER * edges + crowd, mask=valid, other=0)
        lower = tl.load(outline_of + _LOWER * edges + crowd, mask=valid, other=0)
        signs = tl.load(outline_of + _SIGN * edges + crowd, mask=valid, other=0)
        x0, y0 = _place(points_of, upper, valid, size)
        x1, y1 = _place(points_of, lower, valid, size)
        ax, ay, bx, by, enters, leaves = _piece(x0, y0, x1, y1, row, column, size)
        shown, moment = _show_parts(ax, ay, bx, by, enters, leaves, signs, slot, found, layers)
        weight = (0.5 * size) * signs * tl.load(weights + pixel).to(tl.float64)
        upper_x, upper_y, lower_x, lower_y = _swept(x0, y0, x1, y1, ax, ay, bx, by, shown, moment, row, column)
        visible = valid & (shown > 0)
        gradient_of = gradient + sample * vertices * 3
        _add(gradient_of, upper, lower, weight * upper_x, weight * upper_y, weight * lower_x, weight * lower_y, visible)


def coverage(points: Tensor, faces: Tensor, edges: Tensor, size: int) -> Tensor:
    """Render masks (b, s, s) of points (b, v, 3), in crop units, differentiable in x and y once.

    Args:
        points: float32 or float64, on a GPU (or anywhere, under Triton's interpreter).
        faces: The triangles of a closed mesh, int32 (f, 3).
        edges: For each edge its vertices u and v, the face that runs from u to v and the one that runs from v to u,
            int32 (e, 4).
        size: The side of the mask in pixels.
    """
    if points.shape[0] * size * size >= 2**31:
        raise ValueError(
            f"contour: {points.shape[0]} masks of {size} x {size} pixels are more than 2**31; split the batch"
        )
    return _coverage(points.contiguous(), faces, edges, size)[0]


@torch.library.custom_op("hamr_lightning::contour_coverage_triton", mutates_args=())
def _coverage(points: Tensor, faces: Tensor, edges: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    results = _new_results(points, edges, size)
    masks, outline, counts, states, crowds = results
    batch, mesh = len(points), (points.shape[1], len(edges), size)
    if batch == 0:
        return results
    tile = 8 if size <= 128 else 16  # each tile looks at all edges; the larger it is, the more of its pixels none meets
    tiles = batch * triton.cdiv(size, tile) ** 2
    with torch.cuda.device_of(points):
        _find_outline[(batch,)](
            points, faces, edges, outline, counts, crowds, *mesh, _EDGE_BLOCK, num_warps=8, **_EXACT
        )
        _render_tiles[(tiles,)](
            points, outline, counts, masks, states, crowds, *mesh, tile, _SCAN_BLOCK, num_warps=tile // 4, **_EXACT
        )
        _render_crowds[(_CROWD_PROGRAMS,)](
            points, outline, counts, masks, states, crowds, *mesh, _SCAN_BLOCK, num_warps=1, **_EXACT
        )
    return results


def _new_results(points: Tensor, edges: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch = points.shape[0]
    return (
        points.new_empty(batch, size, size),
        points.new_empty(batch, _FIELDS.value, edges.shape[0], dtype=torch.int32),
        points.new_empty(batch, dtype=torch.int32),
        points.new_empty(batch, size, size, dtype=torch.int8),
        points.new_empty(batch * size * size + 1, dtype=torch.int32),
    )


@_coverage.register_fake
def _(points: Tensor, faces: Tensor, edges: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _new_results(points, edges, size)


@torch.library.custom_op("hamr_lightning::contour_coverage_gradient_triton", mutates_args=())
def _gradient(
    points: Tensor, outline: Tensor, counts: Tensor, states: Tensor, crowds: Tensor, weights: Tensor
) -> Tensor:
    gradient = torch.zeros_like(points)
    batch, edges, size = len(points), outline.shape[2], weights.shape[1]
    if batch == 0:
        return gradient
    mesh = points.shape[1], edges, size
    known = points, outline, counts, states
    with torch.cuda.device_of(points):
        _differentiate_stretches[(batch, triton.cdiv(edges, _WALK_BLOCK))](
            *known, weights, gradient, *mesh, _WALK_BLOCK, num_warps=1, **_EXACT
        )
        _differentiate_crowds[(_CROWD_PROGRAMS,)](
            *known, crowds, weights, gradient, *mesh, _SCAN_BLOCK, num_warps=1, **_EXACT
        )
    return gradient


@_gradient.register_fake
def _(points: Tensor, *others: Tensor) -> Tensor:
    return torch.empty_like(points)


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[0], *output[1:])
    ctx.set_materialize_grads(False)  # those of the other results would be large


def _backward(ctx: Any, weights: Tensor | None, *others: None) -> tuple[Tensor | None, None, None, None]:
    gradient = None if weights is None else _gradient(*ctx.saved_tensors, weights.contiguous())
    return gradient, None, None, None


_coverage.register_autograd(_backward, setup_context=_keep_for_backward)
