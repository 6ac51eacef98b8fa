/** compare: two records of the same exchanges held against each other, and against the list of intended differences. */
import type { IntendedDifference } from "./differences.ts";
import type { Json } from "./normalise.ts";
import type { Exchange, Records } from "./recorder.ts";

type Exchanges = Readonly<Record<string, Exchange>>;

/** The answers of one server. */
export interface Recording {
  /** `gitVersion` of the server. */
  readonly server: string;
  readonly plain: Exchanges;
  /** What each version of kubectl said, the newest first. */
  readonly kubectl: Readonly<Record<string, Exchanges>>;
}

/** Whether the exchange is one of kubectl's; all others depend on no client. */
export function isKubectl(name: string): boolean {
  return name.startsWith("kubectl: ");
}

export interface Difference {
  readonly path: string;
  readonly wanted: Json | undefined;
  readonly found: Json | undefined;
}

export interface Comparison {
  readonly compared: number;
  /** Exchanges by kubectl, which were not compared because nothing of this version of it is recorded. */
  readonly notCompared: number;
  /** Exchanges whose answers differ as intended. */
  readonly differing: number;
  /** The entries of the list that they differ in. */
  readonly intended: readonly { readonly what: string; readonly exchanges: readonly string[] }[];
  /** What must not be: differences that the list does not name, and entries of the list that differ no longer. */
  readonly faults: readonly string[];
}

/** Where two values differ; lists of different length differ as a whole. */
export function differencesOf(wanted: Json | undefined, found: Json | undefined, path = ""): Difference[] {
  if (isObject(wanted) && isObject(found)) {
    const fields = [...new Set([...Object.keys(wanted), ...Object.keys(found)])];
    return fields.flatMap((field) =>
      differencesOf(wanted[field], found[field], path === "" ? field : `${path}.${field}`),
    );
  }
  if (Array.isArray(wanted) && Array.isArray(found) && wanted.length === found.length) {
    return (wanted as readonly Json[]).flatMap((item, index) =>
      differencesOf(item, (found as readonly Json[])[index], `${path}[${index}]`),
    );
  }
  return Bun.deepEquals(wanted, found) ? [] : [{ path, wanted, found }];
}

function isObject(value: Json | undefined): value is { readonly [name: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function compareRecords(
  recording: Recording,
  records: Records,
  kubectl: string,
  intended: readonly IntendedDifference[],
): Comparison {
  const faults: string[] = [];
  const places = intended.flatMap(placesOf);
  const met = new Set<Place>();
  let compared = 0;
  let notCompared = 0;
  const said = recording.kubectl[kubectl];
  for (const [name, exchange] of records) {
    if (isKubectl(name) && said === undefined) {
      notCompared++;
      continue;
    }
    const recorded = isKubectl(name) ? said?.[name] : recording.plain[name];
    if (recorded === undefined || !Bun.deepEquals(recorded.asked, exchange.asked)) {
      faults.push(
        `${name}: ${recorded === undefined ? "it is not recorded" : "something else was asked when it was recorded"}; record again`,
      );
      continue;
    }
    compared++;
    for (const difference of differencesOf(recorded.answered, exchange.answered)) {
      const known = places.filter((place) => covers(place, name, difference.path));
      if (known.length === 0) faults.push(`${name}: ${describe(difference)}`);
      for (const place of known) met.add(place);
    }
  }
  for (const name of [...Object.keys(recording.plain), ...Object.keys(said ?? {})])
    if (!records.has(name)) faults.push(`${name}: it is recorded, but was not carried out; record again`);
  // An older kubectl lacks some of what the list is about.
  const isNewest = kubectl === Object.keys(recording.kubectl)[0];
  for (const place of places) {
    if (!met.has(place) && (isNewest || !isKubectl(place.exchange)))
      faults.push(`${place.exchange}: it no longer differs at ${place.path}; take it out of "${place.what}"`);
  }
  const found = intended.flatMap(({ what }) => {
    const exchanges = [...new Set([...met].filter((place) => place.what === what).map((place) => place.exchange))];
    return exchanges.length === 0 ? [] : [{ what, exchanges }];
  });
  return {
    compared,
    notCompared,
    differing: new Set([...met].map((place) => place.exchange)).size,
    intended: found,
    faults,
  };
}

/** One place of one exchange where an entry of the list says that answers differ. */
interface Place {
  readonly what: string;
  readonly exchange: string;
  readonly path: string;
}

function placesOf(entry: IntendedDifference): Place[] {
  return entry.where.flatMap(({ exchanges, at }) =>
    exchanges.flatMap((exchange) => at.map((path) => ({ what: entry.what, exchange, path }))),
  );
}

/** A place stands for all that lies below it. */
function covers(place: Place, name: string, path: string): boolean {
  return (
    place.exchange === name &&
    (path === place.path || path.startsWith(`${place.path}.`) || path.startsWith(`${place.path}[`))
  );
}

function describe({ path, wanted, found }: Difference): string {
  const shown = (value: Json | undefined): string => (value === undefined ? "nothing" : shorten(JSON.stringify(value)));
  return `${path} is ${shown(found)}, Kubernetes answers ${shown(wanted)}`;
}

function shorten(text: string): string {
  return text.length > 1200 ? `${text.slice(0, 1200)}…` : text;
}
