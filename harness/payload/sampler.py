"""Samples every NVIDIA GPU that this machine sees, and follows its kernel log, into an append-only spool.

Usage: ``sampler.py JSON`` with ``spool`` (path, made new), ``fast_hz``, ``slow_hz``, ``deadline`` (seconds that
one NVML call may take), ``library`` (path of ``libnvidia-ml.so.1``, or "" for the system's), ``pynvml`` (folder
that holds ``pynvml.py``, or ""), ``kmsg`` (path), ``jobs`` (folder of keyed jobs: processes of their sessions are
ours, all others foreign) and ``seconds`` (end by itself after; 0: only by SIGTERM or SIGINT). All but ``spool``
have defaults. When it ends it prints one line of strict JSON: ``{"payload": "sampler", "spool", "reason"}``.

**The spool** is strict JSON, one object a line, each line written by one write(2) and on disk within a second.
A machine that dies tears at most the last line and loses at most the last second. ``mono`` is CLOCK_BOOTTIME in
seconds, ``wall`` CLOCK_REALTIME in seconds, ``gpu`` NVML's index. ``start`` comes first; several processes write,
so other lines are in order of time only for one gpu. A reader skips types that it does not know.

``start``     format (1), boot_id, mono, wall, pid, fast_hz, slow_hz, deadline, kmsg (path)
``nvml``      mono, source ("nvml", or "" when NVML cannot be asked; ``detail`` says why), standin (name of the
              scenario when the library is Shakedown's stand-in, else ""), driver, nvml (version), library (path
              it was loaded from), gpus (how many), detail. Missing: NVML never answered, see ``hung``.
``gpu``       mono, gpu, uuid, name, address ("0000:17:00.0"), pci_id ("10de:2335"), subsystem (the same form),
              serial, vbios, memory_bytes, properties (names and units of harness.telemetry.series; null: not
              offered), fast and slow (names of the values in those lines), not_offered (names of sensors that the
              card says it does not have: they are in neither). Text fields: "" when not offered.
``fast``      mono (before the first read), gpu, values: in the order of ``fast``, null where a read failed. Units are
              those of harness.telemetry.series (W, J, degC, MHz, %); ``reasons`` is NVML's bit mask of clock events.
``slow``      the same, in the order of ``slow``
``event``     mono, gpu, name, old, new: a value of a slow line, other than memory_used, changed
``processes`` mono, gpu, list of {pid, name, bytes (null: unknown), ours}: at first, and when it changed
``error``     mono, gpu, name (of a sensor, or a call), error (NVML's word, "NVMLError_NoPermission"): a read
              failed, told when the error of this sensor is a new one; each failed read is a null
``lost``      mono, gpu, call, error: the GPU is gone (GPU_IS_LOST, GPU_NOT_FOUND); it is not asked again
``hung``      mono, gpu (null: while NVML itself started), call, seconds (so far), pid: a call is over its deadline. This
              GPU has no samples until it comes back; the others do
``returned``  mono, gpu, call, seconds: it did come back
``died``      mono, gpu, status (exit status, or -signal): the process that asked this GPU is gone; it is not asked again
``kmsg``      seq, t (seconds since boot), level (0-7), facility (0: the kernel's own; 1: written by a program,
              which the stand-in is), text. The log is read from its beginning, so old lines come first.
``kmsg_start``  mono, seq (the first that was still there) or error (it could not be opened or read: not followed)
``kmsg_dropped``  mono, lines: the kernel overwrote these before they were read
``usage``     mono, wall, cpu_seconds (of this sampler so far, all its processes), every 10 s
``end``       mono, wall, cpu_seconds, reason ("SIGTERM", "SIGINT", "seconds", or what went wrong), left (pids of
              processes that hang in the driver and could not be ended)

Each GPU is asked by a process of its own, since a call that hangs in the driver can neither be interrupted nor
killed, and a process holding such a thread never ends. The process that writes ``end`` never calls NVML.
"""
