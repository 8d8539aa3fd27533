"""Figures as descriptions, drawn by matplotlib and by plotly."""
