"""Write the report of runs, on demand or when a run ends."""

from collections.abc import Sequence
from pathlib import Path

from nanotx.files import write_atomic
from nanotx.report.gather import RunReport, dataset_of, gather, look_from_disk
from nanotx.report.page import report_page
from nanotx.report.passage import Subject, try_passage
from nanotx.report.references import reference_losses
from nanotx.runs.session import Session


def make_report(folders: Sequence[str]) -> tuple[str, list[RunReport]]:
    """Return the page of one run, or of several with their curves together, and what it shows.

    Of one run the model is loaded, for a passage and its attention maps.

    Raises:
        RunError: a folder is no run, or its metrics log cannot be read.
    """
    runs = [gather(folder) for folder in folders]
    texts: dict[str, dict[str, float]] = {}  # references by corpus and tokenizer, for runs that share them
    for run in runs:
        key = f"{run.row.corpus_sha256} {run.summary.get('tokenizer_sha256')}" if run.row.corpus_sha256 else run.name
        if key in texts:
            run.references = texts[key]
            continue
        dataset = dataset_of(run)
        if dataset is not None:
            texts[key] = run.references = reference_losses(dataset)
            if len(runs) == 1:
                look_from_disk(run, dataset)
    return report_page(runs), runs


def report_at_end(session: Session, whole: bool) -> Path:
    """Write report.html of a run that ends, with the model and the texts that are in memory; return its path.

    Args:
        session: of the run; its summary is written.
        whole: look at the model too, which a run that was stopped leaves out.
    """
    folder = session.folder
    run = gather(str(folder.path))
    run.notes = [note for note in run.notes if not note.startswith("A process was training")]
    if whole:
        run.references = reference_losses(session.texts)
        subject = Subject(
            model=session.trainer.model, codec=session.texts.codec, held_out=session.texts.eval_texts["val"]
        )
        with session.trainer.use_eval_weights():
            run.passage, notes = try_passage(subject)
        run.passage_step = session.trainer.progress.step
        run.notes += notes
    write_atomic(folder.report, report_page([run]))
    return folder.report
