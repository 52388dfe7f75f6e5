"""A recipe is read from its defaults, TOML files and flags.

The tree of configs is the tree of flags. First the parts are chosen by name (`--attention per_head`), then the fields
of the chosen parts are read (`--attention.heads 6`). `--attention`, `--ffn` and `--norm` reach every block.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from nanotx.config.command_line import FlagValues, collect_flags, positional_args, read_flags, suggest_flag
from nanotx.config.flags import command_page, flags_of, option, part_flag, repeated
from nanotx.config.help_page import HELP, Flag, Page
from nanotx.config.other_names import FLAGS, our_flag, remark
from nanotx.config.registry import Slot
from nanotx.config.schema import Table, fields, from_table, part_of, to_table, without_none
from nanotx.config.toml import merge, merge_part, read_toml
from nanotx.errors import ConfigError
from nanotx.nn.transformer import Model
from nanotx.recipe import BUDGETS, Recipe, Train

ConfigPath = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run that are not part of its recipe."""

    run: str = option("DIR")  # folder of the results; without it, a new runs/<recipe>-<n>
    resume: bool = False  # continue the run in this folder from its newest valid checkpoint
    restart: bool = False  # start the run in this folder again; its old files are moved aside, not deleted
    allow_mismatch: bool = False  # resume although recipe, corpus or tokenizer differ from those of the run
    depth: int = option("LAYERS", 0)  # layers; width, heads, rate, batch and tokens follow by rules (docs/scale.md)
    ranks: int = 1  # processes of this machine that train together; under torchrun it says how many
    rank_timeout: float = 600.0  # seconds that one of them may take longer than the others for its part of a step
    parallel: Literal["replicas", "owner", "fsdp"] = (
        "replicas"  # state that these processes divide: none, the optimizer's, or that of weights and gradients too
    )
    detect_anomaly: bool = False  # name the operation that produced a NaN or infinite number; slow
    print_config: bool = False  # print the resulting recipe as TOML, and exit
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts
    callback: tuple[str, ...] = repeated("NAME")  # callback that watches the run, or '{part = "name", field = value}'


def read_options(argv: Sequence[str]) -> Options:
    """Return the options alone, before the recipe is known.

    Raises:
        ConfigError: --run, --load or --callback names nothing.
    """
    flags = {flag.name: flag for flag in flags_of(Options)}
    words: list[str] = []
    takes_value = False
    for word in argv:
        if word.startswith("--"):
            (name,) = collect_flags([word]) or [""]
            takes_value = name in flags and flags[name].kind is not bool and "=" not in word
            words += [word] if name in flags else []
        elif takes_value:
            words.append(word)
            takes_value = False
    examples = {"run": "a path such as runs/mine", "load": "a path such as mine.py", "callback": "a name"}
    for name, example in examples.items():
        if not all(values and values[0] for values in collect_flags(words).get(name, [])):
            raise ConfigError(f"--{name}: expected {example}, got nothing.")
    return Options(**read_flags(command_page(list(flags.values()), "nanotx train", ""), words))


def read_recipe(recipe: Recipe, argv: Sequence[str], prog: str) -> tuple[Recipe, set[str]]:
    """Return the recipe with TOML files and flags merged into it, and the fields that they named.

    Raises:
        ConfigError: a flag, key or value that cannot be; says what would.
        SystemExit: help was asked for, or a flag's value cannot be read.
    """
    recipe, named = apply_files(recipe, argv)
    flags = list(argv)[len(positional_args(argv)) :]
    flag_values = collect_flags(flags)
    recipe, pending = apply_part_flags(recipe, flag_values)
    check_one_budget([f"--train.{name}" for name in BUDGETS if f"train.{name}" in flag_values])
    recipe = apply_field_flags(recipe, pending, flags, prog)
    return recipe, named | {name.split(".")[0] for name in flag_values}


def apply_files(recipe: Recipe, argv: Sequence[str]) -> tuple[Recipe, set[str]]:
    """Return the recipe with the TOML files before the flags merged into it, and the fields that they named."""
    table, named = to_table(recipe), set[str]()
    for file in positional_args(argv):
        layer = read_toml(Path(file))
        try:
            check_one_budget([f"train.{name}" for name in named_budgets(layer.get("train"))])
            table = merge(Recipe, table, layer)
            from_table(Recipe, table)
        except ConfigError as error:
            raise type(error)(f"{file}: {error}{right_place(layer, recipe)}") from None
        named |= set(layer)
    return from_table(Recipe, table), named


def named_budgets(train: object) -> list[str]:
    """Return the budgets that the table of a TOML file names; `steps = 0` names none."""
    return [name for name in BUDGETS if isinstance(train, dict) and train.get(name)]


def check_one_budget(names: Sequence[str]) -> None:
    """Raise ConfigError if a file, or the flags together, name several budgets."""
    if len(names) > 1:
        raise ConfigError(
            f"{' and '.join(names)}: exactly one budget decides how long a run is, got {len(names)}; leave all but "
            "one out."
        )


def describe_budget(recipe: Recipe, argv: Sequence[str], final: Recipe) -> list[str]:
    """Return a line if a later file or a flag replaces the budget of the recipe by one of another kind.

    Args:
        recipe: before files and flags.
        argv: the files and flags.
        final: what `read_recipe` made of them.
    """
    whole = 1 if recipe == Recipe() else 0  # a first file over the defaults is the recipe itself
    before, _ = apply_files(recipe, positional_args(argv)[:whole])
    (old, was), (new, now) = before.train.budget, final.train.budget
    return [f"budget: train.{old} {was:,.10g} gives way to train.{new} {now:,.10g}"] if old != new else []


TABLES = {"model": Model, "train": Train}
"""The tables of a TOML file that are not parts."""


def right_place(layer: Table, recipe: Recipe) -> str:
    """Return where the first misplaced key of a TOML file belongs, as a sentence after a space; "" if none is known."""
    configs = [((), recipe), *((place, config) for _, place, config in walk_configs(recipe))]
    tables: list[tuple[ConfigPath, Any, Table]] = [((), Recipe, layer)]
    for name, kind in TABLES.items():
        if isinstance(layer.get(name), dict):
            tables.append(((name,), kind, layer[name]))
    for _, kind, table in tables:
        for key in table:
            ours = our_flag(key, [f"{name}.{field}" for name in TABLES for field in fields(TABLES[name])])
            field = ours.rpartition(".")[2] or key
            if key in fields(kind) or field in fields(kind):
                continue
            for place, config in configs:
                if field in fields(type(config)):
                    where = ".".join(str(step) for step in place if not isinstance(step, int))
                    return (
                        f" It belongs {f'in the table [{where}]' if where else 'before the first table'}, as {field}."
                    )
    return ""


def walk_configs(value: Any, at: ConfigPath = ()) -> Iterator[tuple[str, ConfigPath, Any]]:
    """Yield every config in a recipe, outer ones first: its group of flags, its place, and itself."""
    for name, kind in fields(type(value)).items():
        item, kind = getattr(value, name), without_none(kind)
        several = isinstance(item, tuple) and any(isinstance(config, Slot) for config in item)
        for index, config in enumerate(item) if several else [("", item)]:
            if dataclasses.is_dataclass(config):
                place = (*at, name, index) if several else (*at, name)
                yield type(config).slot if isinstance(config, Slot) else name, place, config
                yield from walk_configs(config, place)


def apply_part_flags(recipe: Recipe, flag_values: FlagValues) -> tuple[Recipe, dict[ConfigPath, Table]]:
    """Return the recipe with the named slots filled by their new parts, outer slots first, and pending fields by place.

    A part that is invalid with the plain fields that it takes over is built without them; these fields are pending,
    because flags may still change them.
    """
    waiting, pending = dict(flag_values), dict[ConfigPath, Table]()
    while True:
        matching = [
            (place, part) for group, place, part in walk_configs(recipe) if group in waiting and isinstance(part, Slot)
        ]
        if not matching:
            return recipe, pending
        slot = matching[0][1].family
        values = waiting.pop(slot.slot)[0]
        if len(values) != 1:
            quoted = f" A path with spaces is quoted: --{slot.slot} {' '.join(values)!r}." if values else ""
            raise ConfigError(
                f"--{slot.slot}: expected one name of {', '.join(slot.names())}, got {' '.join(values) or 'nothing'}."
                f"{quoted}"
            )
        filled: list[ConfigPath] = []  # a part that wraps another of its slot is replaced with what it wraps
        for place, part in matching:
            if part.family is slot and not any(place[: len(outer)] == outer for outer in filled):
                filled.append(place)
                table = replacement_table(slot, part, values[0])
                try:
                    recipe = replace_at(recipe, place, from_table(slot, table, f"--{slot.slot}"))
                except ConfigError:
                    inside = {key: item for key, item in table.items() if key == "part" or isinstance(item, dict)}
                    recipe = replace_at(recipe, place, from_table(slot, inside, f"--{slot.slot}"))
                    pending[place] = {key: item for key, item in table.items() if key not in inside}


def replacement_table(slot: type[Slot], old: Any, name: str) -> Table:
    """Return the table of the part that replaces another, with all fields of the old part that fit.

    A part that wraps one of its own slot, such as `token_shift`, wraps the old part whole. Where such a part goes,
    what it wrapped is handed on in its place.
    """
    where, new = f"--{slot.slot}", part_of(slot, name, f"--{slot.slot}")[0]
    outer_old, outer_new = wrapped_field(type(old)), wrapped_field(new)
    if outer_new and not outer_old:
        over = {"part": name, outer_new: to_table(old)}
        return dict(merge_part(slot, to_table(old), over, where))
    if outer_old and not outer_new:
        old = getattr(old, outer_old)
    return dict(merge_part(slot, to_table(old), name, where))


def wrapped_field(part: type[Any]) -> str:
    """Return the field of a part that holds another part of its own slot; empty where there is none."""
    return next((name for name, kind in fields(part).items() if without_none(kind) is part.family), "")


def apply_field_flags(recipe: Recipe, pending: dict[ConfigPath, Table], argv: list[str], prog: str) -> Recipe:
    """Return the recipe with the fields that flags gave, outer configs first, each config changed once."""
    page = recipe_page(recipe, prog)
    values = read_flags(page, argv, lambda flag: unknown_flag(flag, recipe, page))
    slots = {group for group, _, config in walk_configs(recipe) if isinstance(config, Slot)}
    for group, place, config in [("", (), recipe), *walk_configs(recipe)]:
        names = {name: f"{group}.{name}" if group else name for name in fields(type(config))}
        changes = {
            name: values[flag] for name, flag in names.items() if flag in values and (group or name not in slots)
        }
        if changes := pending.get(place, {}) | changes:
            where = ".".join(map(str, place))
            recipe = replace_at(
                recipe, place, from_table(type(config), merge(type(config), to_table(config), changes), where)
            )
    return recipe


MOST_USED = (
    *("run", "resume", "train.steps", "train.batch_size", "model.dim", "model.layers", "model.context"),
    *("optimizer.lr", "seed", "device", "load", "print_config"),
)
"""The flags that the help shows first."""

ABOUT_RECIPE = """\
Run a recipe. TOML files change it, and flags change both; what is not given stays as the recipe has it. A flag such as
--attention chooses a part, and the fields of that part are flags too: --attention gqa --help shows those of gqa.

    {prog} --train.steps 100 --run runs/mine
    {prog} --attention gqa --attention.kv-heads 1
    {prog} --print-config
"""


def recipe_page(recipe: Recipe, prog: str) -> Page:
    """Return all flags of a recipe with their help page, the most used flags first."""
    groups = config_groups(recipe)
    titles = {
        group: f"{group}, {configs[0].part}" if isinstance(configs[0], Slot) else group
        for group, configs in groups.items()
    }
    parts = [
        part_flag(group, configs[0].names(), configs[0].part)
        for group, configs in groups.items()
        if isinstance(configs[0], Slot)
    ]
    options = [*flags_of(Options()), *flags_of(recipe)]
    sections = [("Parts", parts), ("Run", options)]
    for group in sorted(groups, key=lambda group: group != "train"):
        about = (type(groups[group][0]).__doc__ or "").partition("\n")[0]
        sections.append((f"{titles[group]}\n{about}", group_flags(group, groups[group])))
    by_name = {flag.name: flag for _, flags in sections for flag in flags}
    most_used = [by_name[name] for name in MOST_USED if name in by_name]
    others = [(title, [flag for flag in flags if flag not in most_used]) for title, flags in sections]
    return Page(
        prog=prog,
        usage="[FILE.toml ...]",
        about=ABOUT_RECIPE.format(prog=prog),
        sections=[("Most used", [*most_used, HELP]), *((title, flags) for title, flags in others if flags)],
    )


def config_groups(recipe: Recipe) -> dict[str, list[Any]]:
    """Return the configs of a recipe by their group of flags; blocks of several kinds share their groups."""
    groups: dict[str, list[Any]] = {}
    for group, _, config in walk_configs(recipe):
        groups.setdefault(group, []).append(config)
    return groups


def group_flags(group: str, configs: Sequence[Any]) -> list[Flag]:
    """Return the flags of some configs that share a group; the first has the defaults."""
    flags = {flag.name: flag for config in reversed(configs) for flag in flags_of(config, group)}
    first = [flag.name for config in configs for flag in flags_of(config, group)]
    return [flags[name] for name in dict.fromkeys(first)]


def unknown_flag(flag: str, recipe: Recipe, page: Page) -> str:
    """Return the message for a flag that a recipe does not have."""
    group, _, field = flag.rpartition(".")
    near, configs = suggest_flag(flag, page.flags), config_groups(recipe).get(group)
    if not configs or not field:
        return f"no such flag.{near or parts_with(field, recipe, page) or remark(field)}"
    part = getattr(configs[0], "part", group)
    if field in fields(type(configs[0])):  # a list of tables, or a part, which has no flag of its own
        return f"{part} takes {field!r} from a TOML file, as a table; put it there, and name the file after the recipe."
    has = ", ".join(sorted(flag.name.rpartition(".")[2] for flag in group_flags(group, configs)))
    near = parts_with(field, recipe, page, group) or near or remark(field)
    return f"{part} has no field {field!r}.{near} It has: {has or 'none'}."


def parts_with(field: str, recipe: Recipe, page: Page, slot: str = "") -> str:
    """Return the parts that have a field which the parts of a recipe lack, as a sentence after a space; "" for none.

    Args:
        field: the field, or its name in another library.
        recipe: whose slots are searched.
        page: the flags of the recipe.
        slot: the only slot to search; all where it is empty.
    """
    for family in dict.fromkeys(type(part).family for _, _, part in walk_configs(recipe) if isinstance(part, Slot)):
        if slot in ("", family.slot):
            ours = {flag.rpartition(".")[2] for flag in FLAGS if flag.startswith(f"{family.slot}.")}
            names = [field, *(name for name in ours if field in FLAGS[f"{family.slot}.{name}"])]
            having = [(part, name) for part in family.names() for name in names if name in fields(family.find(part))]
            if having and f"{family.slot}.{having[0][1]}" not in page.flags:
                part, name = having[0]
                flag = f"--{family.slot}.{name}".replace("_", "-")
                listed = ", ".join(part for part, _ in having)
                return f" {listed} {'have' if having[1:] else 'has'} it: --{family.slot} {part} {flag}."
    return ""


def replace_at(value: Any, place: ConfigPath, new: Any) -> Any:
    """Return a config with another config at a place in it."""
    if not place:
        return new
    name, rest = str(place[0]), place[1:]
    item = getattr(value, name)
    if rest and isinstance(rest[0], int):
        items = list(item)
        items[rest[0]] = replace_at(items[rest[0]], rest[1:], new)
        return dataclasses.replace(value, **{name: tuple(items)})
    return dataclasses.replace(value, **{name: replace_at(item, rest, new)})
