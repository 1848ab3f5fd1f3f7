# Simulators -> shards of ensembles (HDF5). A shard is some blocks of events, each with its own random generator.


rule preflight:
    """Check a problem's simulator and compile what its jobs share.
    Runs once, before jobs that would each compile the same operator."""
    output:
        report=paths.warmup(S, "{problem}"),
    log:
        paths.log(paths.warmup(S, "{problem}")),
    benchmark:
        paths.benchmark(paths.warmup(S, "{problem}"))
    conda:
        "../../envs/sim.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        **named(lambda w: plan.preflight_job(w.problem), "simulator"),
        code=lambda w: graph.code("preflight", w.problem),
    script:
        "../scripts/preflight.py"


rule simulate:
    """Draw truths from a family's prior and simulate their observations.
    Params contain everything that a shard depends on, so that studies can share a cache."""
    input:
        preflight=paths.warmup(S, "{problem}"),
    output:
        shard=paths.shard(S, "{problem}", "{family}", "{split}", "{shard}"),
    log:
        paths.log(paths.shard(S, "{problem}", "{family}", "{split}", "{shard}")),
    wildcard_constraints:
        problem=leading(graph.split_heads("simulate")),
    cache: CACHED
    conda:
        "../../envs/sim.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        **named(lambda w: plan.simulate_job(w.problem, w.family, w.split, int(w.shard)), "simulator", "params"),
        code=lambda w: graph.code("simulate", w.problem, w.family),
    script:
        "../scripts/simulate.py"


benchmark_unless_cached(
    workflow, "simulate", paths.benchmark(paths.shard(S, "{problem}", "{family}", "{split}", "{shard}"))
)


rule derive:
    """Derive test observations from another family: shifted, simulated with other settings, or without truth.
    Events and ids are those of the base family."""
    input:
        base=lambda w: graph.base_ensemble(w.problem, w.family),
    output:
        shard=paths.shard(S, "{problem}", "{family}", "{split}", "{shard}"),
    log:
        paths.log(paths.shard(S, "{problem}", "{family}", "{split}", "{shard}")),
    benchmark:
        paths.benchmark(paths.shard(S, "{problem}", "{family}", "{split}", "{shard}"))
    wildcard_constraints:
        problem=leading(graph.split_heads("derive")),
    conda:
        "../../envs/sim.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        **named(lambda w: plan.derive_job(w.problem, w.family), "simulator", "params", "inputs"),
        code=lambda w: graph.code_to_derive(w.problem, w.family),
    script:
        "../scripts/derive.py"
