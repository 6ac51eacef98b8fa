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
export const EXIT_FAILED = 1;

/** A program or subcommand by the name that the operator types, `calico lab`. Subcommands added to it report like it. */
export function newProgram(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .configureOutput({ outputError: (text, write) => write(`${name}: ${text.replace(/^error: /, "")}`) })
    .showHelpAfterError(`(run "${name} --help" for usage)`)
    .exitOverride();
}

/**
 * Parses the arguments and runs what they ask for. Returns 0, also for help; EXIT_USAGE; or EXIT_FAILED for what the world refused: a
 * missing right, a full disk, and what `isRefusal` knows. Other errors are bugs and are the caller's.
 */
export async function runProgram(program: Command, args: readonly string[], isRefusal: (error: unknown) => boolean = () => false): Promise<number> {
  try {
    await program.parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    // commander has printed what is wrong, or the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    if (error instanceof UsageError) {
      console.error(`${program.name()}: ${error.message}\n(run "${program.name()} --help" for usage)`);
      return EXIT_USAGE;
    }
    if (!(error instanceof Error) || !(isRefusal(error) || isSystemError(error))) throw error;
    console.error(`${program.name()}: ${error.message}`);
    return EXIT_FAILED;
  }
}

/** Errors of the platform's own calls name the call and its errno; the message has both and the path. */
function isSystemError(error: Error): boolean {
  return "syscall" in error && "code" in error && typeof error.code === "string" && /^E[A-Z0-9]+$/.test(error.code);
}
