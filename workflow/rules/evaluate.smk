# Posteriors and truth -> the tidy table of one method on one problem.


rule evaluate:
    """Evaluate one method on one problem: all its inferences, seeds and families.
    Draws are read in blocks; truth comes from the ensembles."""
    input:
        posteriors=lambda w: graph.posteriors(w.problem, w.method),
        unfolded=lambda w: graph.unfolded(w.problem, w.method),
        ensembles=lambda w: graph.evaluated(w.problem, w.method),
        references=lambda w: graph.references(w.problem, w.method),
        seen=lambda w: graph.seen(w.problem, "train"),
        preflight=lambda w: graph.preflight_of_evaluation(w.problem),
    output:
        metrics=report(
            paths.metrics(S, "{problem}", "{method}"),
            caption="../report/metrics.rst",
            category="Metrics",
            subcategory="{problem}",
            labels={"problem": "{problem}", "method": "{method}", "result": "metrics"},
        ),
        cost=report(
            paths.cost(S, "{problem}", "{method}"),
            caption="../report/cost.rst",
            category="Metrics",
            subcategory="{problem}",
            labels={"problem": "{problem}", "method": "{method}", "result": "cost"},
        ),
        examples=paths.figures(S, "{problem}", "{method}"),
    log:
        paths.log(paths.metrics(S, "{problem}", "{method}")),
    benchmark:
        paths.benchmark(paths.metrics(S, "{problem}", "{method}"))
    wildcard_constraints:
        problem=leading(graph.methods()),
    conda:
        "../../envs/evaluate.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        **named(lambda w: plan.evaluate_job(w.problem, w.method), "evaluation", "families", "inputs"),
        code=lambda w: graph.code("evaluate", w.problem),
    script:
        "../scripts/evaluate.py"


rule budget:
    """Uncertainty budgets of a problem's unfolded distributions: a covariance of the bin contents for each source.
    Sources are results that the study has: replicas of the data, seeds, other methods, families with changed events."""
    input:
        results=lambda w: graph.budget_results(w.problem),
        ensembles=lambda w: graph.budget_ensembles(w.problem),
    output:
        budget=paths.budget(S, "{problem}"),
        table=report(
            paths.budget_table(S, "{problem}"),
            caption="../report/budget.rst",
            category="Metrics",
            subcategory="{problem}",
            labels={"problem": "{problem}", "method": "", "result": "uncertainties"},
        ),
    log:
        paths.log(paths.budget(S, "{problem}")),
    benchmark:
        paths.benchmark(paths.budget(S, "{problem}"))
    wildcard_constraints:
        problem=one_of(graph.budgeted()),
    conda:
        "../../envs/evaluate.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        **named(lambda w: plan.budget_job(w.problem), "bins", "budgets", "inputs"),
        code=lambda w: graph.code("budget"),
    script:
        "../scripts/budget.py"
