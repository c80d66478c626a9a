"""Makes a variant with fewer layers: searched, written by us, given to the engine."""

import time

from inference.gguf_tools.container import NotGgufError, read_header
from inference.gguf_tools.prune import PruneError, n_layers, prune_file, pruned_bytes
from inference.work.engine import EngineClient
from inference.work.make import look_for_room, say_made, take_in
from inference.work.messages import WorkError, say, step
from inference.work.plan import JobPlan
from inference.work.prompts import search_prompts
from inference.work.pruning import Pruning


def make_pruned(engine: EngineClient, plan: JobPlan) -> None:
    """The target exists afterwards, or nothing of it. Raises WorkError."""
    started = time.monotonic()
    source = engine.tag(plan.source)
    engine.refuse_taken(plan.target)
    file = engine.file_of(plan.source)
    if file is None:
        raise WorkError(
            f"The file of {plan.source} does not lie on this machine, and only a file can lose layers."
        )
    made = plan.folder / "variant.gguf"
    try:
        header = read_header(file)
        total = n_layers(header)
        if plan.layers is not None and plan.layers >= total:
            raise WorkError(f"{plan.source} has {total} layers, so that at most {total - 1} can be dropped.")
        # No file that is tried is larger than the one without a single small layer.
        look_for_room(max(pruned_bytes(header, [each]) for each in range(total)), [file.parent, plan.folder])
        measures = plan.measures
        calibration, test = search_prompts(plan, file)
        search = Pruning(file, plan.folder, calibration, test, measures.n_tokens, measures.num_ctx)
        found = search.search(n_drop=plan.layers, max_loss=plan.max_loss)
        prune_file(file, made, found.dropped, lambda done, all_: step("write", done, all_, "bytes"))
        take_in(engine, plan, file, made)
    except (PruneError, NotGgufError) as error:
        raise WorkError(f"{plan.source} can't be pruned: {error}.") from error
    except OSError as error:
        raise WorkError(f"The file can't be written: {error.strerror or error}.") from error
    finally:
        made.unlink(missing_ok=True)
    say_made(engine, plan, source, "own", started)
    say("pruning", **found.record())
