"""Renderers: RunRecord to html, md, json, junit, ocp, openmetrics."""
