/**
 * Classic: translates BIRD 2's `show protocols` to the format of BIRD 1, which upstream's `calicoctl node status` reads. Pure.
 *
 * In that format the header is in lower case, the time is one word, and that tool derives the peer's address from the session name by
 * replacing underscores with dots: so an IPv6 session's name gets the address itself. All other commands and answers pass unchanged.
 * Source: calicoctl/calicoctl/commands/node/status.go; BIRD's doc/reply_codes and nest/proto.c.
 */
const HEADER = "name     proto    table    state  since       info";

/** One protocol instance; for BGP, `info` begins with the state of the session (`Established`, `Active`, `Connect`, …). */
interface Row {
  readonly name: string;
  readonly type: string;
  /** `---` for a protocol with several tables. */
  readonly table: string;
  readonly state: string;
  readonly since: string;
  readonly info: string;
}

/** Name, type, table, state, since (a date and a time, or one word), info. */
const ROW = /^(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?|\S+)\s*(.*)$/;

/** The commands of one connection and their answers, line by line. */
export class ClassicAnswers {
  /** For each unanswered command, oldest first, whether its answer is to be translated. The first entry is BIRD's greeting. */
  readonly #pending: boolean[] = [false];

  command(line: string): void {
    this.#pending.push(/^\s*sh(o|ow)?\s+prot(o(c(o(ls?)?)?)?)?\s*$/i.test(line));
  }

  /** Translates one line of BIRD's output. */
  answer(line: string): string {
    const translates = this.#pending[0] === true;
    if (/^\d{4} /.test(line)) this.#pending.shift();
    if (!translates) return line;
    const [, prefix = "", text = ""] = /^(\d{4}-| )(.*)$/.exec(line) ?? [];
    if (prefix === "2002-") return `${prefix}${HEADER}`;
    const row = prefix === "" ? undefined : parseRow(text);
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

/** undefined for any other line. */
function parseRow(text: string): Row | undefined {
  const [, name, type, table, state, since, info] = ROW.exec(text) ?? [];
  if (name === undefined || type === undefined || table === undefined || state === undefined || since === undefined)
    return undefined;
  return { name, type, table, state, since, info: (info ?? "").trim() };
}

/** The IPv6 address in a session's name; the IPv4 form, four numbers, is unchanged. */
function withColons(address: string): string {
  return /^\d+(_\d+){3}$/.test(address) ? address : address.replaceAll("_", ":");
}
