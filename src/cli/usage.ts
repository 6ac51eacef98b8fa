/** Usage: what the command lines of this folder share: options that may not be given twice, and mistakes told in one way. */
import { Command, InvalidArgumentError, Option } from "commander";

/** The command that is typed as `path` (`calicoctl why`). Its mistakes are told as `calicoctl why: what is wrong`, with the way to its help. */
export function commandOf(path: string, description: string): Command {
  return new Command(path.slice(path.lastIndexOf(" ") + 1))
    .description(description)
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(`${path}: ${text.replace(/^error: /, "").trimEnd()}\nRun "${path} --help" for help.\n`),
    });
}

/** An option with a value, of `values` if they are given, that may be given once. */
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

/** An option whose values add up. */
export function many(flags: string, description: string): Option {
  return new Option(flags, description).argParser((value: string, before: readonly string[] = []) => [...before, value]);
}
