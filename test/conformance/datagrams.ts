/** datagrams: one each millisecond from one pod to the addresses of another, by a process of its own; the pods' kernels count them. */
import { execute } from "./fixture.ts";

const SENDER = new URL("../kubernetes/sender.ts", import.meta.url).pathname;
/** Where the sender sends. */
const PORT = 9;

export interface Counted {
  readonly ipv4: number;
  readonly ipv6: number;
}

export const NONE: Counted = { ipv4: 0, ipv6: 0 };

export class Datagrams {
  readonly #from: string;
  readonly #to: string;
  readonly #sender: ReturnType<typeof Bun.spawn>;

  private constructor(from: string, to: string, sender: ReturnType<typeof Bun.spawn>) {
    [this.#from, this.#to, this.#sender] = [from, to, sender];
  }

  /** Between two network namespaces, by path. */
  static async start(from: string, to: string, addresses: readonly string[]): Promise<Datagrams> {
    for (const [netns, hook] of [
      [from, "output"],
      [to, "prerouting"],
    ] as const) {
      const rules = ["ipv4", "ipv6"].map(
        (family) => `meta nfproto ${family} udp dport ${PORT} counter comment "${family}"\n`,
      );
      await run(
        netns,
        ["nft", "-f", "-"],
        `table inet watch {\nchain seen {\ntype filter hook ${hook} priority -400;\n${rules.join("")}}\n}\n`,
      );
    }
    return new Datagrams(
      from,
      to,
      Bun.spawn(["nsenter", `--net=${from}`, "--", process.execPath, SENDER, ...addresses], {
        stdin: "ignore",
        stdout: "ignore",
        stderr: "inherit",
      }),
    );
  }

  /** Since the start. */
  sent(): Promise<Counted> {
    return counted(this.#from);
  }

  arrived(): Promise<Counted> {
    return counted(this.#to);
  }

  /** How many arrive, of each family, while `during` goes on and until `more` of each family have been sent after it. */
  async arrivedDuring(
    during: () => Promise<void>,
    more = 100,
  ): Promise<{ readonly sent: Counted; readonly arrived: Counted }> {
    const [sentBefore, before] = [await this.sent(), await this.arrived()];
    await during();
    const then = await this.sent();
    for (let now = then; now.ipv4 < then.ipv4 + more || now.ipv6 < then.ipv6 + more; now = await this.sent())
      await Bun.sleep(30);
    return { sent: difference(await this.sent(), sentBefore), arrived: difference(await this.arrived(), before) };
  }

  /** Ends the sending: how many were sent, and how many arrived, since the start. */
  async total(): Promise<{ readonly sent: Counted; readonly arrived: Counted }> {
    this.#sender.kill("SIGKILL");
    await this.#sender.exited;
    const sent = await this.sent();
    // The last may be under way.
    for (let before = await this.arrived(); ;) {
      await Bun.sleep(50);
      const arrived = await this.arrived();
      if (arrived.ipv4 === before.ipv4 && arrived.ipv6 === before.ipv6) return { sent, arrived };
      before = arrived;
    }
  }

  async stop(): Promise<void> {
    this.#sender.kill("SIGKILL");
    await this.#sender.exited;
    for (const netns of [this.#from, this.#to]) await run(netns, ["nft", "delete", "table", "inet", "watch"]);
  }
}

function difference(a: Counted, b: Counted): Counted {
  return { ipv4: a.ipv4 - b.ipv4, ipv6: a.ipv6 - b.ipv6 };
}

async function counted(netns: string): Promise<Counted> {
  const text = await run(netns, ["nft", "list", "table", "inet", "watch"]);
  const packets = (family: string): number =>
    Number(new RegExp(`counter packets (\\d+) bytes \\d+ comment "${family}"`).exec(text)?.[1] ?? "NaN");
  return { ipv4: packets("ipv4"), ipv6: packets("ipv6") };
}

async function run(netns: string, command: readonly string[], input?: string): Promise<string> {
  const { exitCode, stdout, stderr } = await execute(
    ["nsenter", `--net=${netns}`, "--", ...command],
    input === undefined ? {} : { input },
  );
  if (exitCode !== 0) throw new Error(`${command.join(" ")} in ${netns}: ${stderr}`);
  return stdout;
}
