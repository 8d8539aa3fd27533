"""Pictures as interactive HTML, with plotly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.pictures.picture import CELLS, DENSITY_LABEL, FAINT, INK, SPARSE, Marks, Panel, Picture, Rule

SCRIPT = "plotly.min.js"
_PANEL = 430  # pixels
_DENSITY = "coloraxis2"  # of densities; the first is for shaded marks


def figure_of(picture: Picture, title: str = "") -> Any:
    """The picture as a plotly figure.

    Raises:
        SelfRepairError: plotly is missing.
    """
    _require_plotly()
    from plotly.subplots import make_subplots

    columns = min(picture.columns, len(picture.panels))
    rows = -(-len(picture.panels) // columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[_text(panel.title) for panel in picture.panels],
        horizontal_spacing=0.09 if columns < 3 else 0.07,
        vertical_spacing=min(0.14, 0.5 / rows),
        row_heights=list(picture.heights) or None,
    )
    for index, panel in enumerate(picture.panels):
        at = {"row": index // columns + 1, "col": index % columns + 1}
        for marks in panel.marks:
            known = {trace.name for trace in figure.data}
            for trace in _traces(marks, panel, marks.label and _text(marks.label) not in known):
                figure.add_trace(trace, **at)
        _axes(figure, panel, at)
    ends = picture.shades()
    if ends is not None:
        scale = "RdBu" if picture.diverging else "Viridis"
        bar = {"title": {"text": _text(picture.shade_label)}, "thickness": 14, "len": min(1.0, 0.9)}
        figure.update_layout(coloraxis={"cmin": ends[0], "cmax": ends[1], "colorscale": scale, "colorbar": bar})
    _density_axis(figure, ends is not None)
    figure.update_layout(
        template="plotly_white",
        height=_PANEL * (sum(picture.heights) or rows) + 110,
        title={"text": _text(title), "font": {"size": 16, "color": INK}},
        font={"size": 12, "color": INK},
        showlegend=True,
        legend={"orientation": "h", "y": -0.16 / rows, "font": {"size": 11}},
        margin={"t": 90, "l": 70, "r": 30, "b": 80},
    )
    return figure


def picture_page(picture: Picture, title: str, caption: str = "") -> str:
    """A whole HTML page; it takes `plotly.min.js` from its own folder."""
    html: str = figure_of(picture, title).to_html(include_plotlyjs=SCRIPT, full_html=True)
    under = f'<p style="max-width:60em;margin:1em 4em;font:14px sans-serif;color:#59636e">{_text(caption)}</p>'
    head = f'<head><meta charset="utf-8"><title>{_text(title)}</title>'
    return html.replace("<head>", head, 1).replace("</body>", f"{under}</body>", 1)


def script() -> str:
    """plotly's own JavaScript, written once beside the pages: they need no network."""
    _require_plotly()
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source


def _require_plotly() -> None:
    try:
        import plotly  # noqa: F401
    except ImportError as problem:
        raise SelfRepairError("Interactive figures need plotly.", "pip install 'selfrepair[paper]'") from problem


def _text(text: str) -> str:
    """Escapes text: plotly would read some HTML in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _traces(marks: Marks, panel: Panel, listed: bool | str) -> list[Any]:
    import plotly.graph_objects as go

    name = {"name": _text(marks.label) or "data", "showlegend": bool(listed), "legendgroup": marks.label or None}
    if marks.kind == "bars":
        error = _error(marks.y_error)
        return [go.Bar(x=marks.x, y=marks.y, base=marks.base, marker={"color": marks.colour}, error_y=error, **name)]
    if marks.kind == "steps":
        x, y = np.repeat(marks.x, 2)[1:-1], np.repeat(marks.y, 2)
        fill = "tozeroy" if panel.outlines == 1 else "none"  # fills of several would mix
        return [go.Scatter(x=x, y=y, mode="lines", fill=fill, line={"color": marks.colour, "width": 1.5}, **name)]
    if marks.kind == "line":
        line = {"color": marks.colour, "width": 2, "dash": "dash" if marks.dashed else "solid"}
        return [*_band(marks), go.Scatter(x=marks.x, y=marks.y, mode="lines", line=line, **name)]
    cells: list[Any] = []
    if marks.kind == "density":
        marks, cells = _density(marks, panel)
    look: dict[str, Any] = {"size": max(4.0, 1.5 * marks.size), "color": marks.colour, "opacity": marks.opacity}
    if marks.shade is not None:
        look |= {"color": marks.shade, "coloraxis": "coloraxis"}
    if marks.kind == "density":
        look |= {"size": 3, "opacity": 0.35}
    text = [_text(name) for name in marks.names]
    where = "%{text}<br>" if text else ""
    hover = f"{where}{_text(panel.x_label)}: %{{x:.4g}}<br>{_text(panel.y_label)}: %{{y:.4g}}<extra></extra>"
    draw = go.Scattergl if marks.kind == "density" else go.Scatter
    errors = {"error_x": _error(marks.x_error), "error_y": _error(marks.y_error)}
    points = draw(x=marks.x, y=marks.y, mode="markers", marker=look, text=text, hovertemplate=hover, **errors, **name)
    return [points, *cells]


def _density(marks: Marks, panel: Panel) -> tuple[Marks, list[Any]]:
    """The points of a density that lie in cells of few tokens, and the other cells, coloured by their logarithm."""
    import plotly.graph_objects as go

    counts, across, up = np.histogram2d(marks.x, marks.y, CELLS, _limits(panel))
    full = np.zeros((CELLS + 2, CELLS + 2), bool)  # nothing outside the limits is counted
    full[1:-1, 1:-1] = counts >= SPARSE
    inside = full[np.searchsorted(across, marks.x, "right"), np.searchsorted(up, marks.y, "right")]
    points = replace(marks, x=marks.x[~inside], y=marks.y[~inside])
    if not inside.any():
        return points, []
    seen = np.where(counts >= SPARSE, counts, np.nan).T
    cells = go.Heatmap(
        x=(across[:-1] + across[1:]) / 2,
        y=(up[:-1] + up[1:]) / 2,
        z=np.log10(seen),
        customdata=seen,
        coloraxis=_DENSITY,
        hovertemplate="tokens in this cell: %{customdata:.0f}<extra></extra>",
        hoverongaps=False,
    )
    return points, [cells]


def _density_axis(figure: Any, aside: bool) -> None:
    """The colour scale that all densities of a picture share.

    Args:
        figure: the plotly figure.
        aside: whether another scale already stands beside the picture.
    """
    tops = [float(np.nanmax(trace.z)) for trace in figure.data if trace.type == "heatmap"]
    if not tops:
        return
    ticks = [count for power in range(7) for count in (10**power, 2 * 10**power, 5 * 10**power)]
    ticks = [count for count in ticks if SPARSE <= count <= 10 ** max(tops)]
    bar = {"title": {"text": _text(DENSITY_LABEL), "side": "right"}, "thickness": 14, "x": 1.14 if aside else 1.02}
    bar |= {"tickvals": np.log10(ticks).tolist(), "ticktext": [f"{count:,}" for count in ticks]}
    scale = {"cmin": np.log10(2), "cmax": max(tops), "colorscale": "YlGnBu", "colorbar": bar}
    figure.update_layout({_DENSITY: scale})


def _error(error: np.ndarray | None) -> dict[str, Any] | None:
    if error is None:
        return None
    below, above = np.nan_to_num(error)
    return {"array": above, "arrayminus": below, "thickness": 0.7, "width": 0, "color": FAINT}


def _band(marks: Marks) -> list[Any]:
    import plotly.graph_objects as go

    if marks.y_error is None:
        return []
    low, high = marks.y - marks.y_error[0], marks.y + marks.y_error[1]
    x, y = np.concatenate([marks.x, marks.x[::-1]]), np.concatenate([high, low[::-1]])
    look = {"fill": "toself", "opacity": 0.15, "line": {"width": 0}, "fillcolor": marks.colour}
    return [go.Scatter(x=x, y=y, mode="lines", hoverinfo="skip", showlegend=False, **look)]


def _axes(figure: Any, panel: Panel, at: dict[str, int]) -> None:
    x_range, y_range = _limits(panel)
    for rule in panel.rules:
        _rule(figure, rule, x_range, y_range, at)
    ticks: dict[str, Any] = {
        "tickvals": list(range(len(panel.categories))),
        "ticktext": list(map(_text, panel.categories)),
    }
    label = "<br>".join(_text(part) for part in (panel.x_label, panel.unseen()) if part)
    across: dict[str, Any] = {"title_text": label, "range": x_range} | (
        ticks if panel.categories else {"tickvals": panel.x_ticks} if panel.x_ticks else {}
    )
    if panel.x_log:
        across |= {"type": "log", "range": [np.log10(max(end, 1e-9)) for end in x_range]}
    figure.update_xaxes(**across, **at)
    figure.update_yaxes(title_text=_text(panel.y_label), range=y_range, **at)
    for x, y, text in panel.notes:
        along = np.log10(max(x, 1e-9)) if panel.x_log else x
        figure.add_annotation(
            x=along, y=y, text=_text(text), showarrow=False, xanchor="left", yanchor="bottom", font={"size": 10}, **at
        )


def _limits(panel: Panel) -> tuple[list[float], list[float]]:
    """Limits of both axes: as given, else the data with some margin."""
    limits = []
    for asked, axis in ((panel.x_range, "x"), (panel.y_range, "y")):
        if asked is not None:
            limits.append([float(end) for end in asked])
            continue
        values = [np.ravel(getattr(marks, axis)) for marks in panel.marks]
        bars = axis == "y" and any(marks.kind in ("bars", "steps") for marks in panel.marks)
        every = np.concatenate([*values, np.zeros(int(bars))]) if values else np.zeros(1)
        every = every[np.isfinite(every)]
        low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
        room = 0.06 * (high - low) or 0.5
        if panel.x_log and axis == "x":
            limits.append([low / 1.15, high * 1.15])
        else:
            limits.append([low - room, high + room])
    return limits[0], limits[1]


def _rule(figure: Any, rule: Rule, x_range: list[float], y_range: list[float], at: dict[str, int]) -> None:
    import plotly.graph_objects as go

    if rule.slope is None:
        x, y = [rule.at, rule.at], y_range
    else:
        x, y = x_range, [rule.slope * end + rule.at for end in x_range]
    line = {"color": rule.colour, "width": 1, "dash": "solid" if rule.slope == 0 else "dash"}
    first = not any(trace.name == _text(rule.label) for trace in figure.data)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line=line,
            hoverinfo="skip",
            name=_text(rule.label) or "rule",
            legendgroup=rule.label,
            showlegend=bool(rule.label) and first,
        ),
        **at,
    )
