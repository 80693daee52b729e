"""Data only: hosts, profiles, labs, waivers."""
