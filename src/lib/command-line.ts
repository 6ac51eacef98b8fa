/**
 * command-line: what all our commands have in common: a usage error is reported on standard error with the program's name and how to
 * get help, and exits 2; help exits 0.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";

/** An option or argument is invalid; the message names it and what is allowed. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const EXIT_USAGE = 2;
export const EXIT_FAILED = 1;

/** The command typed as `path` (`calicoctl why`). Its errors are reported as `calicoctl why: ERROR`, with how to get its help. */
export function commandOf(path: string, description: string): Command {
  return new Command(path.slice(path.lastIndexOf(" ") + 1))
    .description(description)
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(`${path}: ${text.replace(/^error: /, "").trimEnd()}\n${helpHint(path)}\n`),
    });
}

/** As `commandOf`, for a command without a parent: its help shows the whole path. */
export function newProgram(path: string, description: string): Command {
  return commandOf(path, description).name(path);
}

/** A new command `name` of the program; a hidden one is not in its help. */
export function subcommandOf(
  program: Command,
  name: string,
  description: string,
  options: { readonly hidden?: boolean } = {},
): Command {
  const command = commandOf(`${program.name()} ${name}`, description);
  program.addCommand(command, options);
  return command;
}

/** The integer that an option gives. Throws UsageError. */
export function numberIn(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`${option} is ${JSON.stringify(text)}, must be an integer from ${least} to ${most}`);
}

function helpHint(path: string): string {
  return `Run "${path} --help" for help.`;
}

/** An option that takes a value (one of `values`, if given) and may be given once. */
export function once(flags: string, description: string, values?: readonly string[]): Option {
  const option = new Option(flags, description);
  let isGiven = false;
  return (values === undefined ? option : option.choices(values)).argParser((value: string) => {
    if (isGiven) throw new InvalidArgumentError("It may be given once.");
    if (values?.includes(value) === false) throw new InvalidArgumentError(`It must be ${values.join(" or ")}.`);
    isGiven = true;
    return value;
  });
}

/** An option that may be given several times. */
export function many(flags: string, description: string): Option {
  return new Option(flags, description).argParser((value: string, before: readonly string[] = []) => [
    ...before,
    value,
  ]);
}

/**
 * Parses the arguments and runs the command. Returns 0, also for help; EXIT_USAGE; or EXIT_FAILED for errors of the outside world: a
 * missing permission, a full disk, and those for which `isExpected` holds. Other errors are bugs and are rethrown.
 */
export async function runProgram(
  program: Command,
  args: readonly string[],
  isExpected: (error: unknown) => boolean = () => false,
): Promise<number> {
  let running = program.name();
  program.hook("preAction", (_, command) => {
    if (command !== program) running = `${program.name()} ${command.name()}`;
  });
  try {
    await program.parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    // commander has printed the error, or the help.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    if (error instanceof UsageError) {
      console.error(`${running}: ${error.message}\n${helpHint(running)}`);
      return EXIT_USAGE;
    }
    if (!(error instanceof Error) || !(isExpected(error) || isSystemError(error))) throw error;
    console.error(`${running}: ${error.message}`);
    return EXIT_FAILED;
  }
}

/** Errors of the platform's calls have the name of the call and its errno; the message has both and the path. */
function isSystemError(error: Error): boolean {
  return "syscall" in error && "code" in error && typeof error.code === "string" && /^E[A-Z0-9]+$/.test(error.code);
}
