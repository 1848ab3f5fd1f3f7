# Ensembles of seen families -> trained methods, diffusion priors and likelihoods.
#
# Checkpoints are not declared: a declared output is deleted when a job fails, and a killed training resumes from them.


rule train:
    """Train one method on the seen families of its problem; `prior` and `likelihood` train theirs in the same way.
    Resumes when it was interrupted; threads come from the study, because results depend on them.
    """
    input:
        train=lambda w: graph.learned_from(w.problem, "methods", w.method, "train"),
        validation=lambda w: graph.learned_from(w.problem, "methods", w.method, "validation"),
    output:
        model=paths.artifact(S, "methods", "{problem}", "{method}", "{seed}"),
        curves=paths.curves(paths.artifact(S, "methods", "{problem}", "{method}", "{seed}")),
    log:
        paths.log(paths.artifact(S, "methods", "{problem}", "{method}", "{seed}")),
    benchmark:
        paths.benchmark(paths.artifact(S, "methods", "{problem}", "{method}", "{seed}"))
    wildcard_constraints:
        problem=leading(graph.trained("methods")),
    # The longest jobs, and others wait for them: they start as soon as they can.
    priority: 50
    conda:
        "../../envs/learn.yaml"
    threads: study.threads
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        **named(lambda w: plan.train_job(w.problem, "methods", w.method, int(w.seed)), "method", "inputs"),
        code=lambda w: graph.code("train", w.problem, methods=w.method),
    script:
        "../scripts/train.py"


# A diffusion prior, trained on the truth alone, and a likelihood p(y|x): artifacts of their own, which methods share.
# They are rules by name, so that a profile can give each its own resources.
use rule train as prior with:
    input:
        train=lambda w: graph.learned_from(w.problem, "priors", w.prior, "train"),
        validation=lambda w: graph.learned_from(w.problem, "priors", w.prior, "validation"),
    output:
        model=paths.artifact(S, "priors", "{problem}", "{prior}", "{seed}"),
        curves=paths.curves(paths.artifact(S, "priors", "{problem}", "{prior}", "{seed}")),
    log:
        paths.log(paths.artifact(S, "priors", "{problem}", "{prior}", "{seed}")),
    benchmark:
        paths.benchmark(paths.artifact(S, "priors", "{problem}", "{prior}", "{seed}"))
    wildcard_constraints:
        problem=leading(graph.trained("priors")),
    params:
        **named(lambda w: plan.train_job(w.problem, "priors", w.prior, int(w.seed)), "method", "inputs"),
        code=lambda w: graph.code("train", w.problem, priors=w.prior),


use rule train as likelihood with:
    input:
        train=lambda w: graph.learned_from(w.problem, "likelihoods", w.likelihood, "train"),
        validation=lambda w: graph.learned_from(w.problem, "likelihoods", w.likelihood, "validation"),
    output:
        model=paths.artifact(S, "likelihoods", "{problem}", "{likelihood}", "{seed}"),
        curves=paths.curves(paths.artifact(S, "likelihoods", "{problem}", "{likelihood}", "{seed}")),
    log:
        paths.log(paths.artifact(S, "likelihoods", "{problem}", "{likelihood}", "{seed}")),
    benchmark:
        paths.benchmark(paths.artifact(S, "likelihoods", "{problem}", "{likelihood}", "{seed}"))
    wildcard_constraints:
        problem=leading(graph.trained("likelihoods")),
    params:
        **named(lambda w: plan.train_job(w.problem, "likelihoods", w.likelihood, int(w.seed)), "method", "inputs"),
        code=lambda w: graph.code("train", w.problem, likelihoods=w.likelihood),
