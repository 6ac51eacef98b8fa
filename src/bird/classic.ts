/**
 * Classic: BIRD 2's `show protocols` in the form of BIRD 1, which upstream's `calicoctl node status` reads. Pure.
 *
 * There the header is in lower case, the time is one word, and the name of a session says the peer's address with dots for underscores: an
 * IPv6 session therefore gets its address as it is. All other commands and answers pass unchanged.
 * Source: calicoctl/calicoctl/commands/node/status.go; BIRD's doc/reply_codes.
 */
import { parseProtocolLine } from "./state.ts";

const HEADER = "name     proto    table    state  since       info";

/** The commands of one connection and their answers, line by line. */
export class ClassicAnswers {
  /** Commands that are not answered yet, oldest first: whether each is to be translated. BIRD greets before the first. */
  readonly #pending: boolean[] = [false];

  command(line: string): void {
    this.#pending.push(/^\s*sh(o|ow)?\s+prot(o(c(o(ls?)?)?)?)?\s*$/i.test(line));
  }

  /** One line of BIRD's output as it is to be passed on. */
  answer(line: string): string {
    const translates = this.#pending[0] === true;
    if (/^\d{4} /.test(line)) this.#pending.shift();
    if (!translates) return line;
    const [, prefix = "", text = ""] = /^(\d{4}-| )(.*)$/.exec(line) ?? [];
    if (prefix === "2002-") return `${prefix}${HEADER}`;
    const row = prefix === "" ? undefined : parseProtocolLine(text);
    if (row === undefined) return line;
    const name =
      row.type === "BGP"
        ? row.name.replace(
            /^(Mesh|Global|Node)_(.+)$/,
            (_, type: string, address: string) => `${type}_${withColons(address)}`,
          )
        : row.name;
    return `${prefix}${name} ${row.type} ${row.table} ${row.state} ${row.since.replace(" ", "T")} ${row.info}`;
  }
}

/** An IPv6 address of a session's name; an IPv4 one, four numbers, stays. */
function withColons(address: string): string {
  return /^\d+(_\d+){3}$/.test(address) ? address : address.replaceAll("_", ":");
}
