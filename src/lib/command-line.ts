/**
 * command-line: what every command of ours does alike: wrong usage is reported on standard error by the program's name, with the way
 * to its help, and exits 2; help exits 0.
 */
import { Command, CommanderError } from "commander";

/** The operator gave an option or argument that cannot be used; the message names it and what is allowed. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const EXIT_USAGE = 2;

/** A program or subcommand by the name that the operator types, `calico lab`. Subcommands added to it report like it. */
export function newProgram(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .configureOutput({ outputError: (text, write) => write(`${name}: ${text.replace(/^error: /, "")}`) })
    .showHelpAfterError(`(run "${name} --help" for usage)`)
    .exitOverride();
}

/** Parses the arguments and runs what they ask for. Returns 0, also for help, or EXIT_USAGE; other errors are the caller's. */
export async function runProgram(program: Command, args: readonly string[]): Promise<number> {
  try {
    await program.parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    // commander has printed what is wrong, or the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    if (!(error instanceof UsageError)) throw error;
    console.error(`${program.name()}: ${error.message}\n(run "${program.name()} --help" for usage)`);
    return EXIT_USAGE;
  }
}
