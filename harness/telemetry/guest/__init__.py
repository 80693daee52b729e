"""Whether guests live, and what ended one."""
