"""`python -m inference.work < PLAN`."""

import signal
import sys
from collections.abc import Collection

from inference.names import full_name
from inference.work.archive import archive_model, unarchive_model
from inference.work.engine import EngineClient
from inference.work.make import make_variant
from inference.work.make_distilled import make_distilled
from inference.work.make_pruned import make_pruned
from inference.work.messages import WorkError, say
from inference.work.plan import JobPlan
from inference.work.prompts import ChatTemplate, digest, read_for_importance
from inference.work.quality import compare_answers, compare_tokens
from inference.work.speed import compare_speed

PACKING = {"archive": archive_model, "unarchive": unarchive_model}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # with what `finally` has to clean up
    plan = JobPlan.model_validate_json(sys.stdin.buffer.read())
    if plan.kind not in PACKING:  # else one of the two is a file
        plan = plan.model_copy(update={"source": full_name(plan.source), "target": full_name(plan.target)})
    engine = EngineClient(plan.engine_url, num_ctx=plan.measures.num_ctx)
    try:
        if plan.kind in PACKING:
            PACKING[plan.kind](engine, plan)
        else:
            if plan.kind == "quantize":
                read = make_variant(engine, plan)
            else:
                if plan.kind == "prune":
                    make_pruned(engine, plan)
                elif plan.kind == "distill":
                    make_distilled(engine, plan)
                read = read_for_importance(engine.file_of(plan.target))
            compare(engine, plan, read)
    except WorkError as error:
        say("error", text=str(error))
        return 1
    say("done")
    return 0


def compare(engine: EngineClient, plan: JobPlan, read: Collection[str]) -> None:
    """Source against target: speed, tokens, answers. `read`: digests of the prompts that the target was weighed with; they
    say nothing of how it does with others."""
    measures, source, target, labelled = plan.measures, plan.source, plan.target, plan.labelled
    if plan.is_searched:
        labelled = labelled[: len(labelled) // 2]
    labelled = tuple(each for each in labelled if digest(each.prompt) not in read)
    if not labelled and plan.labelled and measures.with_prompts:
        say("unmeasured", what="quality", why="every prompt of the set was read for its importance matrix")
    for name in (source, target):
        engine.tag(name)
    tensors = engine.show(target).get("tensors") or []
    say("tensors", types={each["name"]: each["type"] for each in tensors})
    if measures.n_pairs:
        compare_speed(engine, source, target, measures.n_pairs, measures.num_predict)
    if measures.n_prompts and labelled:
        template = ChatTemplate(engine.file_of(source))
        prompts = [template.render(each.prompt) for each in labelled[: measures.n_prompts]]
        compare_tokens(engine, source, target, prompts, measures.n_tokens)
    if measures.n_scored and labelled:
        compare_answers(engine, source, target, labelled[: measures.n_scored])


if __name__ == "__main__":
    sys.exit(main())
