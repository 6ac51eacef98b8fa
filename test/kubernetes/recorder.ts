/**
 * recorder: what a container runtime really asks of the plugins of a node, and what it is answered: each plugin is replaced by a
 * script that writes the call down and passes it on unchanged.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import type { NodeLayout } from "./cluster/layout.ts";

const PLUGINS = ["calico", "loopback"] as const;

export interface Call {
  readonly plugin: (typeof PLUGINS)[number];
  readonly command: string;
  readonly containerId: string;
  readonly netns: string;
  /** `CNI_ARGS` as it came. */
  readonly args: string;
  readonly config: { readonly cniVersion?: string; readonly prevResult?: object };
  readonly exitCode: number;
  readonly stdout: string;
}

export class Recorder {
  readonly #node: NodeLayout;
  readonly #folder: string;

  constructor(node: NodeLayout) {
    this.#node = node;
    this.#folder = `${node.root}/recorded`;
  }

  start(): void {
    mkdirSync(this.#folder, { recursive: true });
    for (const plugin of PLUGINS) {
      const path = `${this.#node.cniBinDir}/${plugin}`;
      renameSync(path, this.#real(plugin));
      const script = [
        "#!/bin/sh",
        `call=$(mktemp -d ${this.#folder}/$(date +%s%N)-${plugin}-XXXXXX)`,
        'env >"$call/environment"',
        'cat >"$call/stdin"',
        `${this.#real(plugin)} <"$call/stdin" >"$call/stdout"`,
        "code=$?",
        'echo "$code" >"$call/unfinished" && mv "$call/unfinished" "$call/code"',
        'cat "$call/stdout"',
        'exit "$code"',
        "",
      ].join("\n");
      writeFileSync(`${path}.new`, script);
      chmodSync(`${path}.new`, 0o755);
      renameSync(`${path}.new`, path);
    }
  }

  stop(): void {
    for (const plugin of PLUGINS)
      if (existsSync(this.#real(plugin))) renameSync(this.#real(plugin), `${this.#node.cniBinDir}/${plugin}`);
    for (const folder of [this.#folder, `${this.#node.root}/recorded-plugins`])
      rmSync(folder, { recursive: true, force: true });
  }

  /** A folder of its own: `loopback` goes by its name. */
  #real(plugin: string): string {
    const folder = `${this.#node.root}/recorded-plugins`;
    mkdirSync(folder, { recursive: true });
    return `${folder}/${plugin}`;
  }

  /** Calls that have ended, in the order in which they began. */
  calls(): readonly Call[] {
    const folders = readdirSync(this.#folder)
      .sort()
      .filter((name) => existsSync(`${this.#folder}/${name}/code`));
    return folders.map((name): Call => {
      const read = (file: string): string => readFileSync(`${this.#folder}/${name}/${file}`, "utf8");
      const environment = new Map(
        read("environment")
          .split("\n")
          .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
      );
      const value = (key: string): string => environment.get(key) ?? "";
      const config: unknown = JSON.parse(read("stdin"));
      return {
        plugin: name.includes("-loopback-") ? "loopback" : "calico",
        command: value("CNI_COMMAND"),
        containerId: value("CNI_CONTAINERID"),
        netns: value("CNI_NETNS"),
        args: value("CNI_ARGS"),
        config: config as Call["config"],
        exitCode: Number(read("code")),
        stdout: read("stdout"),
      };
    });
  }
}
