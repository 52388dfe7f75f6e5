"""One process's work on a run: from a recipe to a folder that can be resumed, loaded and verified."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import nanotx
from nanotx import disk
from nanotx.config.plugin_errors import plugin_error
from nanotx.config.registry import load_file
from nanotx.config.schema import fields
from nanotx.config.toml import write_toml
from nanotx.data.corpus import Corpus, Unavailable
from nanotx.distributed import Alone, Ranks, check_shares
from nanotx.errors import (
    ConfigError,
    Diverged,
    MemoryFull,
    NanotxError,
    RunError,
    TextError,
    TokenizerError,
    shell_quoted,
)
from nanotx.files import clear, is_blank, read_regular, write_atomic
from nanotx.hardware.device import Machine, choose_machine, make_deterministic
from nanotx.hardware.memory import keep_freed_memory
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.recipe_flags import Options
from nanotx.runs.callbacks import BusyMachine, Checkpoints, Display, Guarded, RunFiles, Shown, keep_samples
from nanotx.runs.checkpoint_writer import CheckpointWriter
from nanotx.runs.folder import RunFolder, locked
from nanotx.runs.followers import check_slices, lead
from nanotx.runs.initial_weights import Source, describe, read_source, take_weights
from nanotx.runs.loaded_files import RecordedFile, keep_copies
from nanotx.runs.metrics_log import MetricsLog, read
from nanotx.runs.next_steps import after_end, after_stop, own_flags
from nanotx.runs.recipe_changes import changes_row, describe_changes
from nanotx.runs.resume import check_corpus, resume_run, tokenizer_of
from nanotx.runs.resume_check import Survey, changes, set_aside
from nanotx.runs.run_budget import RunBudget
from nanotx.runs.shared import Shared
from nanotx.runs.start_warnings import NOT_ROUND_TRIPPING, text_warnings, warmup_warning
from nanotx.runs.summary import summarize, title
from nanotx.runs.trainer_state import read_state
from nanotx.runs.valid import TEXT
from nanotx.tokenizers import Codec
from nanotx.tokenizers.char import Char
from nanotx.training.auto_batch import largest_micro_batch
from nanotx.training.budget import step_cost
from nanotx.training.callbacks.base import Callback
from nanotx.training.callbacks.evaluation import Evaluation, Sample
from nanotx.training.compile import SHARES, plan_compile
from nanotx.training.freezing import describe_frozen
from nanotx.training.loop import TrainingRun, failure
from nanotx.training.plugin_checks import check_foreign
from nanotx.training.signals import EndAtOnce, Stop
from nanotx.training.trainer import Row, Trainer

SHORT = 10.0
"""Seconds of arithmetic, at the machine's measured peak, below which no run is compiled."""


@dataclass(frozen=True)
class Work:
    """The task of one process: a recipe, a run folder, and options."""

    recipe: Recipe
    folder: RunFolder
    options: Options
    survey: Survey  # contents of the folder, if the run is resumed
    callbacks: tuple[Callback, ...] = ()  # of the user
    may_fall_back: bool = False  # use another corpus if this one cannot be fetched
    remarks: tuple[str, ...] = ()  # lines to print after the title of the run
    began: float = nanotx.started  # when the run's clock started, by time.perf_counter
    report: "Callable[[Session, bool], object] | None" = None  # writes report.html; called as `write_report` says
    ranks: Ranks = field(default_factory=Alone)  # the processes that train together, led by this one
    named: tuple[str, Recipe] | None = None  # the recipe that the user named, before flags, where a run begins with it
    evaluated: tuple[str, ...] = ("train", "val")  # texts that evaluations read
    shared: Shared = field(default_factory=Shared)  # what other runs of this process have computed already


class Session:
    """One process's work on a run."""

    def __init__(self, work: Work, display: Display, stop: Stop) -> None:
        """Prepare everything before the folder is touched, so that a user error leaves nothing behind."""
        self.folder, self.options, self.survey, self.callbacks = work.folder, work.options, work.survey, work.callbacks
        self.display, self.stop, self.report = Guarded(display), stop, work.report
        recipe, self.began, self.named, self.ranks = work.recipe, work.began, work.named, work.ranks
        check_shares(recipe, self.ranks.size)
        self.reported = False  # report.html is written
        self.leaves_nothing = False  # the run failed before its first step and leaves no folder
        self.remarks = list(work.remarks)  # lines to print after the title of the run
        self.began_with: list[str] = []  # those about the weights of another run
        machine = choose_machine(recipe.device, recipe.dtype, recipe.threads)
        machine_fields: Row = {"device": machine.device.type, "dtype": machine.dtype_name, "threads": machine.threads}
        recipe = replace(recipe, **machine_fields)
        if recipe.deterministic:
            make_deterministic(machine.device)
        check_foreign(recipe, machine.device.type)
        recipe.model.check(machine.device.type)
        codec = self.tokenizer(recipe)
        source: Source | None = None
        if recipe.init is not None and self.survey.checkpoint is None:
            source = read_source(recipe.init, recipe.init_sha256)
            recipe = replace(recipe, init_sha256=source.sha256)
        try:
            self.texts = work.shared.dataset(recipe, codec, self.check_corpus, display.say)
        except TextError as error:  # a character of the validation text
            own = "" if "unknown" in fields(type(recipe.tokenizer)) else f" --tokenizer {Char.part}"
            raise TextError(f"{error} As flags: --tokenizer byte, or{own} --tokenizer.unknown.") from None
        except Unavailable as error:
            if not work.may_fall_back:
                raise
            display.shout(f"{error}\n\nThis run trains on a play that nanotx generates instead.", "No Shakespeare")
            recipe = replace(recipe, corpus=Corpus.find("playhouse")(validation=recipe.corpus.validation))
            self.texts = work.shared.dataset(recipe, codec)
        keep_freed_memory()
        model = self.build_model(recipe, source)
        self.eval_texts = {name: self.texts.eval_texts[name] for name in work.evaluated}
        self.peak = work.shared.peak(machine)
        self.budget = RunBudget(self.folder, self.survey, self.options.allow_mismatch)
        recipe = self.budget.count(recipe, model, self.texts)
        self.remarks += self.budget.remarks
        self.recipe = recipe = replace(recipe, compile=self.compiles(recipe, model, machine))
        in_slices = self.ranks.parallel == "fsdp" and self.ranks.size > 1
        self.trainer = Trainer(recipe, model, self.texts.windows, machine, in_slices)
        if in_slices:
            check_slices(self.trainer, self.callbacks)
        self.loaded: list[RecordedFile] = []  # files that --load imported; recorded in checkpoints and in the summary
        if recipe.train.micro_batch_size == "auto":
            train = replace(recipe.train, micro_batch_size=largest_micro_batch(self.trainer))
            self.recipe = self.trainer.recipe = replace(recipe, train=train)
        if self.recipe.train.budget[0] == "seconds":
            del model
            self.measure_steps(machine, source)
        self.remarks += describe_frozen(self.trainer.model)
        if self.recipe.model.adapt.patterns and self.recipe.init is None:
            self.remarks.append(
                f"warning: adapt {self.recipe.model.adapt.part}: the weights that stay as they are were drawn from the "
                "seed; begin with those of a trained run by --init RUN."
            )
        self.trainer.detect = work.options.detect_anomaly

    def tokenizer(self, recipe: Recipe) -> Codec | None:
        """Return the tokenizer of a resumed run; None if it is to be trained."""
        folder, survey, options = self.folder, self.survey, self.options
        if not options.resume or options.restart or (survey.checkpoint is None and is_blank(folder.tokenizer)):
            return None
        if survey.before and survey.before.tokenizer != recipe.tokenizer:
            return None  # --allow-mismatch: another one
        codec = tokenizer_of(folder, options.allow_mismatch)
        if is_blank(folder.tokenizer):
            survey.notes.append(f"{folder.tokenizer}: missing or empty; restored from {survey.checkpoint}.")
        return codec

    def build_model(self, recipe: Recipe, source: Source | None) -> Transformer:
        """Return the model of the recipe, with the weights of a source if there is one; report what fits, once."""
        model, codec = recipe.model.build(self.texts.codec.vocab_size, recipe.seeds.weights), self.texts.codec
        if source is not None:
            fit = take_weights(model, source, codec)
            if not self.began_with:
                self.began_with = describe(source, fit, model)
                self.remarks += self.began_with
                self.survey.notes.extend(fit.notes())
        return model

    def measure_steps(self, machine: Machine, source: Source | None) -> None:
        """Make steps of a budget of seconds, and begin again with new weights: the measured steps are not the run's."""
        self.recipe = self.budget.measure(self.recipe, self.trainer)
        self.remarks += self.budget.remarks
        del self.trainer  # before another model is built
        self.trainer = Trainer(self.recipe, self.build_model(self.recipe, source), self.texts.windows, machine)

    def check_corpus(self, digest: str, size: int) -> None:
        """Raise DataError if a run is resumed on another text than it was trained on; called before it is encoded."""
        if self.survey.checkpoint and not self.options.allow_mismatch:
            check_corpus(self.survey.checkpoint, read_state(self.survey.checkpoint), digest, size)

    def run_to_end(self, name: str) -> int:
        """Train to the end, or until asked to stop; return the exit code."""
        new = not self.folder.path.exists()
        self.folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.folder.path) as self.check_place:
                return self.run_locked(name)
        finally:
            if new and self.leaves_nothing:
                self.folder.remove_empty()

    def run_locked(self, name: str) -> int:
        """Train as `run_to_end` does, while the lock is held."""
        self.stop.working = True
        checkpoints = CheckpointWriter(self.trainer, self.texts, self.folder, self.check_place)
        if not self.options.restart:  # restart first moves aside whatever is in the way, such as a dangling link
            checkpoints.probe()
        resumed = self.open()
        self.budget.recall(self.recipe, resumed)
        if self.options.restart:
            checkpoints.probe()
        self.clear_temporary_files(checkpoints)
        progress = self.trainer.progress
        progress.earlier_seconds -= self.began - nanotx.started  # what this process did before is not the run's
        if progress.step >= self.recipe.train.steps and (figures := self.complete_figures()) is not None:
            self.display.say(f"{self.folder.path}: the run is complete at step {progress.step}; nothing is left to do.")
            progress.eval_pending, progress.scores = False, figures
            for remark in self.remarks:
                self.display.say(remark)
            for note in self.survey.notes:  # a file was missing
                self.display.say(note)
                self.write_recipe()
            return self.print_next_steps(stopped=False)
        if not self.texts.eval_texts["val"].size:
            self.display.shout(NOT_ROUND_TRIPPING, "No bits per byte")
        self.remarks += text_warnings(self.recipe, self.texts)
        if warning := warmup_warning(self.recipe.schedule, self.recipe.train.steps):
            self.remarks.append(warning)
        self.keep_loaded_files()
        changed = self.changed()
        if not changed:
            self.write_recipe()
        notes = [*self.survey.notes, *keep_samples(self.folder)]
        log = MetricsLog(self.folder.metrics, progress.step, progress.eval_pending)
        files = self.files = RunFiles(self.folder, log, self.check_place, checkpoints.size)
        run = self.run = self.training_run(files, checkpoints)
        try:
            with self.display:
                for row in [self.start_row(name, resumed), *changed]:
                    run.publish(row)
                for text in self.remarks:
                    self.display.say(text)
                for text in [*notes, *log.notes]:
                    run.warn(text)
                if changed:  # recorded before recipe.toml says so
                    log.sync()
                    self.write_recipe()
                lead(self.ranks, self.trainer, self.texts, stop=self.stop)
                self.train()
            files.finish()
            # the last evaluation came after the last checkpoint, and may be the best
            if warning := checkpoints.prune(run.saved):
                run.warn(warning)
            figures = summarize(self.trainer, self.texts, self.peak, self.budget.columns, self.loaded)
            write_atomic(self.folder.summary, json.dumps(figures, indent=1, allow_nan=False) + "\n")
            run.publish({"event": "end", "step": progress.step, "complete": figures["complete"]})
            files.flush()
            self.write_report(whole=figures["complete"])
        finally:
            run.close()
            log.close()
            if self.leaves_nothing:
                for path in (self.folder.metrics, self.folder.tokenizer, self.folder.recipe, self.folder.code):
                    disk.remove(path)
        return self.print_next_steps(stopped=run.stopping)

    def training_run(self, files: RunFiles, checkpoints: CheckpointWriter) -> TrainingRun:
        """Return the loop with its callbacks: the user's, then those that write, show, save, evaluate and sample."""
        machine = self.trainer.machine
        crowd = [BusyMachine(self.display.say, machine.threads)] if machine.device.type == "cpu" else []
        evaluation = Evaluation(eval_texts=self.eval_texts)
        own = (files, Shown(self.display), *crowd, Checkpoints(), evaluation, Sample())
        return TrainingRun(
            self.trainer,
            callbacks=self.callbacks,
            own=own,
            save=lambda: checkpoints.save(self.run, files, self.loaded),
            stop=self.stop,
            tokenizer=self.texts.codec,
            folder=self.folder.path,
            note=self.display.note,
            doing=self.display.doing,
            rows=lambda: read(self.folder.metrics),
        )

    def complete_figures(self) -> Row | None:
        """Return the summary, if the run is complete at this step; None if it was killed before that was written.

        The last checkpoint records the last evaluation and sample as pending. Only a summary that says "complete" shows
        that they were done.
        """
        try:
            figures: Row = json.loads(read_regular(self.folder.summary, TEXT))
            done = figures["complete"] is True and figures["steps"] == self.trainer.progress.step
            return figures if done and {"val_loss", "bits_per_byte"} <= figures.keys() else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def compiles(self, recipe: Recipe, model: Transformer, machine: Machine) -> bool:
        """Return whether to compile the blocks; if the recipe says "auto", print the reason, unless the run is short.

        Raises:
            ConfigError: the recipe requires it, and it does not work here.
        """
        name, amount = recipe.train.budget
        tokens = int(recipe.train.steps * recipe.train.batch_size * recipe.model.context)
        if name == "seconds":  # as many as the machine can learn from in that time, as `plan_compile` estimates it
            tokens = int(amount * self.peak * SHARES[machine.dtype] / model.flops_per_token)
        if recipe.compile is False or (recipe.compile == "auto" and tokens * model.flops_per_token < SHORT * self.peak):
            return False
        plan = plan_compile("on" if recipe.compile is True else "auto", model, machine, tokens, self.peak)
        self.remarks.append(f"torch.compile is {'on' if plan.on else 'off'}: {plan.reason}")
        return plan.on

    def open(self) -> bool:
        """Prepare the folder, or load the run in it; return whether a checkpoint was loaded."""
        resumed = False
        if self.options.restart and (aside := set_aside(self.folder)):
            self.display.say(f"{self.folder.path}: starts again at step 0; its old files are in {aside}.")
        elif self.folder.exists:
            if not self.options.resume:  # another process was here first
                raise ConfigError(f"--run {self.folder.path}: already exists; choose another.")
            resumed = resume_run(
                self.trainer, self.folder, self.texts, self.display.say, self.survey, self.options.allow_mismatch
            )
            before, now = (
                self.trainer.progress.scores.get("eval_tokens", 0),
                self.texts.eval_texts["val"].requested_tokens,
            )
            if self.trainer.progress.scores and before != now:
                sizes = [f"{count:,} tokens" if count else "all" for count in (now, before)]
                self.display.say(f"evaluations now read {sizes[0]} of each text; before, {sizes[1]}.")
        return resumed

    def clear_temporary_files(self, checkpoints: CheckpointWriter) -> None:
        """Remove temporary files that killed processes left."""
        checkpoints.clear_temporary()
        for path in (*self.folder.files, self.folder.path / ".owner"):
            clear(path, age=0.0)

    def write_recipe(self) -> None:
        """Write the recipe and the tokenizer into the run's folder."""
        write_atomic(self.folder.recipe, write_toml(self.recipe))
        disk.sync(self.folder.path.parent)
        other = self.survey.before is not None and self.survey.before.tokenizer != self.recipe.tokenizer
        if is_blank(self.folder.tokenizer) or other:
            try:
                self.texts.codec.save(self.folder.tokenizer)
            except TokenizerError as error:  # the disk refused
                raise RunError(f"{error} Free some space, or repair the folder, and continue with --resume.") from None

    def keep_loaded_files(self) -> None:
        """Write a copy of each file that --load imported into the run's folder."""
        files = list(dict.fromkeys(load_file(path) for path in self.options.load))
        self.loaded = keep_copies(files, self.folder)
        for file in files:
            if file.neighbours:
                names = ", ".join(file.neighbours)
                self.remarks.append(f"{file.path.name} imports {names}, of which the run keeps no copy; keep them.")

    def changed(self) -> list[Row]:
        """Return the row of changes to the checkpoint's recipe, if there are any, and print them."""
        before, now = self.survey.before, self.recipe
        if before is None or (row := changes_row(before, now, self.trainer.progress.step)) is None:
            return []
        for line in describe_changes(self.folder.path, before, now, row):
            self.display.say(line)
        return [row]

    def start_row(self, name: str, resumed: bool) -> Row:
        """Return the first row that this process writes."""
        recipe, machine = self.recipe, self.trainer.machine
        cost = step_cost(recipe.train, self.trainer.model, self.texts)
        return {
            "event": "resume" if resumed else "start",
            "step": self.trainer.progress.step,
            "steps": recipe.train.steps,
            "tokens_per_step": recipe.train.batch_size * recipe.model.context,
            "bytes_per_step": None if cost.bytes is None else float(cost.bytes),
            "flops_per_step": cost.flops,
            **self.budget.columns,
            "tokens_per_eval": sum(eval_text.tokens for eval_text in self.eval_texts.values()),
            "eval_every": recipe.train.eval_every,
            "sample_every": recipe.train.sample_every,
            "checkpoint_every": recipe.train.checkpoint_every,
            "title": title(name, recipe, self.trainer.model, self.texts, machine),
            "floor": self.texts.floor,
            "flops_per_token": self.trainer.model.flops_per_token,
            "peak_flops": self.peak,
            "wall_seconds": self.trainer.progress.wall_seconds,
            "ranks": self.ranks.size,
            "padding": self.texts.padding,
            **({} if resumed else self.named_row()),
        }

    def named_row(self) -> Row:
        """Return the columns that record the recipe that the user named: its name, and its values of changed fields."""
        if self.named is None:
            return {}
        name, recipe = self.named
        return {"recipe": name, "recipe_differs": {key: was for key, was, _ in changes(recipe, self.recipe)}}

    def train(self) -> None:
        """Train; log a divergence before it is raised."""
        try:
            self.run.train()
            self.trainer.become_whole()
        except Diverged as error:
            self.files.on_row(self.run, {"event": "warning", "step": self.run.step, "text": str(error)})
            self.write_report(whole=False)
            raise
        except MemoryFull as error:
            raise MemoryFull(
                f"{error} The last checkpoint is of step {self.run.saved}; continue with --resume."
            ) from None
        except ConfigError as error:
            raise ConfigError(f"{error} {self.rescue()}") from error
        except NanotxError:
            raise
        except (Exception, SystemExit) as error:  # a plug-in may raise anything
            if (message := plugin_error(error)) is None:
                raise
            raise ConfigError(f"{message} {self.rescue()}") from error

    def rescue(self) -> str:
        """Save the steps before a part failed, or mark the folder for removal; return a sentence about it."""
        step, folder = self.trainer.progress.step, self.folder.path
        if not step and not self.options.resume:
            self.leaves_nothing = True
            return f"No step was taken, and {folder} is removed. Correct the file and try again."
        if self.trainer.consistent and self.ranks.has_whole_state and step > self.run.saved:
            try:
                self.run.save_and_wait()
            except ConfigError:  # what brought us here: the state of a part cannot be saved
                if not self.run.saved and not self.options.resume:
                    self.leaves_nothing = True
                    return f"No checkpoint can be written, and nothing is left in {folder}. Correct it and try again."
            if error := self.run.refused:
                return f"The last checkpoint is of step {self.run.saved}, and a newer one cannot be written: {error}"
        edited = " --allow-mismatch, as the file is another one then" if self.options.load else ""
        return f"The last checkpoint is of step {self.run.saved}. Correct the file and continue with --resume{edited}."

    def write_report(self, whole: bool) -> None:
        """Write report.html from all that is on the disk; if that fails, say so, and harm nothing.

        Args:
            whole: show what the model makes of a text too, which takes a moment.
        """
        if self.report is None:
            return
        try:
            self.check_place()
            self.report(self, whole)
            self.reported = True
        except (EndAtOnce, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a library written in Rust panics with a class that is no Exception
            again = f"nanotx report {shell_quoted(self.folder.path)}{own_flags(self.options)}"
            self.display.say(f"warning: no {self.folder.report.name}: {failure(error)} {again} tries again.")

    def print_next_steps(self, stopped: bool) -> int:
        """Print the results and how to continue; the last line is a command. Return the exit code."""
        progress = self.trainer.progress
        unfinished = stopped and (progress.step < self.recipe.train.steps or progress.eval_pending)
        if unfinished:
            lines = after_stop(progress, self.folder, self.options)
        else:
            lines = after_end(progress, self.recipe, self.folder, self.options, self.reported)
        for line in lines:
            self.display.say(line)
        return self.stop.exit_code if unfinished and self.stop() else 0
