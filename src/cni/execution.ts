/**
 * execution: the common part of our plugins: reads the command, the network configuration and its version, and prints the error object
 * with exit code 1, by the CNI specification.
 */
import {
  CNI_COMMANDS,
  CNI_DECODE_FAILURE,
  CNI_INCOMPATIBLE_VERSION,
  CNI_INVALID_CONFIG,
  CNI_INVALID_ENVIRONMENT,
  type CniCommand,
  type CniError,
  whyNotIdentifier,
  whyNotInterfaceName,
} from "../podnet/protocol.ts";
import { isSupported, SUPPORTED_VERSIONS } from "./versions.ts";

export interface PluginInput {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Standard input, whole. */
  readonly stdin: string;
}

export interface PluginOutput {
  readonly exitCode: number;
  readonly stdout: string;
}

export interface Execution {
  readonly command: CniCommand;
  /** `cniVersion` of the configuration, one of those supported. */
  readonly version: string;
  /** Network configuration from standard input, unchanged. */
  readonly config: Readonly<Record<string, unknown>>;
}

export type Checked<T> = { readonly value: T } | { readonly error: CniError };

const HIGHEST = "1.1.0";
/** Source: CNI specification 1.1.0, "CNI operations". */
const NEEDED: Readonly<Record<CniCommand, readonly string[]>> = {
  ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  DEL: ["CNI_CONTAINERID", "CNI_IFNAME"],
  STATUS: [],
  GC: [],
};
/** The error for an invalid value. */
const FORM: Readonly<Record<string, (value: string) => string | undefined>> = {
  CNI_CONTAINERID: whyNotIdentifier,
  CNI_IFNAME: whyNotInterfaceName,
};

/** The request, or the output that already ends the execution: of VERSION, or an error. */
export function readExecution(input: PluginInput): Execution | PluginOutput {
  const command = input.environment["CNI_COMMAND"] ?? "";
  if (command === "VERSION")
    return { exitCode: 0, stdout: print({ cniVersion: HIGHEST, supportedVersions: SUPPORTED_VERSIONS }) };
  if (!CNI_COMMANDS.some((known) => known === command)) {
    return failed("", {
      code: CNI_INVALID_ENVIRONMENT,
      msg: `CNI_COMMAND is ${JSON.stringify(command)}, must be one of ${CNI_COMMANDS.join(", ")}, VERSION`,
    });
  }
  const config = parseConfig(input.stdin);
  if ("error" in config) return failed("", config.error);
  const version = String(config.value["cniVersion"] ?? "");
  if (!isSupported(version)) {
    return failed("", {
      code: CNI_INCOMPATIBLE_VERSION,
      msg: `network configuration field cniVersion is ${JSON.stringify(version)}, must be one of ${SUPPORTED_VERSIONS.join(", ")}`,
    });
  }
  const { name } = config.value;
  const wrong = name === undefined ? undefined : typeof name === "string" ? whyNotIdentifier(name) : "a string";
  if (wrong !== undefined)
    return failed(version, {
      code: CNI_INVALID_CONFIG,
      msg: `network configuration field name is ${JSON.stringify(name)}, must be ${wrong}`,
    });
  for (const variable of NEEDED[command as CniCommand]) {
    const value = input.environment[variable] ?? "";
    if (value === "")
      return failed(version, {
        code: CNI_INVALID_ENVIRONMENT,
        msg: `environment variable ${variable} is missing, ${command} needs it`,
      });
    const unfit = FORM[variable]?.(value);
    if (unfit !== undefined)
      return failed(version, {
        code: CNI_INVALID_ENVIRONMENT,
        msg: `environment variable ${variable} is ${JSON.stringify(value)}, must be ${unfit}`,
      });
  }
  return { command: command as CniCommand, version, config: config.value };
}

function parseConfig(text: string): Checked<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { value: { ...value } };
    return {
      error: { code: CNI_DECODE_FAILURE, msg: "network configuration on standard input must be a JSON object" },
    };
  } catch (error) {
    return {
      error: {
        code: CNI_DECODE_FAILURE,
        msg: "network configuration on standard input is not JSON",
        details: error instanceof Error ? error.message : String(error),
      },
    };
  }
}

/** The error object, in the configuration's version if that is known. */
export function failed(version: string, error: CniError): PluginOutput {
  return { exitCode: 1, stdout: print({ cniVersion: version === "" ? HIGHEST : version, ...error }) };
}

export function print(value: object): string {
  return JSON.stringify(value);
}
