"""Numba kernels of the contour renderer: exact areas and their exact gradient, on the calling thread.

The outline of the front-facing triangles of a closed mesh bounds the number of front-facing layers over every point.
Each edge of the outline is walked through the grid and cut into *pieces*, one for each pixel that it crosses. The
layers over a pixel's top left corner are counted in integers; from there the pieces within the pixel tell the rest.
What shows of a piece is kept as a *record*, all that the gradient needs.

Lengths are in pixels, x right and y down; pixel (row, column) spans [column, column + 1) x [row, row + 1). Edges are
walked downwards, and one of sign s has s layers more on its right than on its left. A piece's coordinates are those
within its pixel, in [0, 1].
"""

from typing import no_type_check

import numpy as np
from numba import types
from numba.extending import intrinsic

from hamr_lightning.compiled import compiled

_EDGE = np.dtype(
    [
        ("top", np.int32),  # its vertices
        ("bottom", np.int32),
        ("sign", np.int32),
        ("x0", np.float64),
        ("y0", np.float64),
        ("x1", np.float64),
        ("y1", np.float64),
        ("per_x", np.float64),  # how far along the edge, from 0 to 1, a step in x or y leads;
        ("per_y", np.float64),  # 0 for its shorter side
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
# Rows of a table of the lines in a pixel; line i is at [row, i // _LANES, i % _LANES], for the sake of vector units
_X0, _Y0, _X1, _Y1, _DX, _DY, _NEAR, _GAIN, _RIGHT_OF = range(9)
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


_compile = compiled(error_model="numpy")
# Into the callers, without numba's counts of references, which took longer than the work itself.
_inline = compiled(error_model="numpy", forceinline=True, _nrt=False)


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
    sketch, grid, lines = _scratch(points.shape[1], len(faces), len(edges), size)
    pieces = np.empty(0, _PIECE)
    while True:
        sample = _take(done)
        if sample >= len(points):
            return
        counts[sample], most = _outline(points[sample], faces, edges, size, sketch)
        if most > len(pieces):
            pieces = np.empty(2 * most, _PIECE)
        if counts[sample] < 0:
            masks[sample] = np.nan
        else:
            outline = sketch[4][: counts[sample]]
            counts[sample] = _render(outline, pieces, grid, lines, masks[sample], records[sample])
        _clear(records[sample][max(counts[sample], 0) :])


@_compile
@no_type_check
def coverage_gradient(points, faces, edges, records, counts, weights, gradient):
    """Add the gradient of sum(weights * masks) to gradient (b, v, 3)."""
    size = weights.shape[1]
    for sample in range(len(points)):
        count, kept = counts[sample], records[sample]
        if count < 0:
            gradient[sample, :, :2] = np.nan
            continue
        if count > len(kept):
            kept = np.empty(count, kept.dtype)
            sketch, grid, lines = _scratch(points.shape[1], len(faces), len(edges), size)
            length, most = _outline(points[sample], faces, edges, size, sketch)
            mask = np.empty((size, size), weights.dtype)
            _render(sketch[4][:length], np.empty(most, _PIECE), grid, lines, mask, kept)
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
    """Return room for _outline, for the grid and for the lines in a pixel; the grid is left empty by each use."""
    x, y, front = np.empty(vertices), np.empty(vertices), np.empty(faces, np.bool_)
    chosen, outline = np.empty(edges + 1, np.int32), np.empty(edges, _EDGE)
    last, left = np.full((size, size), -1, np.int32), np.zeros(size, np.int32)
    occupied = np.zeros((size, (size + 63) // 64), np.uint64)
    table, owner, met = np.zeros((9, _CROWD // _LANES, _LANES)), np.empty(_CROWD, np.int64), np.empty(_CROWD, np.uint64)
    shown, cuts = np.empty((_CROWD, 2)), np.empty(3 * _CROWD + 2)
    return (x, y, front, chosen, outline), (last, left, occupied), (table, owner, met, shown, cuts)


@_inline
@no_type_check
def _render(outline, pieces, grid, lines, mask, records):
    """Render one sample's mask and write its records as far as they fit; returns their number."""
    last, left, occupied = grid
    size = len(mask)
    made, kept = 0, 0
    for e in range(len(outline)):
        made = _cut(outline, e, grid, pieces, made)
    for row in range(size):
        layers, start = left[row], 0
        left[row] = 0
        for word in range(occupied.shape[1]):
            bits = occupied[row, word]
            occupied[row, word] = 0
            while bits != 0:
                column = 64 * word + _lowest_bit(bits)
                bits &= bits - np.uint64(1)
                _fill(mask[row, start:column], layers > 0)
                head = last[row, column]
                last[row, column] = -1
                mask[row, column], layers, kept = _pixel(
                    (outline, pieces, records), lines, (row, column, size), head, layers, kept
                )
                start = column + 1
        _fill(mask[row, start:], layers > 0)
    return kept


@_inline
@no_type_check
def _fill(run, value):
    for k in range(len(run)):
        run[k] = value


@_inline
@no_type_check
def _pixel(drawing, lines, cell, head, layers, kept):
    """Return the share of a pixel that is covered, the layers over the next one's corner, and the number of records.

    Where a single stretch of outline passes, without turning back in both x and y, there are n layers on one side of
    it and n + 1 on the other. What else can be in a pixel is left to _find_parts, but for a crowd of pieces, which
    would take too long: there the layers' areas are added up.
    """
    _, pieces, _ = drawing
    count, crossings, headings, gained, after, k = 0, 0, 0, 0.0, layers, head
    while k >= 0:
        p = pieces[k]
        dx, dy = p.sign * (p.x1 - p.x0), p.sign * (p.y1 - p.y0)
        headings |= (dx > 0) | (dx < 0) << 1 | (dy > 0) << 2 | (dy < 0) << 3
        crossings += (p.enters != _VERTEX) + (p.leaves != _VERTEX)
        gained += p.sign * ((p.leaves == _LEFT) * (1 - p.y1) - (p.enters == _LEFT) * (1 - p.y0))
        gained += dy * (1 - 0.5 * (p.x0 + p.x1))
        after += p.sign * (p.enters == _TOP)
        count += 1
        k = p.next
    turns_back = (headings & 3) == 3 and (headings & 12) == 12
    area = float(min(layers, 1))
    if (crossings > 2 or turns_back) and count <= _CROWD:
        if layers <= count:
            _, owner, _, shown, _ = lines
            found, won = _find_parts(pieces, head, layers, lines)
            area += won
            for i in range(found):
                if shown[i, 0] > 0:
                    p = pieces[owner[i]]
                    area += p.sign * (p.y1 - p.y0) * (shown[i, 0] * (1 - p.x0) - shown[i, 1] * (p.x1 - p.x0))
                    kept = _keep(drawing, cell, p, shown[i], kept)
    elif layers == 0 or (layers == 1 and gained < 0):
        area += gained
        k = head
        while k >= 0:
            kept = _keep(drawing, cell, pieces[k], (1.0, 0.5), kept)
            k = pieces[k].next
    return min(max(area, 0.0), 1.0), after, kept


@_inline
@no_type_check
def _keep(drawing, cell, p, shown, kept):
    """Record a piece of which something shows if there is room; returns the number of records."""
    outline, _, records = drawing
    if kept < len(records):
        row, column, size = cell
        e, r = outline[p.edge], records[kept]
        middle = shown[1] / shown[0]
        x, y = column + p.x0 + middle * (p.x1 - p.x0), row + p.y0 + middle * (p.y1 - p.y0)
        weight = 0.5 * size * p.sign * shown[0]
        r.pixel, r.top, r.bottom = row * size + column, e.top, e.bottom
        r.along_x, r.along_y = weight * (p.y0 - p.y1), weight * (p.x1 - p.x0)
        r.by_bottom = min(max((x - e.x0) * e.per_x + (y - e.y0) * e.per_y, 0.0), 1.0)
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
def _outline(points, faces, edges, size, sketch):
    """Find the edges between a triangle seen from the front and one that is not, but for those that change nothing.

    Front is where the signed area is positive, whichever way the mesh is oriented: turned inside out, its other half
    has the same outline. A triangle without area counts as seen from behind and adds none, only a detour.

    Returns the number of edges, -1 if a coordinate is not finite, and a bound on that of their pieces.
    """
    x, y, front, chosen, outline = sketch
    if not _to_pixels(points, size, x, y):
        return -1, 0
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        front[f] = (x[j] - x[i]) * (y[k] - y[i]) > (y[j] - y[i]) * (x[k] - x[i])
    count = 0
    for e in range(len(edges)):
        chosen[count] = e
        count += front[edges[e, 2]] != front[edges[e, 3]]
    length, pieces = 0, 0
    for c in range(count):
        e, o = edges[chosen[c]], outline[length]
        u, v = (e[1], e[0]) if front[e[2]] else (e[0], e[1])
        top, bottom, o.sign = (u, v, 1) if y[u] <= y[v] else (v, u, -1)
        o.top, o.bottom, o.x0, o.y0, o.x1, o.y1 = top, bottom, x[top], y[top], x[bottom], y[bottom]
        dx, dy = o.x1 - o.x0, o.y1 - o.y0
        if o.y1 < 0 or o.y0 >= size or min(o.x0, o.x1) >= size or (dx == 0 and dy == 0):
            continue
        o.per_x, o.per_y = (1 / dx, 0.0) if abs(dx) > dy else (0.0, 1 / dy)
        pieces += 1 + abs(_cell(o.x0, size) - _cell(o.x1, size)) + abs(_cell(o.y0, size) - _cell(o.y1, size))
        length += 1
    return length, pieces


@_inline
@no_type_check
def _cell(coordinate, size):
    """The row or column that a coordinate lies in; -1 before the frame, size behind it, however far."""
    if coordinate >= size:
        return size
    return int(coordinate) if coordinate >= 0 else -1


@_inline
@no_type_check
def _cut(outline, e, grid, pieces, count):
    """Walk an edge downwards, writing its pieces after the first ``count``; returns their new number.

    Each step goes to a neighbouring cell and across one line of the grid. So layers, counted where an edge crosses a
    line between rows, stay whole numbers and come to nothing right of a closed outline, whatever is rounded. Of what
    lies outside the frame, only the part on the left counts.
    """
    left, size = grid[1], len(grid[1])
    edge = outline[e]
    x0, y0, x1, y1 = edge.x0, edge.y0, edge.x1, edge.y1
    row, column, last_row = _cell(y0, size), _cell(x0, size), _cell(y1, size)
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
                if 0 <= column < size:
                    p = _add(pieces, count, grid, row, column)
                    p.edge, p.sign, p.enters, p.leaves = e, edge.sign, enters, _RIGHT if step > 0 else _LEFT
                    p.x0, p.y0, p.x1, p.y1 = from_x - column, from_y - row, line - column, line_y - row
                    count += 1
                from_x, from_y, enters = line, line_y, _LEFT if step > 0 else _RIGHT
                column += step
            if 0 <= column < size:
                p = _add(pieces, count, grid, row, column)
                p.edge, p.sign, p.enters, p.leaves = e, edge.sign, enters, leaves
                p.x0, p.y0, p.x1, p.y1 = from_x - column, from_y - row, to_x - column, to_y - row
                count += 1
        row += 1
        if row > last_row or row == size:
            return count
        if to_column < 0:
            left[row] += edge.sign
        column, from_x, from_y, enters = to_column, to_x, to_y, _TOP


@_inline
@no_type_check
def _add(pieces, k, grid, row, column):
    """Put piece k at the head of its pixel's list."""
    last, _, occupied = grid
    pieces[k].next = last[row, column]
    last[row, column] = k
    occupied[row, column >> 6] |= np.uint64(1) << np.uint64(column & 63)
    return pieces[k]


@_inline
@no_type_check
def _find_parts(pieces, head, layers, lines):
    """Cut the pieces in one pixel where they meet and find the parts that separate one layer from none.

    Writes for each line its piece to ``owner``, and to ``shown`` the integrals of dt and of t dt, t from 0 to 1 along
    it, over those parts. The layers beside a part are counted along the straight line from the pixel's top left corner
    to its middle. No more of them can be lost on the way than there are stretches of pieces that each lose one: seen
    from the corner, such a stretch never turns back.

    Returns the number of lines, 0 if nothing shows, and how much more of the pixel's left side is covered than if all
    of it were as its top end is.
    """
    table, owner, met, shown, cuts = lines
    count, losing, borders, joints, k = 0, 0, 0, 0, head
    while k >= 0:
        p = pieces[k]
        ends = (p.enters != _VERTEX) + (p.leaves != _VERTEX)
        if _draw(table[:, count // _LANES, count % _LANES], p) < 0:
            losing += 1
            borders += ends
        else:
            joints += 2 - ends
        owner[count], met[count] = k, 0
        count += 1
        k = p.next
    if layers > (borders + min(2 * losing - borders, joints)) // 2:
        return 0, 0.0
    blocks = (count + _LANES - 1) // _LANES
    for i in range(count, blocks * _LANES):
        table[_GAIN, i // _LANES, i % _LANES] = 0
    for i in range(1, count):
        others = _meetings(table, i)
        met[i] = others
        while others != 0:
            met[_lowest_bit(others)] |= np.uint64(1) << np.uint64(i)
            others &= others - np.uint64(1)
    for i in range(count):
        low = layers + int(min(table[_GAIN, i // _LANES, i % _LANES], 0.0))
        found = _find_cuts(table, i, met[i], cuts)
        length, moment = 0.0, 0.0
        for c in range(1, found):
            t, part = 0.5 * (cuts[c - 1] + cuts[c]), cuts[c] - cuts[c - 1]
            if low + _gained(table, blocks, i, t) <= 0:
                length += part
                moment += part * t
        shown[i, 0], shown[i, 1] = length, moment
    return count, _won_on_left(pieces, owner[:count], layers, cuts)


@_inline
@no_type_check
def _won_on_left(pieces, owner, layers, cuts):
    """Measure how much more of a pixel's left side is covered than if all of it were as its top end is."""
    found, y, gain = 0, cuts[:_CROWD], cuts[_CROWD:]
    for i in range(len(owner)):
        p = pieces[owner[i]]
        if p.enters == _LEFT:
            y[found], gain[found] = p.y0, -p.sign
            found += 1
        elif p.leaves == _LEFT:
            y[found], gain[found] = p.y1, p.sign
            found += 1
    won = 0.0
    for i in range(found):
        above = layers + min(gain[i], 0.0)
        for j in range(found):
            if y[j] < y[i] or (y[j] == y[i] and j < i):
                above += gain[j]
        if above <= 0:
            won += gain[i] * (1 - y[i])
    return won


@_inline
@no_type_check
def _draw(line, p):
    """Make a line of a piece, drawn in by _MARGIN from the sides of the pixel but for the ends that cross them.

    Returns the layers gained by coming across from the corner's side.
    """
    x0, y0 = _draw_in(p.x0, _INSET_X, p.enters), _draw_in(p.y0, _INSET_Y, p.enters)
    x1, y1 = _draw_in(p.x1, _INSET_X, p.leaves), _draw_in(p.y1, _INSET_Y, p.leaves)
    dx, dy = x1 - x0, y1 - y0
    right = (_CORNER_X - x0) * dy - (_CORNER_Y - y0) * dx > 0
    gain = -p.sign if right else p.sign
    line[_X0], line[_Y0], line[_X1], line[_Y1], line[_DX], line[_DY] = x0, y0, x1, y1, dx, dy
    line[_NEAR], line[_GAIN], line[_RIGHT_OF] = _TOUCH * (abs(dx) + abs(dy)), gain, right
    return gain


@_inline
@no_type_check
def _draw_in(value, inset, side):
    return inset[side, 0] + inset[side, 1] * value


@_inline
@no_type_check
def _meetings(table, i):
    """Return as bits which lines before line i it crosses or touches elsewhere than where both end."""
    a = table[:, i // _LANES, i % _LANES]
    x0, y0, x1, y1, dx, dy, near = a[_X0], a[_Y0], a[_X1], a[_Y1], a[_DX], a[_DY], a[_NEAR]
    met = np.uint64(0)
    for block in range((i + _LANES - 1) // _LANES):
        first, bits = block * _LANES, 0
        for lane in range(_LANES):
            bx, by = table[_X0, block, lane], table[_Y0, block, lane]
            cx, cy = table[_X1, block, lane], table[_Y1, block, lane]
            ex, ey, close = table[_DX, block, lane], table[_DY, block, lane], table[_NEAR, block, lane]
            begin, end = _side(bx, by, x0, y0, dx, dy), _side(cx, cy, x0, y0, dx, dy)
            top, bottom = _side(x0, y0, bx, by, ex, ey), _side(x1, y1, bx, by, ex, ey)
            aside = _both_beyond(begin, end, near) | _both_beyond(top, bottom, close)
            across = _both_beyond(begin, -end, near) | _both_beyond(top, -bottom, close)
            along = (abs(begin) <= near) & (abs(end) <= near)
            bits |= ((across | along) & (not aside)) << lane
        met |= np.uint64(bits & ((1 << min(i - first, _LANES)) - 1)) << np.uint64(first)
    return met


@_inline
@no_type_check
def _side(x, y, from_x, from_y, dx, dy):
    """Tell how far right of a line, looking down it, a point lies, in units of the line's length."""
    return (x - from_x) * dy - (y - from_y) * dx


@_inline
@no_type_check
def _both_beyond(a, b, near):
    return ((a > near) & (b > near)) | ((a < -near) & (b < -near))


@_inline
@no_type_check
def _find_cuts(table, i, met, cuts):
    """Write the sorted parameters from 0 to 1 at which other lines cross or touch line i; returns their number."""
    found = 1
    a = table[:, i // _LANES, i % _LANES]
    x0, y0, x1, y1, dx, dy, near = a[_X0], a[_Y0], a[_X1], a[_Y1], a[_DX], a[_DY], a[_NEAR]
    cuts[0] = 0.0
    while met != 0:
        j = _lowest_bit(met)
        met &= met - np.uint64(1)
        b = table[:, j // _LANES, j % _LANES]
        begin, end = _side(b[_X0], b[_Y0], x0, y0, dx, dy), _side(b[_X1], b[_Y1], x0, y0, dx, dy)
        if abs(begin) <= near:
            found = _insert(cuts, found, _project(a, b[_X0], b[_Y0]))
        if abs(end) <= near:
            found = _insert(cuts, found, _project(a, b[_X1], b[_Y1]))
        top = _side(x0, y0, b[_X0], b[_Y0], b[_DX], b[_DY])
        bottom = _side(x1, y1, b[_X0], b[_Y0], b[_DX], b[_DY])
        if begin * end < 0 and top * bottom < 0:
            found = _insert(cuts, found, top / (top - bottom))
    cuts[found] = 1.0
    return found + 1


@_inline
@no_type_check
def _project(line, x, y):
    dx, dy = line[_DX], line[_DY]
    return ((x - line[_X0]) * dx + (y - line[_Y0]) * dy) / (dx * dx + dy * dy)


@_inline
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


@_inline
@no_type_check
def _gained(table, blocks, i, t):
    """Add up the layers gained on the way from the corner to the point t of line i, line i not included.

    Where lines coincide, those of lower index count as nearer to the corner.
    """
    a = table[:, i // _LANES, i % _LANES]
    x, y = a[_X0] + t * a[_DX], a[_Y0] + t * a[_DY]
    dx, dy = x - _CORNER_X, y - _CORNER_Y
    layers = 0
    for block in range(blocks):
        for lane in range(_LANES):
            j = block * _LANES + lane
            bx, by = table[_X0, block, lane], table[_Y0, block, lane]
            cx, cy = table[_X1, block, lane], table[_Y1, block, lane]
            begins_right = (bx - _CORNER_X) * dy >= (by - _CORNER_Y) * dx
            ends_right = (cx - _CORNER_X) * dy >= (cy - _CORNER_Y) * dx
            side = _side(x, y, bx, by, table[_DX, block, lane], table[_DY, block, lane])
            crossed = (side > 0) != (table[_RIGHT_OF, block, lane] > 0)
            near = abs(side) <= table[_NEAR, block, lane]
            counts = (begins_right != ends_right) & (j != i) & ((near & (j < i)) | (~near & crossed))
            layers += int(table[_GAIN, block, lane]) if counts else 0
    return layers
