# pullback: the workflow is in workflow/Snakefile. An include alone has no default target.
include: "workflow/Snakefile"


workflow.default_target = workflow.default_target or workflow.modifier.modify_rulename("all")
