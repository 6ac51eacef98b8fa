/**
 * Completion: tab completion for bash, zsh and fish. The shell asks the program itself (the hidden command `complete`), which reads the
 * help of its commands: so what is offered is what they take.
 */
import { InputError } from "./inventory.ts";

export const SHELLS = ["bash", "zsh", "fish"];

/** The answer that tells the shell to complete names of files. */
const FILES = ":files";

/** What the help of one command says that it takes. */
interface Help {
  readonly commands: readonly string[];
  readonly options: readonly Taken[];
  readonly arguments: readonly Taken[];
}

interface Taken {
  /** `-o` and `--output`; of an argument, its name. */
  readonly names: readonly string[];
  /** `format` of `<format>`; undefined for an option without a value. */
  readonly value: string | undefined;
  readonly choices: readonly string[];
}

/** Candidates for the last of `words`, one a line, or the sign for names of files. `words` begin behind the name of the program. */
export function complete(words: readonly string[]): string {
  const path: string[] = [];
  let help = helpOf(path);
  let open: Taken | undefined;
  let positional = 0;
  for (const word of words.slice(0, -1)) {
    if (word === "--") return `${FILES}\n`;
    if (word === "=") continue;
    if (open !== undefined) open = undefined;
    else if (word.startsWith("-"))
      open = help.options.find(({ names, value }) => names.includes(word) && value !== undefined);
    else if (help.commands.includes(word)) {
      path.push(word);
      help = helpOf(path);
    } else if (help.commands.length > 0) return "";
    else positional++;
  }
  // bash makes a word of the "=" in --output=json.
  const last = words.at(-1) ?? "";
  const current = last === "=" ? "" : last;
  const wanted = help.commands.length > 0 ? help.commands : valuesOf(help.arguments[positional]);
  const offered =
    open !== undefined ? valuesOf(open) : current.startsWith("-") ? help.options.flatMap(({ names }) => names) : wanted;
  if (offered.includes(FILES)) return `${FILES}\n`;
  return offered
    .filter((candidate) => candidate.startsWith(current))
    .map((candidate) => `${candidate}\n`)
    .join("");
}

function valuesOf(taken: Taken | undefined): readonly string[] {
  if (taken === undefined) return [];
  return taken.choices.length === 0 && /file|path|dir/.test(taken.value ?? "") ? [FILES] : taken.choices;
}

function helpOf(path: readonly string[]): Help {
  const run = Bun.spawnSync([process.execPath, ...path, "--help"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  return readHelp(run.stdout.toString());
}

/** Reads the help as commander prints it: sections, each entry indented by two, its description behind at least two spaces. */
function readHelp(text: string): Help {
  const sections = new Map<string, string[]>();
  let section: string[] = [];
  for (const line of text.split("\n")) {
    const title = /^(Commands|Options|Arguments):$/.exec(line)?.[1];
    if (title !== undefined) sections.set(title, (section = []));
    else if (line === "") section = [];
    else if (/^ {2}\S/.test(line)) section.push(line.trim());
    else if (section.length > 0) section.push(`${section.pop()} ${line.trim()}`);
  }
  const entries = (title: string): Taken[] => (sections.get(title) ?? []).map(readEntry);
  return {
    commands: entries("Commands").flatMap(({ names }) => names.slice(0, 1)),
    options: entries("Options"),
    arguments: entries("Arguments"),
  };
}

function readEntry(line: string): Taken {
  const end = line.search(/ {2}/);
  const head = end < 0 ? line : line.slice(0, end);
  const list = /\(choices: ((?:"[^"]*"(?:, )?)+)/.exec(line)?.[1] ?? "";
  const names = head.split(/[ ,]+/).filter((word) => !/^[<[]/.test(word));
  return {
    names,
    value: /[<[]([^>\]]*)[>\]]/.exec(head)?.[1],
    choices: [...list.matchAll(/"([^"]*)"/g)].map((match) => match[1] ?? ""),
  };
}

/** The script of a shell for `program`; throws InputError for a shell that is not known. */
export function completionScript(shell: string, program: string): string {
  const script = SCRIPTS[shell];
  if (script === undefined)
    throw new InputError(`there is no completion for ${JSON.stringify(shell)}, only for ${SHELLS.join(", ")}`);
  return script.replaceAll("PROGRAM", program);
}

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `# Tab completion of PROGRAM for bash: source <(PROGRAM completion bash)
_PROGRAM() {
  local answer
  answer=$("\${COMP_WORDS[0]}" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  COMPREPLY=()
  if [ "$answer" = "${FILES}" ]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
  elif [ -n "$answer" ]; then
    mapfile -t COMPREPLY <<<"$answer"
  fi
}
complete -F _PROGRAM PROGRAM
`,
  zsh: `#compdef PROGRAM
# Tab completion of PROGRAM for zsh: source <(PROGRAM completion zsh)
_PROGRAM() {
  local answer
  local -a candidates
  answer=$("\${words[1]}" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if [[ "$answer" == "${FILES}" ]]; then
    _files
  elif [[ -n "$answer" ]]; then
    candidates=("\${(@f)answer}")
    compadd -a candidates
  fi
}
compdef _PROGRAM PROGRAM
`,
  fish: `# Tab completion of PROGRAM for fish: PROGRAM completion fish | source
function __PROGRAM_complete
  set -l before (commandline -opc)
  set -l current (commandline -ct)
  set -l answer ($before[1] complete -- $before[2..-1] "$current" 2>/dev/null)
  if test "$answer" = "${FILES}"
    __fish_complete_path "$current"
  else
    printf '%s\\n' $answer
  end
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
`,
};
