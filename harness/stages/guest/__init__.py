"""Stages of a guest's life: provision, observe, burn, watch, release."""
