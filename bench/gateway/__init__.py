"""The gateway beside its peers: the same load on the same mock engine, through each in turn.

    load ──▶ contestant ──▶ mock engine        load ──▶ mock engine  ("direct")
    core 1      core 0         core 1

Contestants take turns within a round, in another order each round, and every figure is
the median over rounds. The figure that holds on a noisy machine is CPU: nanoseconds that
the kernel accounts to all threads of a contestant, over the requests or frames of the
same span. `requests per core-second` is its inverse, what one core would carry, and what
the bars compare; the requests/s that were seen stand beside it, because the gateway's core
need not be full when engine and load are what fills the other one.

    wire      what is said: requests, answers, frames
    engine    the mock engine's process
    load      the load generator's process: `calls` and `streams`
    procfs    CPU, memory and cores, from /proc
    installs  nginx, vllm-router and LiteLLM, at pinned versions
    peers     each contestant: configured, started, ended; `ours` is Modelry's own, and
              `control` what its gateway reports to
    rounds    who is measured when
    figures   medians of what came out
    bars      what must hold
    report    tables and the JSON file
    command   options; puts it all together

The bars are the project's own. A peer's settings are chosen in its favour where there was
a choice, and `peers` says which.
"""
