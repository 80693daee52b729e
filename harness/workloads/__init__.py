"""Load runs in a guest, each with a known answer.

A workload is one folder: ``spec.py`` says what it is, ``payload/`` runs in the guest, ``answers.py`` judges
what that printed. ``registry.py`` lists them. A stage uses one like this, with one connection to the guest::

    run(install(place), stdin=payload_tar())            # unless the image holds the payload
    run(start(job, workload.prepare(job)))              # again after a lost connection: starts nothing twice
    run(wait(job, 60)) ...                              # each blocks in the guest, no polling
    raw = run(collect(job)).stdout
    result = judge(workload, job, raw)                  # pure, never raises for what a guest says
"""
