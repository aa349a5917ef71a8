"""Numba kernels of the contour renderer: exact areas and their exact gradient, on the calling thread.

The outline of the front-facing triangles of a closed mesh bounds the number of front-facing layers over every point.
Each edge of the outline is walked through the grid and cut into *pieces*, one for each pixel that it crosses. The
layers over a pixel's top left corner are counted in integers; from there the pieces within the pixel tell the rest.

Lengths are in pixels, x right and y down; pixel (row, column) spans [column, column + 1) x [row, row + 1). Edges are
walked downwards, and one of sign s has s layers more on its right than on its left. A piece's coordinates are those
within its pixel, in [0, 1].
"""

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from numba import njit

_PIECE = np.dtype(
    [
        ("row", np.int32),
        ("column", np.int32),
        ("next", np.int32),  # in the same pixel; -1 at the end
        ("top", np.int32),  # the vertices of the edge that it is cut from
        ("bottom", np.int32),
        ("sign", np.int32),
        ("enters", np.int32),  # by which side of the pixel, or _VERTEX if the edge begins or ends within
        ("leaves", np.int32),
        ("x0", np.float64),
        ("y0", np.float64),
        ("x1", np.float64),
        ("y1", np.float64),
        ("shown", np.float64),  # the integral of dt, t from 0 to 1, over the parts that bound the silhouette
        ("moment", np.float64),  # and that of t dt
        ("won", np.float64),  # for a pixel's last piece: how much more of its left side is covered than at its corner
    ],
    align=True,
)
_LINE = np.dtype(
    [
        ("piece", np.int32),
        ("gain", np.int32),  # the layers gained by coming across from the corner's side
        ("met", np.bool_),
        ("x0", np.float64),
        ("y0", np.float64),
        ("x1", np.float64),
        ("y1", np.float64),
        ("dx", np.float64),
        ("dy", np.float64),
        ("corner", np.float64),  # the side that the pixel's corner is on
        ("touch", np.float64),  # what _side may be of a point that counts as on the line
    ],
    align=True,
)
_VERTEX, _TOP, _LEFT, _RIGHT, _BOTTOM = range(5)
_MARGIN, _TOUCH = 1e-12, 1e-14  # far above the rounding of numbers up to 1, far below what shows
_CORNER_X, _CORNER_Y = 0.4 * _MARGIN, 0.3 * _MARGIN  # nearer to the corner than any line, and in line with nothing
_INSET = (_MARGIN, 1 - 2 * _MARGIN)
_INSET_X = np.array([_INSET, _INSET, (0, 0), (1, 0), _INSET])
_INSET_Y = np.array([_INSET, (0, 0), _INSET, _INSET, (1, 0)])
_CROWD = 64
_FARTHEST = 1e200  # in float64, slopes are finite up to here


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the result where there is a place that can be written to."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:
        return njit(nogil=True, error_model="numpy")(function)


@_compile
@no_type_check
def coverage(points, faces, edges, start, stop, masks):
    """Render samples start to stop of points (b, v, 3), in crop units, into masks (b, s, s)."""
    size = masks.shape[1]
    for sample in range(start, stop):
        mask = masks[sample]
        x, y, finite = _to_pixels(points[sample], size)
        if not finite:
            mask[:] = np.nan
            continue
        pieces, last, layers = _visible_pieces(x, y, faces, edges, size)
        mask[:] = np.minimum(np.maximum(layers[:, :size], 0), 1)
        for head in range(len(pieces)):
            row, column = pieces[head].row, pieces[head].column
            if last[row, column] != head:
                continue
            area, k = min(layers[row, column], 1) + pieces[head].won, head
            while k >= 0:
                p = pieces[k]
                area += p.sign * (p.y1 - p.y0) * (p.shown * (1 - p.x0) - p.moment * (p.x1 - p.x0))
                k = p.next
            mask[row, column] = min(max(area, 0.0), 1.0)


@_compile
@no_type_check
def coverage_gradient(points, faces, edges, start, stop, weights, gradient):
    """Add the gradient of sum(weights * masks) to gradient (b, v, 3), in samples start to stop."""
    size = weights.shape[1]
    for sample in range(start, stop):
        x, y, finite = _to_pixels(points[sample], size)
        if not finite:
            gradient[sample, :, :2] = np.nan
            continue
        pieces, _, _ = _visible_pieces(x, y, faces, edges, size)
        for k in range(len(pieces)):
            p = pieces[k]
            if p.shown == 0:
                continue
            begin = _along_edge(p.x0 + p.column, p.y0 + p.row, x, y, p.top, p.bottom)
            end = _along_edge(p.x1 + p.column, p.y1 + p.row, x, y, p.top, p.bottom)
            by_bottom = begin * p.shown + (end - begin) * p.moment
            by_top = p.shown - by_bottom
            weight = 0.5 * size * p.sign * weights[sample, p.row, p.column]
            along_x, along_y = -weight * (p.y1 - p.y0), weight * (p.x1 - p.x0)
            gradient[sample, p.top, 0] += by_top * along_x
            gradient[sample, p.top, 1] += by_top * along_y
            gradient[sample, p.bottom, 0] += by_bottom * along_x
            gradient[sample, p.bottom, 1] += by_bottom * along_y


@_compile
@no_type_check
def _along_edge(at_x, at_y, x, y, top, bottom):
    """Tell where on an edge, 0 at its top and 1 at its bottom, a point lies."""
    dx, dy = x[bottom] - x[top], y[bottom] - y[top]
    t = (at_x - x[top]) / dx if abs(dx) > dy else (at_y - y[top]) / dy
    return min(max(t, 0.0), 1.0)


@_compile
@no_type_check
def _to_pixels(points, size):
    x, y = np.empty(len(points)), np.empty(len(points))
    finite = True
    for v in range(len(points)):
        x[v] = (points[v, 0] + 1.0) * (0.5 * size)
        y[v] = (points[v, 1] + 1.0) * (0.5 * size)
        finite &= (abs(x[v]) < _FARTHEST) & (abs(y[v]) < _FARTHEST) & np.isfinite(points[v, 2])
    return x, y, finite


@_compile
@no_type_check
def _visible_pieces(x, y, faces, edges, size):
    """Cut the outline into pieces and find what of each bounds the silhouette.

    Returns the pieces, the last one in each pixel (-1 where none is), and the layers over each top left corner.
    """
    outline, capacity = _outline(x, y, faces, edges, size)
    pieces = np.empty(capacity + 1, _PIECE)
    layers = np.zeros((size, size + 1), np.int32)
    count = 0
    for e in range(len(outline)):
        count = _cut(outline[e, 0], outline[e, 1], x, y, layers, pieces, count)
    pieces = pieces[:count]
    for row in range(size):
        for column in range(1, size):
            layers[row, column] += layers[row, column - 1]
    last = np.full((size, size), -1, np.int32)
    for k in range(count):
        p = pieces[k]
        p.next = last[p.row, p.column]
        last[p.row, p.column] = k
    lines, cuts = np.empty(_CROWD, _LINE), np.empty(3 * _CROWD + 2)
    for k in range(count):
        row, column = pieces[k].row, pieces[k].column
        if last[row, column] == k:
            _show(pieces, k, layers[row, column], lines, cuts)
    return pieces, last, layers


@_compile
@no_type_check
def _outline(x, y, faces, edges, size):
    """Find the edges between a triangle seen from the front and one that is not, and a bound on their pieces.

    Front is where the signed area is positive, whichever way the mesh is oriented: turned inside out, its other half
    has the same outline. A triangle without area counts as seen from behind and adds none, only a detour.
    """
    front = np.empty(len(faces), np.bool_)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        front[f] = (x[j] - x[i]) * (y[k] - y[i]) > (y[j] - y[i]) * (x[k] - x[i])
    outline = np.empty((len(edges), 2), np.int32)
    count, pieces = 0, 0
    for e in range(len(edges)):
        forth, back = front[edges[e, 2]], front[edges[e, 3]]
        if forth != back:
            u, v = edges[e, 0], edges[e, 1]
            outline[count, 0], outline[count, 1] = (v, u) if forth else (u, v)
            count += 1
            pieces += 1 + abs(_cell(x[u], size) - _cell(x[v], size)) + abs(_cell(y[u], size) - _cell(y[v], size))
    return outline[:count], pieces


@_compile
@no_type_check
def _cell(coordinate, size):
    """The row or column that a coordinate lies in; -1 before the frame, size behind it, however far."""
    if coordinate >= size:
        return size
    return int(coordinate) if coordinate >= 0 else -1


@_compile
@no_type_check
def _cut(u, v, x, y, layers, pieces, count):
    """Walk the directed edge from u to v, writing its pieces after the first ``count``; returns their new number.

    Each step goes to a neighbouring cell and across one line of the grid. So layers, counted where an edge crosses a
    line between rows, stay whole numbers and come to nothing right of a closed outline, whatever is rounded. Of what
    lies outside the frame, only the part on the left counts.
    """
    size = len(layers)
    top, bottom, sign = (u, v, 1) if y[u] <= y[v] else (v, u, -1)
    x0, y0, x1, y1 = x[top], y[top], x[bottom], y[bottom]
    row, column, last_row = _cell(y0, size), _cell(x0, size), _cell(y1, size)
    if last_row < 0 or row == size or min(x0, x1) >= size or (x0 == x1 and y0 == y1):
        return count
    x_per_y, y_per_x = (x1 - x0) / (y1 - y0), (y1 - y0) / (x1 - x0)
    near_x, near_y = (x0, y0) if abs(x0) + abs(y0) < abs(x1) + abs(y1) else (x1, y1)
    from_x, from_y, enters = x0, y0, _VERTEX
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
                sides = enters, _RIGHT if step > 0 else _LEFT
                _write(pieces[count], row, column, (from_x, from_y, line, line_y), (top, bottom, sign), sides)
                count += 0 <= column < size
                from_x, from_y, enters = line, line_y, _LEFT if step > 0 else _RIGHT
                column += step
            _write(pieces[count], row, column, (from_x, from_y, to_x, to_y), (top, bottom, sign), (enters, leaves))
            count += 0 <= column < size
        row += 1
        if row > last_row or row == size:
            return count
        if to_column < size:
            layers[row, to_column + 1] += sign
        column, from_x, from_y, enters = to_column, to_x, to_y, _TOP


@_compile
@no_type_check
def _write(p, row, column, ends, edge, sides):
    p.row, p.column = row, column
    p.x0, p.y0, p.x1, p.y1 = ends[0] - column, ends[1] - row, ends[2] - column, ends[3] - row
    p.top, p.bottom, p.sign = edge
    p.enters, p.leaves = sides
    p.shown, p.moment, p.won = 0.0, 0.0, 0.0


@_compile
@no_type_check
def _show(pieces, head, layers, lines, cuts):
    """Find what the pieces in one pixel show: the parts that have no layer on one side.

    Where a single stretch of outline passes, without turning back in both x and y, there are n layers on one side of
    it and n + 1 on the other. What else can be in a pixel is left to _show_parts, but for a crowd of pieces, which
    would take too long: there the layers' areas are added up.
    """
    count, crossings, headings, won, area = 0, 0, 0, 0.0, 0.0
    k = head
    while k >= 0:
        p = pieces[k]
        dx, dy = p.sign * (p.x1 - p.x0), p.sign * (p.y1 - p.y0)
        headings |= (dx > 0) | (dx < 0) << 1 | (dy > 0) << 2 | (dy < 0) << 3
        crossings += (p.enters != _VERTEX) + (p.leaves != _VERTEX)
        for end in range(2):
            y, gain = _crosses_left(p, end)
            won += gain * (1 - y)
        area += dy * (1 - 0.5 * (p.x0 + p.x1))
        count += 1
        k = p.next
    turns_back = (headings & 3) == 3 and (headings & 12) == 12
    if (crossings > 2 or turns_back) and count <= _CROWD:
        if layers <= count:
            _show_parts(pieces, head, layers, lines, cuts)
    elif layers == 0 or (layers == 1 and won + area < 0):
        pieces[head].won = won
        k = head
        while k >= 0:
            pieces[k].shown, pieces[k].moment = 1.0, 0.5
            k = pieces[k].next


@_compile
@no_type_check
def _show_parts(pieces, head, layers, lines, cuts):
    """Cut the pieces in one pixel where they meet and find the parts that separate one layer from none.

    The layers beside a part are counted along the straight line from the pixel's top left corner to its middle.
    """
    count, lowest, k = 0, layers, head
    while k >= 0:
        _draw(lines[count], pieces[k], k)
        lowest += min(lines[count].gain, 0)
        count += 1
        k = pieces[k].next
    if lowest > 0:
        return
    for i in range(count):
        for j in range(i):
            if _meet(lines[i], lines[j]):
                lines[i].met = lines[j].met = True
    for i in range(count):
        p, low = pieces[lines[i].piece], layers + min(lines[i].gain, 0)
        cuts[0], cuts[1], found = 0.0, 1.0, 2
        if lines[i].met:
            found = _find_cuts(lines, count, i, cuts)
        for c in range(1, found):
            t, length = 0.5 * (cuts[c - 1] + cuts[c]), cuts[c] - cuts[c - 1]
            if low + _gained(lines, count, i, t) <= 0:
                p.shown += length
                p.moment += length * t
    pieces[head].won = _won_on_left(pieces, lines, count, layers)


@_compile
@no_type_check
def _won_on_left(pieces, lines, count, layers):
    """Measure how much more of a pixel's left side is covered than if all of it were as its top end is."""
    won = 0.0
    for i in range(2 * count):
        y, gain = _crosses_left(pieces[lines[i // 2].piece], i % 2)
        if gain == 0:
            continue
        above = layers
        for j in range(2 * count):
            other_y, other_gain = _crosses_left(pieces[lines[j // 2].piece], j % 2)
            if other_y < y or (other_y == y and j < i):
                above += other_gain
        if above + min(gain, 0) <= 0:
            won += gain * (1 - y)
    return won


@_compile
@no_type_check
def _crosses_left(p, end):
    """Return where on the pixel's left side a piece begins (0) or ends (1), and the layers gained downwards there."""
    if end == 0:
        return p.y0, -p.sign * (p.enters == _LEFT)
    return p.y1, p.sign * (p.leaves == _LEFT)


@_compile
@no_type_check
def _draw(line, p, k):
    """Make a line of a piece, drawn in by _MARGIN from the sides of the pixel but for the ends that cross them."""
    line.piece = k
    line.met = False
    line.x0, line.y0 = _draw_in(p.x0, _INSET_X, p.enters), _draw_in(p.y0, _INSET_Y, p.enters)
    line.x1, line.y1 = _draw_in(p.x1, _INSET_X, p.leaves), _draw_in(p.y1, _INSET_Y, p.leaves)
    line.dx, line.dy = line.x1 - line.x0, line.y1 - line.y0
    line.corner = _side(line, _CORNER_X, _CORNER_Y)
    line.gain = -p.sign if line.corner > 0 else p.sign
    line.touch = _TOUCH * (abs(line.dx) + abs(line.dy))


@_compile
@no_type_check
def _draw_in(value, inset, side):
    return inset[side, 0] + inset[side, 1] * value


@_compile
@no_type_check
def _side(line, x, y):
    """Tell how far right of a line, looking down it, a point lies, in units of the line's length."""
    return (x - line.x0) * line.dy - (y - line.y0) * line.dx


@_compile
@no_type_check
def _sign(side, touch):
    return (side > touch) - (side < -touch)


@_compile
@no_type_check
def _meet(a, b):
    """Tell whether two lines cross or touch elsewhere than where both end."""
    begin, end = _sign(_side(a, b.x0, b.y0), a.touch), _sign(_side(a, b.x1, b.y1), a.touch)
    if begin * end > 0:
        return False
    top, bottom = _sign(_side(b, a.x0, a.y0), b.touch), _sign(_side(b, a.x1, a.y1), b.touch)
    if top * bottom > 0:
        return False
    return begin * end < 0 or top * bottom < 0 or (begin == 0 and end == 0)


@_compile
@no_type_check
def _find_cuts(lines, count, i, cuts):
    """Write the sorted parameters at which other lines cross or touch line i, between 0 and 1; returns their number."""
    a, found = lines[i], 1
    for j in range(count):
        b = lines[j]
        begin, end = _side(a, b.x0, b.y0), _side(a, b.x1, b.y1)
        if j == i or (begin > a.touch and end > a.touch) or (begin < -a.touch and end < -a.touch):
            continue
        if abs(begin) <= a.touch:
            found = _insert(cuts, found, _project(a, b.x0, b.y0))
        if abs(end) <= a.touch:
            found = _insert(cuts, found, _project(a, b.x1, b.y1))
        top, bottom = _side(b, a.x0, a.y0), _side(b, a.x1, a.y1)
        if begin * end < 0 and top * bottom < 0:
            found = _insert(cuts, found, top / (top - bottom))
    cuts[found] = 1.0
    return found + 1


@_compile
@no_type_check
def _project(line, x, y):
    return ((x - line.x0) * line.dx + (y - line.y0) * line.dy) / (line.dx * line.dx + line.dy * line.dy)


@_compile
@no_type_check
def _insert(cuts, found, t):
    """Insert a cut in order unless it is at an end of the line."""
    if not (_TOUCH < t < 1 - _TOUCH):
        return found
    at = found
    while cuts[at - 1] > t:
        cuts[at] = cuts[at - 1]
        at -= 1
    cuts[at] = t
    return found + 1


@_compile
@no_type_check
def _gained(lines, count, i, t):
    """Add up the layers gained on the way from the corner to the point t of line i, line i not included.

    Where lines coincide, those of lower index count as nearer to the corner.
    """
    x, y = lines[i].x0 + t * lines[i].dx, lines[i].y0 + t * lines[i].dy
    dx, dy = x - _CORNER_X, y - _CORNER_Y
    layers = 0
    for j in range(count):
        b = lines[j]
        begins_right = (b.x0 - _CORNER_X) * dy >= (b.y0 - _CORNER_Y) * dx
        ends_right = (b.x1 - _CORNER_X) * dy >= (b.y1 - _CORNER_Y) * dx
        if begins_right == ends_right or j == i:
            continue
        side = _side(b, x, y)
        if (j < i) if abs(side) <= b.touch else (side > 0) != (b.corner > 0):
            layers += b.gain
    return layers
