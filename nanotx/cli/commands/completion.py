"""Print a script that makes a shell complete nanotx."""

import sys
from dataclasses import dataclass

from nanotx.cli.completion import SHELLS, candidates
from nanotx.config.flags import argument, parse
from nanotx.errors import ConfigError, did_you_mean

USAGE = "bash|zsh|fish"
GROUP = "Learn"
ORDER = 46

CANDIDATES = "--candidates"
"""What the scripts pass before the words after `nanotx`; the last of them is the one to complete."""

BASH = """\
# nanotx: completion for bash; put  eval "$(nanotx completion bash)"  into ~/.bashrc
_nanotx() {
    local IFS=$'\\n'
    COMPREPLY=($("${COMP_WORDS[0]}" completion --candidates "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *. ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _nanotx nanotx
"""
ZSH = """\
# nanotx: completion for zsh; put  eval "$(nanotx completion zsh)"  into ~/.zshrc, after compinit
_nanotx() {
    local -a found
    found=(${(f)"$("${words[1]}" completion --candidates "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then
        compadd -S '' -- ${(M)found:#*.}
        compadd -- ${found:#*.}
    else
        _files
    fi
}
compdef _nanotx nanotx
"""
FISH = """\
# nanotx: completion for fish; write it to ~/.config/fish/completions/nanotx.fish
function __nanotx_candidates
    set -l words (commandline -opc)
    set -l found (command $words[1] completion --candidates $words[2..-1] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c nanotx -f -a '(__nanotx_candidates)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Print a script that makes a shell complete commands, recipes, runs, parts, flags and their values.

    nanotx completion bash > ~/.local/share/bash-completion/completions/nanotx
    nanotx completion fish > ~/.config/fish/completions/nanotx.fish
    """

    shell: str = argument("bash|zsh|fish")  # shell that reads the script


def run(argv: list[str]) -> int:
    """Print the script, or what a word may become."""
    if argv[:1] == [CANDIDATES]:
        sys.stdout.write("".join(f"{text}\n" for text in candidates(argv[1:])))
        return 0
    flags = parse(Flags, argv, "nanotx completion")
    if flags.shell not in SHELLS:
        raise ConfigError(
            f"nanotx completion: expected one of {', '.join(SHELLS)}, got {flags.shell!r:.80}."
            f"{did_you_mean(flags.shell, SHELLS)}"
        )
    sys.stdout.write(SCRIPTS[flags.shell])
    return 0
