/** Common: the commands that `calico` and `calicoctl` share: version and tab completion. */
import { Argument, type Command } from "commander";
import { versionText } from "../lib/version.ts";
import { complete, completionScript, SHELLS } from "./completion.ts";
import { commandOf } from "../lib/command-line.ts";

export function addCommon(program: Command, name: "calico" | "calicoctl"): Command {
  const print = (text: string): void => void process.stdout.write(text);
  return program
    .addCommand(
      commandOf(`${name} version`, "print the version, and the commit that it was built from").action(() =>
        print(versionText()),
      ),
    )
    .addCommand(
      commandOf(`${name} completion`, "print the tab completion of a shell, for its start-up file")
        .addArgument(new Argument("<shell>", "which shell").choices(SHELLS))
        .action((shell: string) => print(completionScript(shell, name))),
    )
    .addCommand(
      commandOf(`${name} complete`, "")
        .argument("[words...]")
        .action((words: string[]) => print(complete(words))),
      { hidden: true },
    );
}
