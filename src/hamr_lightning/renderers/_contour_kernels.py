"""Numba kernels of the contour renderer: exact areas and their exact gradient, on the calling thread.

The outline of the front-facing triangles of a closed mesh bounds the number of front-facing layers over every point.
Each edge of the outline is walked through the grid and cut into *pieces*, one for each pixel that it crosses. The
layers over a pixel's top left corner are counted in integers; from there the pieces within the pixel tell the rest.
What shows of a piece is kept as a *record*, all that the gradient needs.

Lengths are in pixels, x right and y down; pixel (row, column) spans [column, column + 1) x [row, row + 1). Edges are
walked downwards, and one of sign s has s layers more on its right than on its left. A piece's coordinates are those
within its pixel, in [0, 1].
"""

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

_EDGE = np.dtype(
    [
        ("top", np.int32),  # its vertices
        ("bottom", np.int32),
        ("sign", np.int32),
        ("x0", np.float64),  # the top
        ("y0", np.float64),
        ("per_x", np.float64),  # how far along the edge, from 0 to 1, is a step in x or in y;
        ("per_y", np.float64),  # the shorter side's is 0
    ],
    align=True,
)
_PIECE = np.dtype(
    [
        ("next", np.int32),  # in the same pixel; -1 at the end
        ("edge", np.int32),
        ("sign", np.int8),
        ("enters", np.int8),  # by which side of the pixel, or _VERTEX if the edge begins or ends within
        ("leaves", np.int8),
        ("x0", np.float64),
        ("y0", np.float64),
        ("x1", np.float64),
        ("y1", np.float64),
    ],
    align=True,
)
# Rows of the table of a pixel's lines; their number is rounded up to whole lanes
_X0, _Y0, _X1, _Y1, _DX, _DY, _NEAR, _GAIN, _RIGHT_OF, _INDEX, _MET = range(11)
_LANES = 8
_VERTEX, _TOP, _LEFT, _RIGHT, _BOTTOM = range(5)
_MARGIN, _TOUCH = 1e-12, 1e-14  # far above the rounding of numbers up to 1, far below what shows
_CORNER_X, _CORNER_Y = 0.4 * _MARGIN, 0.3 * _MARGIN  # nearer to the corner than any line, and in line with nothing
_INSET = (_MARGIN, 1 - 2 * _MARGIN)
_INSET_X = np.array([_INSET, _INSET, (0, 0), (1, 0), _INSET])
_INSET_Y = np.array([_INSET, (0, 0), _INSET, _INSET, (1, 0)])
_CROWD = 64
_FARTHEST = 1e200  # in float64, slopes are finite up to here


RECORD32, RECORD64 = (
    np.dtype(
        [
            ("pixel", whole),
            ("top", whole),  # the edge's vertices
            ("bottom", whole),
            ("along_x", real),  # how the pixel's coverage grows as all that shows of the piece moves along x or y
            ("along_y", real),
            ("by_bottom", real),  # the share of it that the bottom vertex moves
        ]
    )
    for whole, real in ((np.int32, np.float32), (np.int64, np.float64))
)


def _compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile at the first call, and keep the result where there is a place that can be written to."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True, **options)(function)
    except RuntimeError:
        return njit(nogil=True, error_model="numpy", **options)(function)


def _inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile into the callers, without numba's count of references, which takes longer than the work itself."""
    return _compile(function, forceinline=True, _nrt=False)


@intrinsic
@no_type_check
def _lowest_bit(typing_context, word):
    """Return the index of the lowest bit set in a word that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.int64(types.uint64), generate


@intrinsic
@no_type_check
def _take(typing_context, counter):
    """Add 1 to counter[0], indivisibly, and return what it was."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, context.get_constant(types.int64, 1), "monotonic")

    return types.int64(counter), generate


@_compile
@no_type_check
def coverage(points, faces, edges, done, masks, records, counts):
    """Render samples of points (b, v, 3), in crop units, into masks (b, s, s), and record what shows of their outlines.

    Samples are taken one by one as counted in ``done``, by as many threads as call this with the same array. A sample
    that is not finite gets the count -1, another the number of its records, of which those are written that fit; what
    is left of the room is 0.
    """
    size = masks.shape[1]
    outlining, scratch = _scratch(points.shape[1], len(faces), len(edges), size)
    pieces = np.empty(0, _PIECE)
    while True:
        sample = _take(done)
        if sample >= len(points):
            return
        length, most = _outline(points[sample], faces, edges, size, outlining)
        if most > len(pieces):
            pieces = np.empty(2 * most, _PIECE)
        counts[sample] = _render(outlining, length, pieces, scratch, masks[sample], records[sample])
        _clear(records[sample][max(counts[sample], 0) :])


@_compile
@no_type_check
def coverage_gradient(points, faces, edges, done, records, counts, weights, gradient):
    """Add the gradient of sum(weights * masks) to gradient (b, v, 3), of samples taken as those of ``coverage``."""
    size = weights.shape[1]
    while True:
        sample = _take(done)
        if sample >= len(points):
            return
        count = counts[sample]
        kept = records[sample]
        if count > len(kept):
            kept = np.empty(count, kept.dtype)
            outlining, scratch = _scratch(points.shape[1], len(faces), len(edges), size)
            length, most = _outline(points[sample], faces, edges, size, outlining)
            mask = np.empty((size, size), weights.dtype)
            _render(outlining, length, np.empty(most, _PIECE), scratch, mask, kept)
        if count < 0:
            gradient[sample, :, :2] = np.nan
        else:
            _move(kept[:count], weights[sample].reshape(-1), gradient[sample])


@_inline
@no_type_check
def _clear(records):
    for k in range(len(records)):
        r = records[k]
        r.pixel, r.top, r.bottom, r.along_x, r.along_y, r.by_bottom = 0, 0, 0, 0.0, 0.0, 0.0


@_inline
@no_type_check
def _move(records, weights, gradient):
    for k in range(len(records)):
        r = records[k]
        along_x, along_y = weights[r.pixel] * r.along_x, weights[r.pixel] * r.along_y
        gradient[r.top, 0] += (1 - r.by_bottom) * along_x
        gradient[r.top, 1] += (1 - r.by_bottom) * along_y
        gradient[r.bottom, 0] += r.by_bottom * along_x
        gradient[r.bottom, 1] += r.by_bottom * along_y


@_compile
@no_type_check
def _scratch(vertices, faces, edges, size):
    x, y, front = np.empty(vertices), np.empty(vertices), np.empty(faces, np.bool_)
    outline, chosen = np.empty(edges, _EDGE), np.empty(edges + 1, np.int32)
    last, left = np.full((size, size), -1, np.int32), np.zeros(size + 1, np.int32)
    occupied = np.zeros((size, (size + 63) // 64), np.uint64)
    lines, own = np.zeros((9, _CROWD // _LANES, _LANES)), np.empty(_CROWD, np.int64)
    cuts, shown = np.empty(3 * _CROWD + 2), np.empty((_CROWD, 2))
    return (x, y, front, chosen, outline), ((last, left, occupied), (lines, own, cuts, shown))


@_inline
@no_type_check
def _render(outlining, length, pieces, scratch, mask, records):
    x, y, _, _, outline = outlining
    grid, union = scratch
    last, left, occupied = grid
    size = len(mask)
    if length < 0:
        mask[:] = np.nan
        return -1
    made = 0
    for e in range(length):
        made = _cut(outline, e, x, y, grid, pieces, made)
    kept = 0
    for row in range(size):
        layers, at = left[row], 0
        left[row] = 0
        line = mask[row]
        for word in range(occupied.shape[1]):
            bits = occupied[row, word]
            if bits == 0:
                continue
            occupied[row, word] = 0
            while bits != 0:
                column = 64 * word + _lowest_bit(bits)
                bits &= bits - np.uint64(1)
                _fill(line, at, column, layers > 0)
                head = last[row, column]
                last[row, column] = -1
                line[column], kept, layers = _pixel(
                    pieces, head, layers, row * size + column, outline, (row, column, size), records, kept, union
                )
                at = column + 1
        _fill(line, at, size, layers > 0)
    return kept


@_inline
@no_type_check
def _fill(line, start, stop, value):
    part = line[start:stop]
    for k in range(len(part)):
        part[k] = value


@_inline
@no_type_check
def _pixel(pieces, head, layers, pixel, outline, place, records, kept, union):
    """Returns coverage, the number of records, and the layers over the next pixel's corner."""
    p = pieces[head]
    if p.next < 0:
        after = layers + p.sign * (p.enters == _TOP)
        if layers == 0 or layers == 1:
            won = p.sign * ((p.leaves == _LEFT) * (1 - p.y1) - (p.enters == _LEFT) * (1 - p.y0))
            gained = won + p.sign * (p.y1 - p.y0) * (1 - 0.5 * (p.x0 + p.x1))
            if layers == 0 or gained < 0:
                kept = _keep(records, kept, pixel, place, p, outline, 1.0, 0.5)
                return min(max(layers + gained, 0.0), 1.0), kept, after
        return min(max(layers, 0), 1) * 1.0, kept, after
    count, crossings, headings, won, area, after = 0, 0, 0, 0.0, 0.0, layers
    k = head
    while k >= 0:
        p = pieces[k]
        dx, dy = p.sign * (p.x1 - p.x0), p.sign * (p.y1 - p.y0)
        headings |= (dx > 0) | (dx < 0) << 1 | (dy > 0) << 2 | (dy < 0) << 3
        crossings += (p.enters != _VERTEX) + (p.leaves != _VERTEX)
        won += p.sign * ((p.leaves == _LEFT) * (1 - p.y1) - (p.enters == _LEFT) * (1 - p.y0))
        area += dy * (1 - 0.5 * (p.x0 + p.x1))
        after += p.sign * (p.enters == _TOP)
        count += 1
        k = p.next
    inside = min(max(layers, 0), 1) * 1.0
    turns_back = (headings & 3) == 3 and (headings & 12) == 12
    if (crossings > 2 or turns_back) and count <= _CROWD:
        if layers <= count:
            lines, own, cuts, shown = union
            won = _show_parts(pieces, head, layers, lines, own, cuts, shown)
            if won < _FARTHEST:
                area = min(layers, 1) + won
                for i in range(count):
                    if shown[i, 0] > 0:
                        p = pieces[own[i]]
                        area += p.sign * (p.y1 - p.y0) * (shown[i, 0] * (1 - p.x0) - shown[i, 1] * (p.x1 - p.x0))
                        kept = _keep(records, kept, pixel, place, p, outline, shown[i, 0], shown[i, 1])
                return min(max(area, 0.0), 1.0), kept, after
    elif layers == 0 or (layers == 1 and won + area < 0):
        k = head
        while k >= 0:
            kept = _keep(records, kept, pixel, place, pieces[k], outline, 1.0, 0.5)
            k = pieces[k].next
        return min(max(layers + won + area, 0.0), 1.0), kept, after
    return inside, kept, after


@_inline
@no_type_check
def _keep(records, kept, pixel, place, p, outline, shown, moment):
    if kept < len(records):
        row, column, size = place
        e, r = outline[p.edge], records[kept]
        t = moment / shown
        x, y = column + p.x0 + t * (p.x1 - p.x0), row + p.y0 + t * (p.y1 - p.y0)
        r.by_bottom = min(max((x - e.x0) * e.per_x + (y - e.y0) * e.per_y, 0.0), 1.0)
        weight = 0.5 * size * p.sign * shown
        r.pixel, r.top, r.bottom = pixel, e.top, e.bottom
        r.along_x, r.along_y = weight * (p.y0 - p.y1), weight * (p.x1 - p.x0)
    return kept + 1


@_inline
@no_type_check
def _to_pixels(points, size, x, y):
    finite = True
    for v in range(len(points)):
        x[v] = (points[v, 0] + 1.0) * (0.5 * size)
        y[v] = (points[v, 1] + 1.0) * (0.5 * size)
        finite &= (abs(x[v]) < _FARTHEST) & (abs(y[v]) < _FARTHEST) & np.isfinite(points[v, 2])
    return finite


@_inline
@no_type_check
def _outline(points, faces, edges, size, outlining):
    """Find the edges between a triangle seen from the front and one that is not; their number, and one that bounds
    that of their pieces. The first is -1 if a coordinate is not finite.

    Front is where the signed area is positive, whichever way the mesh is oriented: turned inside out, its other half
    has the same outline. A triangle without area counts as seen from behind and adds none, only a detour.
    """
    x, y, front, chosen, outline = outlining
    if not _to_pixels(points, size, x, y):
        return -1, 0
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        front[f] = (x[j] - x[i]) * (y[k] - y[i]) > (y[j] - y[i]) * (x[k] - x[i])
    count, pieces = 0, 0
    for e in range(len(edges)):
        chosen[count] = e
        count += front[edges[e, 2]] != front[edges[e, 3]]
    made = 0
    for c in range(count):
        e = chosen[c]
        u, v = (edges[e, 1], edges[e, 0]) if front[edges[e, 2]] else (edges[e, 0], edges[e, 1])
        o = outline[made]
        o.sign = 1
        if y[u] > y[v]:
            u, v = v, u
            o.sign = -1
        if y[v] < 0 or y[u] >= size or min(x[u], x[v]) >= size or (x[u] == x[v] and y[u] == y[v]):
            continue
        o.top, o.bottom, o.x0, o.y0 = u, v, x[u], y[u]
        dx, dy = x[v] - x[u], y[v] - y[u]
        if abs(dx) > dy:
            o.per_x, o.per_y = 1 / dx, 0.0
        else:
            o.per_x, o.per_y = 0.0, 1 / dy
        pieces += 1 + abs(_cell(x[u], size) - _cell(x[v], size)) + abs(_cell(y[u], size) - _cell(y[v], size))
        made += 1
    return made, pieces


@_inline
@no_type_check
def _cell(coordinate, size):
    """The row or column that a coordinate lies in; -1 before the frame, size behind it, however far."""
    if coordinate >= size:
        return size
    return int(coordinate) if coordinate >= 0 else -1


@_inline
@no_type_check
def _cut(outline, e, x, y, grid, pieces, count):
    """Walk the directed edge from u to v, writing its pieces after the first ``count``; returns their new number.

    Each step goes to a neighbouring cell and across one line of the grid. So layers, counted where an edge crosses a
    line between rows, stay whole numbers and come to nothing right of a closed outline, whatever is rounded. Of what
    lies outside the frame, only the part on the left counts.
    """
    last, left, _ = grid
    size = len(last)
    top, bottom, sign = outline[e].top, outline[e].bottom, outline[e].sign
    x0, y0, x1, y1 = x[top], y[top], x[bottom], y[bottom]
    row, column, last_row = _cell(y0, size), _cell(x0, size), _cell(y1, size)
    x_per_y, y_per_x = (x1 - x0) / (y1 - y0), (y1 - y0) / (x1 - x0)
    near_x, near_y = (x0, y0) if abs(x0) + abs(y0) < abs(x1) + abs(y1) else (x1, y1)
    from_x, from_y, enters = x0, y0, _VERTEX
    step = 1 if x1 > x0 else -1
    while True:
        to_x, to_y, leaves = x1, y1, _VERTEX
        if row < last_row:
            to_x, to_y, leaves = near_x + x_per_y * (row + 1 - near_y), row + 1.0, _BOTTOM
            to_x = min(max(to_x, min(x0, x1)), max(x0, x1))
        to_column = _cell(to_x, size)
        if row >= 0:
            while column != to_column:
                step = 1 if column < to_column else -1
                line = max(column, column + step)
                line_y = min(max(near_y + y_per_x * (line - near_x), from_y), to_y)
                if 0 <= column < size:
                    _write(
                        pieces,
                        count,
                        grid,
                        (row, column),
                        (from_x, from_y, line, line_y),
                        (e, sign),
                        (enters, _RIGHT if step > 0 else _LEFT),
                    )
                    count += 1
                from_x, from_y, enters = line, line_y, _LEFT if step > 0 else _RIGHT
                column += step
            if 0 <= column < size:
                _write(pieces, count, grid, (row, column), (from_x, from_y, to_x, to_y), (e, sign), (enters, leaves))
                count += 1
        row += 1
        if row > last_row or row == size:
            return count
        if to_column < 0:
            left[row] += sign
        column, from_x, from_y, enters = to_column, to_x, to_y, _TOP


@_inline
@no_type_check
def _write(pieces, count, grid, cell, ends, edge, sides):
    last, _, occupied = grid
    row, column = cell
    p = pieces[count]
    p.next = last[row, column]
    last[row, column] = count
    occupied[row, column >> 6] |= np.uint64(1) << np.uint64(column & 63)
    p.x0, p.y0, p.x1, p.y1 = ends[0] - column, ends[1] - row, ends[2] - column, ends[3] - row
    p.edge, p.sign = edge
    p.enters, p.leaves = sides


@_inline
@no_type_check
def _show_parts(pieces, head, layers, lines, own, cuts, shown):
    """Cut the pieces in one pixel where they meet and find the parts that separate one layer from none.

    The layers beside a part are counted along the straight line from the pixel's top left corner to its middle.
    """
    count, losing, open_ends, other_ends, k = 0, 0, 0, 0, head
    while k >= 0:
        p = pieces[k]
        gain = _draw(lines, count, p)
        own[count] = k
        ends = (p.enters != _VERTEX) + (p.leaves != _VERTEX)
        if gain < 0:
            losing += 1
            open_ends += ends
        else:
            other_ends += 2 - ends
        count += 1
        k = p.next
    if layers > (open_ends + min(2 * losing - open_ends, other_ends)) // 2:
        return np.inf
    blocks = (count + _LANES - 1) // _LANES
    for i in range(count, blocks * _LANES):
        lines[_GAIN, i // _LANES, i % _LANES] = 0
    met = np.uint64(0)
    for i in range(1, count):
        met |= _find_meetings(lines, i)
    for i in range(count):
        low = layers + int(min(lines[_GAIN, i // _LANES, i % _LANES], 0.0))
        if (met >> np.uint64(i)) & np.uint64(1) == 0:
            seen = low + _gained(lines, blocks, i, 0.5) <= 0
            shown[i, 0], shown[i, 1] = seen, 0.5 * seen
        else:
            found = _find_cuts(lines, count, i, cuts)
            total, moment = 0.0, 0.0
            for c in range(1, found):
                t, length = 0.5 * (cuts[c - 1] + cuts[c]), cuts[c] - cuts[c - 1]
                if low + _gained(lines, blocks, i, t) <= 0:
                    total += length
                    moment += length * t
            shown[i, 0], shown[i, 1] = total, moment
    return _won_on_left(pieces, own, count, layers, cuts)


@_inline
@no_type_check
def _won_on_left(pieces, own, count, layers, cuts):
    """Measure how much more of a pixel's left side is covered than if all of it were as its top end is."""
    found = 0
    for i in range(count):
        p = pieces[own[i]]
        if p.enters == _LEFT:
            cuts[found], cuts[_CROWD + found] = p.y0, -p.sign
            found += 1
        if p.leaves == _LEFT:
            cuts[found], cuts[_CROWD + found] = p.y1, p.sign
            found += 1
    won = 0.0
    for i in range(found):
        y, gain, above = cuts[i], cuts[_CROWD + i], layers
        for j in range(found):
            if cuts[j] < y or (cuts[j] == y and j < i):
                above += int(cuts[_CROWD + j])
        if above + min(gain, 0) <= 0:
            won += gain * (1 - y)
    return won


@_inline
@no_type_check
def _draw(lines, i, p):
    """Make a line of a piece, drawn in by _MARGIN from the sides of the pixel but for the ends that cross them."""
    a = lines[:, i // _LANES, i % _LANES]
    x0, y0 = _draw_in(p.x0, _INSET_X, p.enters), _draw_in(p.y0, _INSET_Y, p.enters)
    x1, y1 = _draw_in(p.x1, _INSET_X, p.leaves), _draw_in(p.y1, _INSET_Y, p.leaves)
    dx, dy = x1 - x0, y1 - y0
    right = (_CORNER_X - x0) * dy - (_CORNER_Y - y0) * dx > 0
    gain = -p.sign if right else p.sign
    a[_X0], a[_Y0], a[_X1], a[_Y1] = x0, y0, x1, y1
    a[_DX], a[_DY], a[_NEAR] = dx, dy, _TOUCH * (abs(dx) + abs(dy))
    a[_GAIN], a[_RIGHT_OF] = gain, right
    return gain


@_inline
@no_type_check
def _draw_in(value, inset, side):
    return inset[side, 0] + inset[side, 1] * value


@_inline
@no_type_check
def _find_meetings(lines, i):
    """Mark line i and the lines before it that it crosses or touches elsewhere than where both end, as bits."""
    a = lines[:, i // _LANES, i % _LANES]
    x0, y0, x1, y1, dx, dy, near = a[_X0], a[_Y0], a[_X1], a[_Y1], a[_DX], a[_DY], a[_NEAR]
    met = np.uint64(0)
    for block in range((i + _LANES - 1) // _LANES):
        first, bits = block * _LANES, 0
        for lane in range(_LANES):
            bx, by, cx, cy = (
                lines[_X0, block, lane],
                lines[_Y0, block, lane],
                lines[_X1, block, lane],
                lines[_Y1, block, lane],
            )
            ex, ey, close = lines[_DX, block, lane], lines[_DY, block, lane], lines[_NEAR, block, lane]
            begin, end = (bx - x0) * dy - (by - y0) * dx, (cx - x0) * dy - (cy - y0) * dx
            top, bottom = (x0 - bx) * ey - (y0 - by) * ex, (x1 - bx) * ey - (y1 - by) * ex
            one_side = ((begin > near) & (end > near)) | ((begin < -near) & (end < -near))
            aside = ((top > close) & (bottom > close)) | ((top < -close) & (bottom < -close))
            across = ((begin > near) & (end < -near)) | ((begin < -near) & (end > near))
            over = ((top > close) & (bottom < -close)) | ((top < -close) & (bottom > close))
            along = (abs(begin) <= near) & (abs(end) <= near)
            meet = (across | over | along) & (not one_side) & (not aside)
            bits |= meet << lane
        met |= np.uint64(bits & ((1 << min(i - first, _LANES)) - 1)) << np.uint64(first)
    return met | (np.uint64(met != 0) << np.uint64(i))


@_inline
@no_type_check
def _find_cuts(lines, count, i, cuts):
    """Write the sorted parameters at which other lines cross or touch line i, between 0 and 1; returns their number."""
    found = 1
    a = lines[:, i // _LANES, i % _LANES]
    x0, y0, x1, y1, dx, dy, near = a[_X0], a[_Y0], a[_X1], a[_Y1], a[_DX], a[_DY], a[_NEAR]
    for j in range(count):
        b = lines[:, j // _LANES, j % _LANES]
        bx, by, cx, cy = b[_X0], b[_Y0], b[_X1], b[_Y1]
        begin, end = (bx - x0) * dy - (by - y0) * dx, (cx - x0) * dy - (cy - y0) * dx
        if j == i or (begin > near and end > near) or (begin < -near and end < -near):
            continue
        if abs(begin) <= near:
            found = _insert(cuts, found, ((bx - x0) * dx + (by - y0) * dy) / (dx * dx + dy * dy))
        if abs(end) <= near:
            found = _insert(cuts, found, ((cx - x0) * dx + (cy - y0) * dy) / (dx * dx + dy * dy))
        ex, ey = b[_DX], b[_DY]
        top, bottom = (x0 - bx) * ey - (y0 - by) * ex, (x1 - bx) * ey - (y1 - by) * ex
        if begin * end < 0 and top * bottom < 0:
            found = _insert(cuts, found, top / (top - bottom))
    cuts[0], cuts[found] = 0.0, 1.0
    return found + 1


@_inline
@no_type_check
def _insert(cuts, found, t):
    """Insert a cut in order unless it is at an end of the line."""
    if not (_TOUCH < t < 1 - _TOUCH):
        return found
    at = found
    while at > 1 and cuts[at - 1] > t:
        cuts[at] = cuts[at - 1]
        at -= 1
    cuts[at] = t
    return found + 1


@_inline
@no_type_check
def _gained(lines, blocks, i, t):
    """Add up the layers gained on the way from the corner to the point t of line i, line i not included.

    Where lines coincide, those of lower index count as nearer to the corner.
    """
    a = lines[:, i // _LANES, i % _LANES]
    x, y = a[_X0] + t * a[_DX], a[_Y0] + t * a[_DY]
    dx, dy = x - _CORNER_X, y - _CORNER_Y
    layers = 0
    for block in range(blocks):
        for lane in range(_LANES):
            j = block * _LANES + lane
            bx, by = lines[_X0, block, lane], lines[_Y0, block, lane]
            begins_right = (bx - _CORNER_X) * dy >= (by - _CORNER_Y) * dx
            ends_right = (lines[_X1, block, lane] - _CORNER_X) * dy >= (lines[_Y1, block, lane] - _CORNER_Y) * dx
            side = (x - bx) * lines[_DY, block, lane] - (y - by) * lines[_DX, block, lane]
            crossed = (side > 0) != (lines[_RIGHT_OF, block, lane] > 0)
            near = abs(side) <= lines[_NEAR, block, lane]
            counts = (begins_right != ends_right) & (j != i) & ((near & (j < i)) | (~near & crossed))
            layers += int(lines[_GAIN, block, lane]) if counts else 0
    return layers
