/**
 * Journal: the CNI attachments of this node on disk, so that a daemon without memory knows its pods again.
 *
 * A record is written before the kernel is touched and removed after its addresses are released, so that whatever a crash
 * leaves is found: an attachment in `releasing` is finished by the next process. Memory follows the disk: an operation that fails has
 * changed neither. Only a new attachment needs space; that one is being released is said by its file's name, so that DEL works on a
 * full disk. The records die with the machine, as the kernel's state of which they speak does: they are not synchronised to a disk.
 */
import type { Report } from "../lib/report.ts";
import type { Files } from "../host/files.ts";
import { Turns } from "../lib/turns.ts";
import type { CniRecord } from "../model/endpoint.ts";
import type { Addr } from "../net/addr.ts";

export interface Attachment {
  readonly record: CniRecord;
  /** IPAM handle of the addresses, `NETWORK.CONTAINERID`. */
  readonly handle: string;
  /** When ADD took the addresses, RFC 3339: part of what the datastore records, and the same after every start. */
  readonly assignedAt: string;
  /** MTU of the pod's link in bytes. */
  readonly mtuBytes: number;
  readonly state: "attached" | "releasing";
  /** False for `calico-ipam` alone, and for an interface that was taken away: addresses without an interface of ours. */
  readonly wired: boolean;
  /** Why the interface was taken away before DEL. */
  readonly closed?: string;
}

/** Whether it has an interface of ours. */
export function isWired({ wired, state }: Attachment): boolean {
  return wired && state === "attached";
}

/** Suffixes of the file names: the state of an attachment. */
const ATTACHED = ".json";
const RELEASING = ".releasing";
const TEMPORARY = ".tmp";
/** More than a record has. */
const PROBE_BYTES = 4096;

export class Journal {
  readonly #files: Files;
  readonly #directory: string;
  readonly #attachments = new Map<string, Attachment>();
  readonly #turns = new Turns();

  private constructor(files: Files, directory: string) {
    this.#files = files;
    this.#directory = directory;
  }

  /** Reads what an earlier process left. A file that is not one of ours is reported and kept. */
  static async open(files: Files, directory: string, report: Report): Promise<Journal> {
    await files.makeDirectory(directory);
    const journal = new Journal(files, directory);
    // A write that a crash interrupted: the whole file beside it is the truth.
    for (const name of await files.list(directory))
      if (name.endsWith(TEMPORARY)) await files.remove(`${directory}/${name}`);
    for (const attachment of await readAttachments(files, directory, report))
      journal.#attachments.set(idOf(attachment), attachment);
    return journal;
  }

  get(containerId: string, podInterface: string): Attachment | undefined {
    return this.#attachments.get(attachmentId(containerId, podInterface));
  }

  all(): readonly Attachment[] {
    return [...this.#attachments.values()];
  }

  /** Every address that an attachment holds, with its handle: one that is being released may have lost its own to another. */
  holders(): ReadonlyMap<Addr, string> {
    const all = this.all();
    return new Map(
      (["releasing", "attached"] as const)
        .flatMap((state) => all.filter((attachment) => attachment.state === state))
        .flatMap(({ record, handle }) => record.addresses.map((addr) => [addr, handle] as const)),
    );
  }

  /** Records a new attachment. Rejects with FileError when the disk does not take it; then nothing is recorded. */
  put(attachment: Attachment): Promise<void> {
    return this.#turns.run(idOf(attachment), () => this.#write(attachment));
  }

  /** Records that an attached interface was taken away. Does nothing when it is being released already, or gone. */
  close(attachment: Attachment, why: string): Promise<void> {
    return this.#turns.run(idOf(attachment), async () => {
      const current = this.#attachments.get(idOf(attachment));
      if (current?.state === "attached") await this.#write({ ...current, wired: false, closed: why });
    });
  }

  /** Records that the attachment is being released, without a byte of space. The attachment as it is then. */
  release(attachment: Attachment): Promise<Attachment> {
    const id = idOf(attachment);
    return this.#turns.run(id, async () => {
      const current = this.#attachments.get(id) ?? attachment;
      if (current.state === "attached") await this.#files.rename(this.#path(id, ATTACHED), this.#path(id, RELEASING));
      const released = releasing(current);
      this.#attachments.set(id, released);
      return released;
    });
  }

  /** Forgets an attachment that was released. */
  remove(attachment: Attachment): Promise<void> {
    const id = idOf(attachment);
    return this.#turns.run(id, async () => {
      for (const suffix of [RELEASING, ATTACHED]) await this.#files.remove(this.#path(id, suffix));
      this.#attachments.delete(id);
    });
  }

  /** Rejects with FileError while there is no place for one more record. */
  async probe(): Promise<void> {
    const path = `${this.#directory}/probe${TEMPORARY}`;
    await this.#files.writeVolatile(path, " ".repeat(PROBE_BYTES), 0o600);
    await this.#files.remove(path);
  }

  async #write(attachment: Attachment): Promise<void> {
    const id = idOf(attachment);
    await this.#files.writeVolatile(this.#path(id, ATTACHED), JSON.stringify(attachment), 0o600);
    this.#attachments.set(id, attachment);
  }

  #path(id: string, suffix: string): string {
    return `${this.#directory}/${id}${suffix}`;
  }
}

/** The attachments that are recorded; writes nothing. Rejects with FileError. */
export async function readAttachments(files: Files, directory: string, report: Report): Promise<readonly Attachment[]> {
  const found: Attachment[] = [];
  for (const name of await files.list(directory)) {
    if (!name.endsWith(ATTACHED) && !name.endsWith(RELEASING)) continue;
    const path = `${directory}/${name}`;
    const text = await files.readText(path);
    const attachment = text === undefined ? undefined : parseAttachment(text);
    if (attachment === undefined) report("journal file is not a CNI attachment: ignored", { path });
    else found.push(name.endsWith(RELEASING) ? releasing(attachment) : attachment);
  }
  return found;
}

function releasing(attachment: Attachment): Attachment {
  return { ...attachment, state: "releasing", wired: false };
}

function idOf({ record }: Attachment): string {
  return attachmentId(record.containerId, record.podInterface);
}

/** Container ids and interface names are letters, digits and `-_.`; anything else is escaped, so that no path leaves the directory. */
function attachmentId(containerId: string, podInterface: string): string {
  return `${encodeURIComponent(containerId)}@${encodeURIComponent(podInterface)}`;
}

function parseAttachment(text: string): Attachment | undefined {
  try {
    const value = JSON.parse(text) as Attachment;
    const record = value.record;
    const complete =
      typeof record.containerId === "string" &&
      typeof record.interface === "string" &&
      Array.isArray(record.addresses) &&
      typeof value.handle === "string";
    return complete ? value : undefined;
  } catch {
    return undefined;
  }
}
