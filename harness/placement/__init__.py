"""Planner, domain XML, and the comparison of plan and observation."""
