"""One process's work on a run: from a recipe to a folder that can be resumed, loaded and verified."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nanotx import disk
from nanotx.config.plugins import plugin_error
from nanotx.config.schema import fields
from nanotx.config.toml import write_toml
from nanotx.data.corpus import Corpus, Unavailable
from nanotx.errors import ConfigError, Diverged, MemoryFull, NanotxError, RunError, TokenizerError, shell_quoted
from nanotx.evaluation.loss import Score, evaluate
from nanotx.files import clear, is_blank, read_regular, write_atomic
from nanotx.generation import Sampling
from nanotx.generation.text import stream_text
from nanotx.hardware.device import Machine, choose_machine, make_deterministic, peak_flops
from nanotx.hardware.memory import keep_freed_memory
from nanotx.nn.transformer import Transformer
from nanotx.optim.schedules import Schedule
from nanotx.recipe import Options, Recipe
from nanotx.runs import checkpoint
from nanotx.runs.checkpoint import clear_temporary
from nanotx.runs.folder import RunFolder, locked
from nanotx.runs.history import error, extent, rate
from nanotx.runs.metrics_log import Journal, copy_aside, read
from nanotx.runs.resume import check_corpus, resume_run, tokenizer_of
from nanotx.runs.resume_check import Survey, changes, recipe_digest, set_aside
from nanotx.runs.summary import summarize, title
from nanotx.runs.trainer_state import prune, read_state, save
from nanotx.runs.valid import TEXT, Proven
from nanotx.tokenizers import Codec
from nanotx.training.auto_batch import largest
from nanotx.training.compile import settle
from nanotx.training.dataset import load_dataset
from nanotx.training.loop import Callbacks, train
from nanotx.training.plugins import check_foreign
from nanotx.training.signals import Stop
from nanotx.training.trainer import Row, Trainer

BETWEEN = "\n\n----\n\n"
"""The separator between two texts of samples.txt."""

SHORT = 10.0
"""Seconds of arithmetic, at the machine's measured peak, below which no run is compiled."""


@runtime_checkable
class Display(Protocol):
    """Where a run is shown: a dashboard, or nothing at all."""

    def say(self, text: str) -> None:
        """Print a line."""

    def shout(self, text: str, title: str) -> None:
        """Print a panel that cannot be missed."""

    def show(self, row: Row) -> None:
        """Show a row of the metrics log."""

    def __enter__(self) -> Any:
        """Begin to show rows."""

    def __exit__(self, *_: object) -> None:
        """Show no more rows."""


class Session:
    """One process's work on a run."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        display: Display,
        stop: Stop,
        may_fall_back: bool,
        options: Options,
        found: Survey,
    ) -> None:
        """Prepare all there is before the folder is touched, so that a mistake leaves nothing behind."""
        self.folder, self.display, self.stop, self.options = folder, display, stop, options
        self.found, self.proven = found, Proven()
        self.barren = False  # whether the run failed before its first step, and leaves nothing
        machine = choose_machine(recipe.device, recipe.dtype, recipe.threads)
        machine_fields: Row = {"device": machine.device.type, "dtype": machine.dtype_name, "threads": machine.threads}
        recipe = replace(recipe, **machine_fields)
        if recipe.deterministic:
            make_deterministic(machine.device)
        check_foreign(recipe, machine.device.type)
        recipe.model.check(machine.device.type)
        codec = self.tokenizer(recipe)
        try:
            self.texts = load_dataset(recipe, codec, self.check_corpus)
        except Unavailable as error:
            if not may_fall_back:
                raise
            display.shout(f"{error}\n\nMeanwhile a play is learned that nanotx writes itself.", "No Shakespeare")
            recipe = replace(recipe, corpus=Corpus.find("playhouse")(validation=recipe.corpus.validation))
            self.texts = load_dataset(recipe, codec)
        keep_freed_memory()
        model = recipe.model.build(self.texts.codec.vocab_size, recipe.seed)
        self.peak = peak_flops(machine)
        self.recipe = recipe = replace(recipe, compile=self.compiles(recipe, model, machine))
        self.trainer = Trainer(recipe, model, self.texts.windows, machine)
        self.trainer.detect = options.detect_anomaly
        self.saved = 0  # the step of the newest checkpoint
        self.samples: list[str] = []  # every text that the run has written
        self.kept: set[Path] = set()  # old checkpoints that stay because they hold more than was saved
        self.unwritten: set[Path] = set()  # files that lack what could not be written
        if recipe.train.micro_batch_size == "auto":
            found_fit = replace(recipe.train, micro_batch_size=largest(self.trainer))
            self.recipe = self.trainer.recipe = replace(recipe, train=found_fit)

    def tokenizer(self, recipe: Recipe) -> Codec | None:
        """The tokenizer of a run that is resumed; None where it is to be trained."""
        folder, found, options = self.folder, self.found, self.options
        if not options.resume or options.restart or (found.checkpoint is None and is_blank(folder.tokenizer)):
            return None
        if found.before and found.before.tokenizer != recipe.tokenizer:
            return None  # --allow-mismatch: another one
        codec = tokenizer_of(folder, options.allow_mismatch)
        if is_blank(folder.tokenizer):
            found.notes.append(f"{folder.tokenizer}: missing or empty; restored from {found.checkpoint}.")
        return codec

    def check_corpus(self, digest: str, size: int) -> None:
        """Raise DataError where a run is resumed on another text than it was trained on, before that is encoded."""
        if self.found.checkpoint and not self.options.allow_mismatch:
            check_corpus(self.found.checkpoint, read_state(self.found.checkpoint), digest, size)

    def go(self, name: str) -> int:
        """Train to the end, or until asked to stop; return the exit code."""
        new = not self.folder.path.exists()
        self.folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.folder.path) as self.check_place:
                return self.work(name)
        finally:
            if new and self.barren:
                self.folder.remove_empty()

    def work(self, name: str) -> int:
        """Train as `go` does, while the lock is held."""
        self.stop.working = True
        if not self.options.restart:  # which sets aside what may be in the way, such as a dangling link
            checkpoint.probe(self.folder.checkpoints, self.checkpoint_size)
        resumed = self.open()
        if self.options.restart:
            checkpoint.probe(self.folder.checkpoints, self.checkpoint_size)
        self.clear_left()
        progress = self.trainer.progress
        self.saved = progress.step
        if progress.step >= self.recipe.train.steps and (figures := self.complete_figures()) is not None:
            self.display.say(f"{self.folder.path}: the run is complete at step {progress.step}; nothing is left to do.")
            progress.eval_pending, progress.scores = False, figures
            for note in self.found.notes:  # a file was missing
                self.display.say(note)
                self.settle()
            return self.print_next_steps()
        if not self.texts.eval_texts["val"].size:
            lost = "the tokenizer does not give the validation text back: <unk> is in it, or it takes another form."
            self.display.shout(f"{lost} Its loss is in nats per token, and compares with no other.", "No bits per byte")
        if warning := never_risen(self.recipe.schedule, self.recipe.train.steps):
            self.display.say(warning)
        changed = self.changed()
        if not changed:
            self.settle()
        notes = [*self.found.notes, *self.keep_samples()]
        journal = self.journal = Journal(self.folder.metrics, progress.step, progress.eval_pending)
        self.samples = [row["text"] for row in read(self.folder.metrics) if row["event"] == "sample"]
        try:
            with self.display:
                warnings = [self.warning(text) for text in [*notes, *journal.notes]]
                for row in [self.start_row(name, resumed), *changed, *warnings]:
                    self.record(row)
                if changed:  # recorded before recipe.toml says so
                    journal.sync()
                    self.settle()
                for row in self.rows():
                    self.record(row)
                    if row["event"] == "sample":
                        self.samples.append(row["text"])
                        self.write_samples()
            if self.unwritten:  # the disk is asked once more, and the run ends where it still refuses
                if self.folder.samples in self.unwritten:
                    write_atomic(self.folder.samples, in_one(self.samples))
                if error := journal.flush():
                    raise error
            if self.saved:
                # the last evaluation came after it, and may be the best
                self.note_kept(prune(self.trainer, self.folder, self.saved, self.proven))
            figures = summarize(self.trainer, self.texts, self.peak)
            write_atomic(self.folder.summary, json.dumps(figures, indent=1, allow_nan=False) + "\n")
            self.record({"event": "end", "step": progress.step, "complete": figures["complete"]})
            if error := journal.flush():
                raise error
        finally:
            journal.close()
            if self.barren:
                for file in (self.folder.metrics, self.folder.tokenizer, self.folder.recipe):
                    file.unlink(missing_ok=True)
        return self.print_next_steps()

    def record(self, row: Row) -> None:
        """Write a row to the metrics log, which is restored if it was removed, and show it."""
        self.check_place()
        said = self.journal.restore()
        error = self.journal.write({key: item for key, item in row.items() if key != "raised"})
        if not row.get("raised"):
            self.display.show(row)
        if said:
            self.record(self.warning(said))
        self.note_written(self.folder.metrics, error)

    def write_samples(self) -> None:
        """Publish all texts so far."""
        error = None
        try:
            write_atomic(self.folder.samples, in_one(self.samples))
        except OSError as refused:
            error = refused
        self.note_written(self.folder.samples, error)

    def note_written(self, path: Path, error: OSError | None) -> None:
        """Warn where a file cannot be written, once until it can be again: memory holds what it lacks."""
        if error is None:
            self.unwritten.discard(path)
        elif path not in self.unwritten:
            self.unwritten.add(path)
            self.record(
                self.warning(
                    f"step {self.trainer.progress.step}: {path}: cannot be written: {error.strerror or error}. "
                    f"{checkpoint.room(self.folder.checkpoints, self.checkpoint_size)} Training continues; what the "
                    "file lacks is kept in memory, and written as soon as the disk takes it."
                )
            )

    @property
    def checkpoint_size(self) -> int:
        """The bytes that a checkpoint takes at least: the weights, and their average if there is one."""
        size = sum(one.nbytes for one in self.trainer.model.parameters())
        return size * 2 if self.trainer.ema else size

    def warning(self, text: str) -> Row:
        """Return a warning about this step as a row."""
        return {"event": "warning", "step": self.trainer.progress.step, "text": text}

    def keep_samples(self) -> list[str]:
        """Set a copy of samples.txt aside where the journal has lost some of its texts; what to say of that."""
        path = self.folder.samples
        if not path.exists():
            return []
        texts = [row["text"] for row in read(self.folder.metrics) if row["event"] == "sample"]
        try:
            known = in_one(texts).encode("utf-8").startswith(read_regular(path).removesuffix(b"\n"))
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}; move it away, and resume again.") from None
        if known:
            return []
        return [f"{path}: holds texts that {self.folder.metrics.name} does not; a copy is {copy_aside(path)}."]

    def complete_figures(self) -> Row | None:
        """The figures of this step, where the run came to its end; a kill may have come before they were written.

        The last checkpoint owes the last evaluation and sample: only figures that call the run complete tell that they
        were made.
        """
        try:
            figures: Row = json.loads(read_regular(self.folder.summary, TEXT))
            done = figures["complete"] is True and figures["steps"] == self.trainer.progress.step
            return figures if done and {"val_loss", "bits_per_byte"} <= figures.keys() else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def compiles(self, recipe: Recipe, model: Transformer, machine: Machine) -> bool:
        """Whether the blocks are compiled; where the recipe leaves it open, a run of some length has it said why.

        Raises:
            ConfigError: it was demanded and does not work.
        """
        tokens = recipe.train.steps * recipe.train.batch_size * recipe.model.context
        if recipe.compile is False or (recipe.compile == "auto" and tokens * model.flops_per_token < SHORT * self.peak):
            return False
        plan = settle("on" if recipe.compile is True else "auto", model, machine, tokens, self.peak)
        self.display.say(f"compile {'on' if plan.on else 'off'}: {plan.reason}")
        return plan.on

    def open(self) -> bool:
        """Make the folder, or load what it holds; return whether a checkpoint was found."""
        resumed = False
        if self.options.restart and (aside := set_aside(self.folder)):
            self.display.say(f"{self.folder.path}: begins anew at step 0; what was there is now in {aside}.")
        elif self.folder.exists:
            if not self.options.resume:  # another process was here first
                raise ConfigError(f"--run {self.folder.path}: something lies there already: choose another.")
            resumed = resume_run(
                self.trainer, self.folder, self.texts, self.display.say, self.found, self.options.allow_mismatch
            )
            before, now = self.trainer.progress.scores.get("eval_tokens", 0), self.texts.eval_texts["val"].asked
            if self.trainer.progress.scores and before != now:
                said = [f"{count:,} tokens" if count else "all" for count in (now, before)]
                self.display.say(f"evaluations read {said[0]} of each text from here on, and {said[1]} before.")
        return resumed

    def clear_left(self) -> None:
        """Remove what killed processes left of writing the run's files and checkpoints."""
        clear_temporary(self.folder.path, self.folder.checkpoints, sound=self.proven)
        for path in (*self.folder.files, self.folder.path / ".owner"):
            clear(path, age=0.0)

    def settle(self) -> None:
        """Write the recipe and the tokenizer into the run's folder."""
        write_atomic(self.folder.recipe, write_toml(self.recipe))
        disk.sync(self.folder.path.parent)
        other = self.found.before is not None and self.found.before.tokenizer != self.recipe.tokenizer
        if is_blank(self.folder.tokenizer) or other:
            try:
                self.texts.codec.save(self.folder.tokenizer)
            except TokenizerError as error:  # the disk refused
                raise RunError(f"{error} Make room, or mend the folder, and go on by --resume.") from None

    def changed(self) -> list[Row]:
        """The row of what differs from the recipe of the checkpoint, if anything does; and say what."""
        before, step = self.found.before, self.trainer.progress.step
        if before is None or before == self.recipe:
            return []
        found = {key: [was, now] for key, was, now in changes(before, self.recipe)}
        said = "; ".join(f"{key} {was} -> {now}" for key, (was, now) in found.items())
        self.display.say(f"{self.folder.path}: changed from step {step} on: {said}.")
        if before.optimizer.part != self.recipe.optimizer.part:
            parts = self.recipe.optimizer.part, before.optimizer.part
            self.display.say(f"optimizer {parts[0]} begins with no state: that of {parts[1]} is left out.")
        if before.train.steps != self.recipe.train.steps:
            self.display.say(self.stretched(before))
        digest = recipe_digest(write_toml(self.recipe).encode("utf-8"))
        return [{"event": "changed", "step": step, "changes": found, "recipe_sha256": digest}]

    def stretched(self, before: Recipe) -> str:
        """What another number of steps does to the learning rate."""
        old, new, step = before.train.steps, self.recipe.train.steps, self.trainer.progress.step
        was = before.schedule.factor(max(step - 1, 0), old)
        now = self.recipe.schedule.factor(step, new)
        return (
            f"schedule {self.recipe.schedule.part}: for {new:,} steps, no longer {old:,}: the learning rate was "
            f"{was:.3g} of its full value at step {step:,}, and is {now:.3g} of it at step {step + 1:,}."
        )

    def start_row(self, name: str, resumed: bool) -> Row:
        """The row that opens a process's part of the journal."""
        recipe, machine = self.recipe, self.trainer.machine
        return {
            "event": "resume" if resumed else "start",
            "step": self.trainer.progress.step,
            "steps": recipe.train.steps,
            "tokens_per_step": recipe.train.batch_size * recipe.model.context,
            "title": title(name, recipe, self.trainer.model, self.texts, machine),
            "floor": self.texts.floor,
        }

    def rows(self) -> Iterator[Row]:
        """What happens while it trains; a divergence is written down before it is raised."""
        callbacks = Callbacks(
            scores=self.scores,
            sample=self.sample,
            save=self.save,
            stop=self.stop,
            save_requested=lambda: self.stop.save_requested,
        )
        try:
            yield from train(self.trainer, callbacks)
        except Diverged as error:
            yield self.warning(str(error)) | {"raised": True}
            raise
        except MemoryFull as error:
            raise MemoryFull(f"{error} The last checkpoint is of step {self.saved}; go on with --resume.") from None
        except ConfigError as error:
            raise ConfigError(f"{error} {self.rescue()}") from error
        except NanotxError:
            raise
        except (Exception, SystemExit) as error:  # a part from elsewhere may raise anything
            if (told := plugin_error(error)) is None:
                raise
            raise ConfigError(f"{told} {self.rescue()}") from error

    def rescue(self) -> str:
        """Save what was learned before a part failed, or clear a folder that holds nothing; what to say of it."""
        step, folder = self.trainer.progress.step, self.folder.path
        if not step and not self.options.resume:
            self.barren = True
            return f"Nothing was learned yet, and nothing is left in {folder}. Correct the file and try again."
        if self.trainer.consistent and step > self.saved:
            try:
                self.save()
            except RunError as error:
                return f"The last checkpoint is of step {self.saved}, and no newer one can be written: {error}"
        return f"The last checkpoint is of step {self.saved}. Correct the file and go on with --resume."

    def scores(self) -> dict[str, Score]:
        """How well both texts are predicted now."""
        model, machine = self.trainer.model, self.trainer.machine
        with self.trainer.use_eval_weights():
            eval_texts = self.texts.eval_texts.items()
            return {name: evaluate(model, eval_text, machine, on_batch=self.on_batch) for name, eval_text in eval_texts}

    def sample(self, step: int) -> str:
        """What the model writes now, from the start id on."""
        model, machine = self.trainer.model.eval(), self.trainer.machine
        length, sampling = self.recipe.train.sample_tokens, Sampling(seed=step)
        try:
            with self.trainer.use_eval_weights():
                pieces = []
                for piece in stream_text(model, self.texts.codec, "", length, sampling, device=machine.device):
                    self.on_batch()
                    pieces.append(piece)
        finally:
            model.train()
        return "".join(pieces)

    def on_batch(self) -> None:
        """Between two pieces of longer work: raise Interrupted where an end was asked for, or a save not yet made."""
        if self.saved == self.trainer.progress.step:
            self.stop.save_requested = False
        self.stop.check()

    def save(self) -> None:
        """Publish a checkpoint; what is written of the steps before it is on the disk first."""
        self.stop.save_requested = False
        self.check_place()
        try:
            self.journal.sync()
        except OSError as error:
            raise RunError(f"{self.folder.metrics}: cannot be flushed: {error.strerror or error}.") from None
        kept = save(self.trainer, self.folder, self.texts, self.proven, self.check_place)
        self.saved = self.trainer.progress.step
        self.journal.write({"event": "checkpoint", "step": self.saved})
        self.note_kept(kept)

    def note_kept(self, paths: list[Path]) -> None:
        """Warn once of each old checkpoint that is not removed, because it holds more than nanotx saved there."""
        new = [path for path in paths if path not in self.kept]
        self.kept.update(new)
        if new:
            names = ", ".join(path.name for path in new)
            self.record(
                self.warning(
                    f"{self.folder.checkpoints}: {names}: no longer needed, and not removed: not what nanotx saved "
                    "there, or files of yours are beside it. Remove it yourself, or move it elsewhere."
                )
            )

    def print_next_steps(self) -> int:
        """Print the results and how to continue; the last line is a command."""
        scores, folder = self.trainer.progress.scores, shell_quoted(self.folder.path)
        own = "".join(f" --load {shell_quoted(file)}" for file in self.options.load)
        step = self.trainer.progress.step
        if self.stop() and (step < self.recipe.train.steps or self.trainer.progress.eval_pending):
            told = f"Stopped at step {step}, and saved. To continue, or to sample from it:"
            self.display.say(told if step else "Stopped. To begin again:")
            self.display.say(f"nanotx resume {folder}{own}")
            if step:
                self.display.say(f"nanotx sample {folder}{own}")
            return self.stop.exit_code
        if skipped := self.trainer.progress.skipped:
            self.display.say(f"{skipped:,} of {step:,} steps were skipped: their loss or gradient was not finite.")
        if scores.get("val_loss") is not None:
            part = "; nanotx eval reads all" if scores.get("eval_tokens") else ""
            self.display.say(
                f"validation loss {scores['val_loss']:.4f}{error(scores)}, bits per byte "
                f"{rate(scores['bits_per_byte'])}{extent(scores)}{part}"
            )
        self.display.say("To train it further, or to sample from it:")
        self.display.say(f"nanotx resume {folder} --train.steps {2 * self.recipe.train.steps}{own}")
        self.display.say(f"nanotx sample {folder}{own}")
        return 0


def never_risen(schedule: Schedule, steps: int) -> str:
    """What to say of a schedule whose warm-up is longer than the run, so that its learning rate is never reached."""
    best = max(schedule.factor(step, steps) for step in range(0, steps, max(1, steps // 1000)))
    if "warmup" not in fields(type(schedule)) or best > 0.99:
        return ""
    return (
        f"warning: schedule {schedule.part}: its warm-up is too long for {steps:,} steps: the learning rate comes to "
        f"at most {best:.2g} times optimizer.lr; try a shorter --schedule.warmup, or more --train.steps."
    )


def in_one(samples: list[str]) -> str:
    """The content of samples.txt; half a character that a foreign tokenizer gave is a question mark."""
    return (BETWEEN.join(samples) + "\n").encode("utf-8", "replace").decode("utf-8")
