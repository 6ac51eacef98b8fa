/** Commands: the verbs on Calico's objects as commands of `calicoctl`: their arguments, options and help. */
import { Argument, type Command, Option } from "commander";
import { DATASTORE_HELP } from "../../datastore/open.ts";
import { StoreError } from "../../datastore/store.ts";
import { FileError } from "../../host/files.ts";
import { commandOf, EXIT_USAGE, many, once, UsageError } from "../../lib/command-line.ts";
import { InputError } from "../inventory.ts";
import { DEFAULT_CONFIG } from "./access.ts";
import { Refusal, storeText, type Verb } from "./failures.ts";
import { SERVED } from "./kinds.ts";
import { PATCH_TYPES } from "./patch.ts";
import { OUTPUTS } from "./print.ts";
import type { Result } from "./report.ts";
import {
  change,
  type ChangeFlags,
  deleteObjects,
  get,
  type GetFlags,
  patch,
  validate,
  write,
  type WriteFlags,
} from "./actions.ts";

/** Options that may also stand before the verb. */
const GLOBAL: readonly (() => Option)[] = [
  () => once("--context <name>", "context of the kubeconfig (default: its current one)"),
  () => new Option("--allow-version-mismatch", "go on when the cluster runs another version of Calico"),
];

const DESCRIPTIONS: Readonly<Record<Verb, string>> = {
  get: "print objects by kind and name, or those that files name",
  create: "create the objects in files; those that exist are errors",
  apply: "create the objects in files, or update those that exist",
  replace: "update the objects in files; those that do not exist are errors",
  delete: "delete objects by kind and name, or those that files name",
  patch: "change fields of one object",
  label: "set or remove labels of one object",
  validate: "check the objects in files; needs no cluster",
};

const EXAMPLES: Readonly<Record<Verb, readonly string[]>> = {
  get: [
    "calicoctl get networkpolicies -n shop -o wide",
    "calicoctl get gnp deny-all -o yaml --export",
    "calicoctl get tiers -o custom-columns=NAME,ORDER",
    "calicoctl get hep -o go-template='{{range .}}{{range .Items}}{{.Spec.Node}}{{println}}{{end}}{{end}}'",
  ],
  create: ["calicoctl create -f policies.yaml --skip-exists"],
  apply: ["calicoctl apply -f policies/ -R", "helm template shop chart/ | calicoctl apply -f - -n shop"],
  replace: ["calicoctl replace -f policies.yaml"],
  delete: ["calicoctl delete networkpolicy web db -n shop", "calicoctl delete -f policies.yaml --skip-not-exists"],
  patch: [
    `calicoctl patch tier security -p '{"spec": {"order": 200}}'`,
    `calicoctl patch np web -n shop -t json -p '[{"op": "remove", "path": "/spec/ingress/0"}]'`,
  ],
  label: [
    "calicoctl label globalnetworkset partners zone=outside",
    "calicoctl label hostendpoint n1-eth0 zone --remove",
  ],
  validate: ["calicoctl validate -f policies/ -R -o json"],
};

const KINDS_HELP = "\nPlurals and short names of kinds are known too (np, gnp, hep, pool, …), in any case.\n";

const CODES: Partial<Readonly<Record<Verb, string>>> = {
  validate: "\nExit code: 0 all objects are valid, 1 some are not, 2 usage error.",
};
const CODE = "\nExit code: 0 everything was done, 1 something was not, 2 usage error.";

/** Adds the verbs. `end` gets the exit code. */
export function addVerbs(program: Command, end: (code: number) => void): void {
  for (const option of GLOBAL) program.addOption(option().hideHelp());
  program.enablePositionalOptions();
  program.hook("preAction", (_, command) => {
    const [given] = Object.keys(program.opts());
    if (given !== undefined && !Object.hasOwn(DESCRIPTIONS, command.name()))
      program.error(`option '${given}' has no meaning for '${command.name()}'`);
  });
  const verb = (name: Verb): Command => {
    const examples = EXAMPLES[name].map((line) => `  ${line}\n`).join("");
    const kinds = name === "validate" ? "" : KINDS_HELP;
    const datastore = name === "validate" ? "" : DATASTORE_HELP;
    return commandOf(`calicoctl ${name}`, DESCRIPTIONS[name]).addHelpText(
      "after",
      `\n${examples}${kinds}${datastore}${CODES[name] ?? CODE}`,
    );
  };
  const run = (name: Verb, action: () => Promise<Result>): Promise<void> => runVerb(name, action).then(end);

  const getCommand = withAccess(withFiles(verb("get").addArgument(kindArgument("[kind]"))))
    .argument("[name...]", "which objects (default: all)")
    .addOption(once("-o, --output <format>", `how to print (choices: ${quoted(OUTPUTS)})`).default("ps", '"ps"'))
    .option("-a, --all-namespaces", "of all namespaces")
    .addOption(new Option("-A, --all").hideHelp())
    .option("--export", "without what belongs to this cluster, for objects named");
  getCommand.action((kind: string | undefined, names: readonly string[]) =>
    run("get", () => get(kind, names, getCommand.optsWithGlobals<GetFlags>())),
  );
  program.addCommand(getCommand);

  for (const name of ["create", "apply", "replace"] as const) {
    const command = withAccess(withFiles(verb(name)));
    if (name === "create") command.option("--skip-exists", "leave objects that exist as they are");
    command.action(() => run(name, () => write(name, command.optsWithGlobals<WriteFlags>())));
    program.addCommand(command);
  }

  const deleteCommand = withAccess(withFiles(verb("delete").addArgument(kindArgument("[kind]"))))
    .argument("[name...]", "which objects")
    .option("-s, --skip-not-exists", "objects that do not exist are no errors");
  deleteCommand.action((kind: string | undefined, names: readonly string[]) =>
    run("delete", () => deleteObjects(kind, names, deleteCommand.optsWithGlobals<WriteFlags>())),
  );
  program.addCommand(deleteCommand);

  const patchCommand = withAccess(verb("patch").addArgument(kindArgument("<kind>")))
    .argument("<name>", "which object")
    .addOption(once("-p, --patch <text>", "the patch, JSON or YAML").makeOptionMandatory())
    .addOption(
      once("-t, --type <type>", "how to read the patch; strategic is the same as merge here", PATCH_TYPES).default(
        "strategic",
      ),
    );
  patchCommand.action((kind: string, name: string) =>
    run("patch", () => patch(kind, name, patchCommand.optsWithGlobals<ChangeFlags>())),
  );
  program.addCommand(patchCommand);

  const labelCommand = withAccess(verb("label").addArgument(kindArgument("<kind>")))
    .argument("<name>", "which object")
    .argument("<label...>", "KEY=VALUE, or KEY with --remove")
    .option("--overwrite", "replace a value that is already there")
    .option("--remove", "remove the labels");
  labelCommand.action((kind: string, name: string, labels: readonly string[]) =>
    run("label", () => change(kind, name, labels, labelCommand.optsWithGlobals<ChangeFlags>())),
  );
  program.addCommand(labelCommand);

  const validateCommand = withFiles(verb("validate")).addOption(
    once("-o, --output <format>", "how to print", ["text", "json"]).default("text"),
  );
  // Upstream accepts it here too; no cluster is asked.
  validateCommand.addOption(once("-c, --config <file>", "no effect").hideHelp());
  validateCommand.action(() => run("validate", () => validate(validateCommand.optsWithGlobals<WriteFlags>())));
  program.addCommand(validateCommand);
}

function kindArgument(name: string): Argument {
  // Not the list that commander would enforce: other names of the kinds are accepted too.
  return new Argument(name, `kind of object (choices: ${quoted(SERVED.map(({ names }) => names[0] ?? ""))})`);
}

function quoted(words: readonly string[]): string {
  return words.map((word) => `"${word}"`).join(", ");
}

function withFiles(command: Command): Command {
  return command
    .addOption(many("-f, --filename <path>", "a file, a folder, or - for standard input; may be repeated"))
    .option("-R, --recursive", "with -f, read the folders below a folder too")
    .option("--skip-empty", "files without objects are no errors")
    .addOption(once("-n, --namespace <name>", 'namespace of objects that name none (default: "default")'));
}

function withAccess(command: Command): Command {
  if (!command.options.some(({ long }) => long === "--namespace"))
    command.addOption(once("-n, --namespace <name>", 'namespace of the object (default: "default")'));
  command
    .addOption(
      once(
        "-c, --config <file>",
        `a CalicoAPIConfig that says how to reach the datastore (default: ${DEFAULT_CONFIG})`,
      ),
    )
    .addOption(
      once("--kubeconfig <file>", "how to reach the API (default: KUBECONFIG, ~/.kube/config, then the pod's)"),
    );
  for (const option of GLOBAL) command.addOption(option());
  return command;
}

/** Prints what the verb says and returns the exit code. */
async function runVerb(name: Verb, action: () => Promise<Result>): Promise<number> {
  try {
    const { code, out, error } = await action();
    await writeOut(out);
    process.stderr.write(error);
    return code;
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`calicoctl ${name}: ${error.message}\nRun "calicoctl ${name} --help" for help.\n`);
      return EXIT_USAGE;
    }
    const isExpected = [InputError, StoreError, FileError, Refusal].some((type) => error instanceof type);
    if (!isExpected || !(error instanceof Error)) throw error;
    process.stderr.write(`calicoctl ${name}: ${error instanceof StoreError ? storeText(error) : error.message}\n`);
    return 1;
  }
}

/** A reader that has seen enough, as in `calicoctl get np | head`, is no error. Rejects with InputError when the output is lost. */
async function writeOut(text: string): Promise<void> {
  const error = await new Promise<Error | null | undefined>((resolve) => {
    // The stream reports the error to both; without a listener it would end the process.
    process.stdout.once("error", resolve);
    process.stdout.write(text, resolve);
  });
  if (error === null || error === undefined) return;
  const code = "code" in error ? String(error.code) : error.message;
  if (code !== "EPIPE") throw new InputError(`Cannot write to standard output: ${code}`);
}
